"""A run that fails says why, and the next one goes on from there."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.servers import Databases
from tests.supabase.fault_proxy import SERVER_BUSY, fault_proxy, too_many_requests
from tests.supabase_projects import wait_for_schema

from amphibase.errors import AmphibaseError, MoveFailed, Retryable, Unavailable
from amphibase.move.planning import plan_move
from amphibase.move.report import RunOutcome
from amphibase.move.run import ChecksFailed, Move
from amphibase.move.tables.sqlite import SqliteTables
from amphibase.supabase import retry
from amphibase.testing.supabase import LocalSupabase

ROWS = 3_000
FAULTS: list[str | bytes | float] = [
    0.05, SERVER_BUSY, "lose", too_many_requests(1), "cut", "drop", "lose", 0.05, "lose",
]  # fmt: skip
TABLE = "CREATE TABLE moved_notes (id integer PRIMARY KEY, title text)"


@dataclass
class Source:
    """A SQLite database with a table, and a plan from there."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "source.db"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.toml"

    def rows(self, path: Path | None = None) -> list[tuple[int, str]]:
        with closing(sqlite3.connect(path or self.path)) as database:
            return database.execute("SELECT id, title FROM moved_notes ORDER BY id").fetchall()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    opened = Source(tmp_path)
    with closing(sqlite3.connect(opened.path)) as database:
        database.execute(TABLE)
        rows = [(id, "x" * 100) for id in range(ROWS)]
        database.executemany("INSERT INTO moved_notes VALUES (?, ?)", rows)
        database.commit()
    return opened


async def test_a_full_disk_ends_the_run_and_with_room_the_next_one_goes_on(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.folder / "target.db"
    with closing(sqlite3.connect(target)) as database:
        database.execute(TABLE)
    await plan_move(f"sql:sqlite:///{source.path}", f"sql:sqlite:///{target}", source.plan)
    connect = SqliteTables._connect

    def connect_with_little_room(self: SqliteTables) -> sqlite3.Connection:
        connection = connect(self)
        # SQLite responds to this limit as to a disk that is full.
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(SqliteTables, "_connect", connect_with_little_room)
        async with Move(source.plan) as move:
            with pytest.raises(Unavailable, match="disk of the database is full"):
                await move.run()
    async with Move(source.plan) as move:
        report = await move.run()
    assert report.outcome is RunOutcome.VERIFIED
    assert source.rows(target) == source.rows()


FULL = """
    CREATE FUNCTION fill_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.id = 2500 THEN RAISE SQLSTATE '53100' USING MESSAGE = 'no space left'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fill BEFORE INSERT ON moved_notes FOR EACH ROW EXECUTE FUNCTION fill_disk()
"""
"""Postgres raises this state by itself where it cannot extend a file (`disk_full`)."""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_full_disk_of_a_postgres_ends_the_run_and_the_next_one_goes_on(
    source: Source, databases: Databases, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with databases.new() as target, databases.new() as other:
        urls = {"SOURCE": other if kind == "postgres" else f"sqlite:///{source.path}"}
        for role, url in {**urls, "TARGET": target}.items():
            monkeypatch.setenv(f"{role}_DATABASE_URL", url)
        with (
            psycopg.connect(target, autocommit=True) as there,
            psycopg.connect(other, autocommit=True) as here,
        ):
            for connection in (there, here):
                connection.execute(TABLE)
            there.execute(FULL.encode())
            with here.cursor().copy("COPY moved_notes FROM STDIN") as copy:
                for row in source.rows():
                    copy.write_row(row)
            await plan_move("sql", "sql", source.plan)
            plan = source.plan.read_text().replace('fill = "off"', 'fill = "fire"')
            source.plan.write_text(plan)
            async with Move(source.plan) as move:
                with pytest.raises((MoveFailed, Retryable), match="disk"):
                    await move.run()
            there.execute("DROP TRIGGER fill ON moved_notes")
            async with Move(source.plan) as move:
                assert (await move.run()).outcome is RunOutcome.VERIFIED
            rows = there.execute("SELECT id, title FROM moved_notes ORDER BY id").fetchall()
    assert rows == source.rows()


@pytest.fixture
def project(supabase: LocalSupabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSupabase]:
    """The project with the table, which is reached by its API alone."""
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setenv("TARGET_SUPABASE_SERVICE_KEY", supabase.service_role_key)
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("GRANT ALL ON moved_notes TO service_role")
        wait_for_schema(supabase)
        yield supabase
        connection.execute("DROP TABLE moved_notes")


def rows_of(project: LocalSupabase) -> list[tuple[int, str]]:
    with psycopg.connect(project.db_url) as connection:
        query = "SELECT id, title FROM moved_notes ORDER BY id"
        return connection.execute(query).fetchall()


async def plan_to(url: str, source: Source) -> None:
    plan = await plan_move(f"sql:sqlite:///{source.path}", f"supabase:{url}", source.plan)
    assert plan.tables


async def test_a_project_that_fails_as_networks_do_gets_every_row_once(
    source: Source, project: LocalSupabase
) -> None:
    async with fault_proxy(project.url) as proxy:
        await plan_to(proxy.url, source)
        proxy.faults = [*FAULTS]
        for _ in range(3):  # a fault too many ends a run, and the next one goes on
            try:
                async with Move(source.plan) as move:
                    report = await move.run()
                break
            except AmphibaseError:
                continue
        assert proxy.faults == []
    assert report.differences == []
    assert rows_of(project) == source.rows()
    written = b"".join(path.read_bytes() for path in source.folder.glob("plan*"))
    assert project.service_role_key.encode() not in written


async def test_a_key_that_is_not_valid_any_more_fails_the_check_and_a_new_one_goes_on(
    source: Source, project: LocalSupabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plan_to(project.url, source)
    with monkeypatch.context() as patch:
        patch.setenv("TARGET_SUPABASE_SERVICE_KEY", project.service_role_key[:-3] + "AAA")
        async with Move(source.plan) as move:
            with pytest.raises(ChecksFailed) as raised:
                await move.run()
    assert any(check.subject == "target" for check in raised.value.checks)
    assert project.service_role_key[:30] not in raised.value.detail
    assert rows_of(project) == []
    async with Move(source.plan) as move:
        await move.run()
    assert rows_of(project) == source.rows()
