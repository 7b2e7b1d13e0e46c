"""A source that is written to during the move: nothing of it is lost."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from amphibase.move.planning import plan_move
from amphibase.move.report import RunOutcome, RunReport
from amphibase.move.run import Move

TABLE = "CREATE TABLE seats (id integer PRIMARY KEY, label text)"


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection on which each statement commits."""
    path = url.removeprefix("sqlite:///")
    with closing(
        psycopg.connect(url, autocommit=True)
        if path == url
        else sqlite3.connect(path, timeout=30, isolation_level=None)
    ) as connection:
        yield connection


class Writer:
    """Adds, changes and deletes rows of a database, from a thread and on one connection.

    Args:
        pause: how long it waits after a few rows, in seconds.
    """

    def __init__(self, url: str, pause: float = 0.002) -> None:
        self._url = url
        self._pause = pause
        self._ended = threading.Event()
        self.taken = 0
        self.rejected = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _write(self) -> None:
        with connected(self._url) as connection:
            number = 100_000
            while not self._ended.wait(self._pause):
                number += 1
                for statement in (
                    f"INSERT INTO seats VALUES ({number}, 'new')",
                    f"UPDATE seats SET label = 'changed {number}' WHERE id = {number % 20}",
                    f"DELETE FROM seats WHERE id = {number - 10}",
                ):
                    try:
                        connection.execute(statement)
                    except (sqlite3.IntegrityError, psycopg.errors.ReadOnlySqlTransaction):
                        self.rejected += 1
                    else:
                        self.taken += 1


@dataclass
class Sides:
    """Two databases with the same table, and the plan between them."""

    source: str
    target: str
    plan: Path


@pytest.fixture(params=["sqlite-postgres", "postgres-sqlite"])
def sides(
    request: pytest.FixtureRequest,
    postgres_url: str,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Sides:
    urls = {"sqlite": sqlite_url, "postgres": postgres_url}
    source, target = (urls[kind] for kind in request.param.split("-"))
    for url in (source, target):
        with connected(url) as connection:
            connection.execute(TABLE)
            if url == sqlite_url:
                connection.execute("PRAGMA journal_mode = WAL")  # as Amphibase opens one
    with connected(source) as connection:
        for row in range(20):
            connection.execute(f"INSERT INTO seats VALUES ({row}, 'one')")
    monkeypatch.setenv("SOURCE_DATABASE_URL", source)
    monkeypatch.setenv("TARGET_DATABASE_URL", target)
    return Sides(source, target, tmp_path / "plan.toml")


def seats(url: str) -> list[Any]:
    with connected(url) as connection:
        return list(connection.execute("SELECT id, label FROM seats ORDER BY id"))


async def test_what_is_written_until_the_freeze_arrives_and_nothing_is_written_in_it(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plan_move("sql", "sql", sides.plan)
    writer, verify = Writer(sides.source), Move._verify

    async def verify_late(self: Move, report: RunReport) -> None:
        while not writer.rejected:  # noqa: ASYNC110 - nothing else says so
            await asyncio.sleep(0.01)
        await verify(self, report)

    monkeypatch.setattr(Move, "_verify", verify_late)
    with writer.running():
        async with Move(sides.plan) as move:
            report = await move.run(freeze=True)
        taken = writer.taken
        while writer.taken == taken:  # noqa: ASYNC110 - until writes pass again
            await asyncio.sleep(0.01)
    assert report.outcome is RunOutcome.VERIFIED
    assert report.pause_seconds
    async with Move(sides.plan) as move:  # what was written since arrives with the next run
        assert (await move.run()).outcome is RunOutcome.VERIFIED
    assert seats(sides.target) == seats(sides.source)


async def test_a_source_that_never_rests_is_no_proof(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plan_move("sql", "sql", sides.plan)
    writer, verify = Writer(sides.source, pause=0), Move._verify

    async def verify_late(self: Move, report: RunReport) -> None:
        taken = writer.taken
        while writer.taken < taken + 3:  # noqa: ASYNC110 - one of three adds a row
            await asyncio.sleep(0.01)
        await verify(self, report)

    monkeypatch.setattr(Move, "_verify", verify_late)
    with writer.running():
        while not writer.taken:  # noqa: ASYNC110 - until it is connected
            await asyncio.sleep(0.01)
        async with Move(sides.plan) as move:
            report = await move.run()
    assert report.outcome is RunOutcome.FAILED
    assert {each.subject.removeprefix("public.") for each in report.differences} == {"seats"}
