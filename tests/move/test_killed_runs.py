"""A move that is killed at any moment ends, when it is run again, as if it had not been."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import prepared_database
from tests.move.application import contents, fill, open_engine
from tests.move.moving import MoveFolder
from tests.supabase_projects import wait_for_schema

from amphibase.testing.supabase import LocalSupabase

KILLS = 50
ROWS = 300
KILLED = -9


@pytest.fixture(params=["sqlite-postgres", "postgres-postgres", "postgres-sqlite"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MoveFolder]:
    source, target = request.param.split("-")
    with ExitStack() as opened:
        urls = []
        for name, kind in (("source", source), ("target", target)):
            (tmp_path / name).mkdir()
            place = prepared_database(kind, request, tmp_path / name)
            urls.append(opened.enter_context(place))
        moved = MoveFolder(tmp_path, urls[0], urls[1])
        fill(moved.source, moved.source_files, users=30, rows=ROWS)
        yield moved


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_moments_change_nothing_of_the_result(folder: MoveFolder) -> None:
    folder.plan()
    empty = contents(folder.target)
    began = time.monotonic()
    folder.run()
    longest = time.monotonic() - began
    folder.undo()
    random_ = random.Random(folder.source)
    kills = 0
    while kills < KILLS:
        options = random_.choice([(), ("--freeze",)])
        code = folder.run_and_kill(random_.uniform(0, longest), *options)
        assert code in (0, KILLED), (folder.path / "killed.err").read_text()
        if code == KILLED:
            kills += 1
        else:
            folder.check_equal()
            folder.undo()
            assert contents(folder.target) == empty
    folder.run()
    folder.check_equal()
    folder.check_clean()


NOTES = "CREATE TABLE killed_notes (id integer PRIMARY KEY, title text)"
UNVERIFIED = 3


@pytest.fixture
def over_api(
    supabase: LocalSupabase, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[MoveFolder]:
    """A move of accounts, files and rows from SQLite to a project, by its API alone."""
    with (
        prepared_database("sqlite", request, tmp_path) as source,
        psycopg.connect(supabase.db_url, autocommit=True) as target,
    ):
        fill(source, tmp_path / "source-files", users=30, rows=1)
        engine = open_engine(source)
        with engine.begin() as connection:
            connection.exec_driver_sql(NOTES)
            rows = [(id, f"title {id}") for id in range(20_000)]
            connection.exec_driver_sql("INSERT INTO killed_notes VALUES (?, ?)", rows)
        engine.dispose()
        target.execute(NOTES)
        target.execute("GRANT ALL ON killed_notes TO service_role")
        wait_for_schema(supabase)
        key = {"TARGET_SUPABASE_SERVICE_KEY": supabase.service_role_key}
        folder = MoveFolder(tmp_path, source, supabase.db_url, key)
        planned = folder.command("plan", "sql", f"supabase:{supabase.url}")
        assert planned.returncode == 0, planned.stderr
        yield folder
        target.execute("DROP TABLE killed_notes")


def moved(url: str) -> dict[str, list[Any]]:
    """Return what moves over the API alone: rows, and of accounts what Auth does not set itself."""
    engine = open_engine(url)
    schema = "auth." if engine.dialect.name == "postgresql" else "auth_"
    queries = {
        "rows": "SELECT id, title FROM killed_notes ORDER BY id",
        "users": f"SELECT email, encrypted_password FROM {schema}users ORDER BY email",
    }
    with engine.connect() as connection:
        held = {
            name: [tuple(row) for row in connection.exec_driver_sql(query)]
            for name, query in queries.items()
        }
    engine.dispose()
    return held


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills_of_a_move_over_the_api_change_nothing_of_the_result(
    over_api: MoveFolder,
) -> None:
    began = time.monotonic()
    over_api.run(code=UNVERIFIED)  # no API shows hashes
    longest = time.monotonic() - began
    over_api.undo()
    empty: dict[str, list[Any]] = {"rows": [], "users": []}
    random_ = random.Random(1)
    kills = 0
    while kills < KILLS:
        code = over_api.run_and_kill(random_.uniform(0, longest))
        assert code in (UNVERIFIED, KILLED), (over_api.path / "killed.err").read_text()
        if code == KILLED:
            kills += 1
        else:
            assert moved(over_api.target) == moved(over_api.source)
            over_api.undo()
            assert moved(over_api.target) == empty
    over_api.run(code=UNVERIFIED)
    assert moved(over_api.target) == moved(over_api.source)
