"""A source that is frozen rejects writes of everybody, and takes them again afterwards."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.supabase_projects import wait_for_schema

from amphibase import Settings
from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.database.url import parse_url
from amphibase.errors import MoveFailed, ReadOnly
from amphibase.move import freeze, freezers
from amphibase.move.catalog import TableName
from amphibase.move.endpoints import Role, SqlEndpoint, SupabaseEndpoint
from amphibase.move.freeze import frozen, thaw
from amphibase.move.freezers import build_freezer
from amphibase.move.journal import Journal
from amphibase.move.planning import plan_move
from amphibase.move.run import ChecksFailed, Move
from amphibase.testing.client import PASSWORD, Client
from amphibase.testing.supabase import LocalSupabase


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "plan.toml") as opened:
        yield opened


@pytest.fixture
async def database(database_url: str) -> Database:
    opened = Database(parse_url(database_url))
    async with opened.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT)"))
        await connection.execute(text("INSERT INTO notes VALUES (1, 'one')"))
    return opened


def endpoint_of(database: Database) -> SqlEndpoint:
    return SqlEndpoint(Role.SOURCE, database.url, "file:///unused")


def notes_of(database: Database) -> list[TableName]:
    return [TableName(None if database.dialect == "sqlite" else "public", "notes")]


async def write(connection: AsyncConnection, statement: str) -> None:
    with translated_errors():
        await connection.execute(text(statement))
        await connection.commit()


WRITES = (
    "INSERT INTO notes VALUES (2, 'two')",
    "UPDATE notes SET title = 'changed'",
    "DELETE FROM notes",
)


@pytest.mark.parametrize("statement", WRITES)
async def test_a_connection_that_was_open_before_cannot_write_until_the_block_ends(
    statement: str, database: Database, journal: Journal
) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await connection.commit()
        async with frozen(endpoint_of(database), notes_of(database), journal) as state:
            with pytest.raises(ReadOnly) as raised:
                await write(connection, statement)
            await connection.rollback()
            rows = (await connection.execute(text("SELECT id, title FROM notes"))).all()
            await connection.rollback()
            assert [tuple(row) for row in rows] == [(1, "one")]
        await write(connection, statement)
    assert raised.value.status == 503
    assert raised.value.retry_after == 10
    assert state.seconds > 0
    await database.close()


async def test_nothing_of_a_freeze_remains(database: Database, journal: Journal) -> None:
    async with frozen(endpoint_of(database), notes_of(database), journal):
        pass
    catalog = (
        "SELECT count(*) FROM sqlite_master WHERE name LIKE 'amphibase%'"
        if database.dialect == "sqlite"
        else "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)"
        " + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'amphibase%')"
    )
    async with database.engine.connect() as connection:
        assert await connection.scalar(text(catalog)) == 0
    assert journal.get("freeze", "tables") is None
    await database.close()


async def test_what_a_killed_run_has_frozen_is_given_back(
    database: Database, journal: Journal
) -> None:
    endpoint, tables = endpoint_of(database), notes_of(database)
    journal.put("freeze", "tables", [list(table) for table in tables])
    await build_freezer(endpoint).freeze(tables)  # and here it was killed
    await thaw(endpoint, journal)
    async with database.engine.connect() as connection:
        await write(connection, WRITES[0])
    await database.close()


async def test_a_run_that_is_cancelled_lets_the_source_write_again(
    database: Database, journal: Journal
) -> None:
    is_frozen = asyncio.Event()

    async def freeze_for_ever() -> None:
        async with frozen(endpoint_of(database), notes_of(database), journal):
            is_frozen.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(freeze_for_ever())
    await is_frozen.wait()
    running.cancel()
    await asyncio.wait({running})
    async with database.engine.connect() as connection:
        await write(connection, WRITES[0])
    await database.close()


async def test_writes_pass_by_themselves_when_the_lease_is_not_renewed(
    database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezers, "LEASE_SECONDS", 0)
    await build_freezer(endpoint_of(database)).freeze(notes_of(database))
    async with database.engine.connect() as connection:
        await write(connection, WRITES[0])
    await database.close()


async def test_a_lease_that_ended_within_the_block_fails_the_move(
    database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezers, "LEASE_SECONDS", 0)
    monkeypatch.setattr(freeze, "RENEW_SECONDS", 0)
    with pytest.raises(MoveFailed, match="run again"):
        async with frozen(endpoint_of(database), notes_of(database), journal):
            await asyncio.sleep(0.1)
    await database.close()


async def test_a_freeze_waits_for_the_transaction_that_has_written(
    database: Database, journal: Journal
) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(text(WRITES[0]))
        freezing = asyncio.create_task(
            build_freezer(endpoint_of(database)).freeze(notes_of(database))
        )
        await asyncio.wait({freezing}, timeout=0.3)
        assert not freezing.done()
        await connection.commit()
        await freezing
        assert await connection.scalar(text("SELECT count(*) FROM notes")) == 2
    await database.close()


async def test_a_snapshot_from_before_the_freeze_cannot_write_past_it(
    postgres_url: str, journal: Journal
) -> None:
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(postgres_url), "file:///unused")
    table = TableName("public", "notes")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY)")
        connection.commit()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT 1")
        async with frozen(endpoint, [table], journal):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("INSERT INTO notes VALUES (1)")
            connection.rollback()


async def test_a_session_that_writes_times_otherwise_is_rejected_alike(
    postgres_url: str, journal: Journal
) -> None:
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(postgres_url), "file:///unused")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY)")
        name = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET datestyle = 'SQL, DMY'").format(name))
        async with frozen(endpoint, [TableName("public", "notes")], journal):
            for style in ("ISO, MDY", "SQL, DMY", "Postgres, MDY", "German"):
                connection.execute(SQL("SET datestyle = {}").format(style))
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    connection.execute("INSERT INTO notes VALUES (1)")


async def test_what_is_set_to_lock_a_table_does_not_outlive_the_transaction(
    postgres_url: str,
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await freezers._execute(connection, None, SQL("SELECT {}").format(1), "")
        cursor = await connection.execute("SHOW lock_timeout")
        assert await cursor.fetchone() == ("0",)


async def test_a_table_that_is_held_is_named_and_no_freeze_begins(
    postgres_url: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezers, "LOCK_ATTEMPTS", 1)
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(postgres_url), "file:///unused")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY)")
        connection.commit()
        connection.execute("INSERT INTO notes VALUES (1)")
        with pytest.raises(MoveFailed, match=r"has been holding public\.notes"):
            async with frozen(endpoint, [TableName("public", "notes")], journal):
                pass


async def test_a_freeze_whose_trigger_cannot_be_removed_lets_writes_pass_and_says_so(
    postgres_url: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezers, "LOCK_ATTEMPTS", 1)
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(postgres_url), "file:///unused")
    with (
        psycopg.connect(postgres_url, autocommit=True) as connection,
        psycopg.connect(postgres_url) as reader,
    ):
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY)")
        async with frozen(endpoint, [TableName("public", "notes")], journal) as state:
            reader.execute("SELECT FROM notes")
        assert "takes writes again" in (state.remaining or "")
        assert "public.notes" in (state.remaining or "")
        connection.execute("INSERT INTO notes VALUES (1)")
        reader.rollback()
        await thaw(endpoint, journal)
        left = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'notes'::regclass"
        assert connection.execute(left).fetchall() == []


async def test_a_freeze_that_another_move_has_ended_fails_the_move(
    database: Database, journal: Journal, tmp_path: Path
) -> None:
    endpoint, tables = endpoint_of(database), notes_of(database)
    with Journal(tmp_path / "other.toml") as other, pytest.raises(MoveFailed, match="another move"):
        async with frozen(endpoint, tables, journal), frozen(endpoint, tables, other):
            pass
    async with database.engine.connect() as connection:
        await write(connection, WRITES[0])
    await database.close()


async def test_a_freeze_that_is_renewed_at_the_same_time_is_renewed(
    postgres_url: str, journal: Journal
) -> None:
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(postgres_url), "file:///unused")
    async with frozen(endpoint, [], journal):
        freezer = build_freezer(endpoint)
        assert await asyncio.gather(*(freezer.renew() for _ in range(20))) == [True] * 20


async def test_a_renewal_that_hangs_until_the_lease_has_ended_fails_the_move(
    database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoint_of(database)
    hangs = asyncio.Event()

    async def hang(self: object) -> None:
        if not hangs.is_set():
            hangs.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(type(build_freezer(endpoint)), "renew", hang)
    monkeypatch.setattr(freezers, "LEASE_SECONDS", 0)
    with pytest.raises(MoveFailed, match="run again"):
        async with frozen(endpoint, notes_of(database), journal):
            await hangs.wait()
    await database.close()


async def test_a_role_that_may_not_freeze_learns_what_to_grant_before_anything_moves(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY); INSERT INTO notes VALUES (1)")
        connection.execute("DROP ROLE IF EXISTS reads; CREATE ROLE reads LOGIN PASSWORD 'pw'")
        connection.execute("GRANT SELECT ON notes TO reads")
    url = make_url(postgres_url).set(username="reads", password="pw")
    monkeypatch.setenv("SOURCE_DATABASE_URL", url.render_as_string(hide_password=False))
    target = tmp_path / "target.db"
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
    plan = tmp_path / "plan.toml"
    await plan_move("sql", f"sql:sqlite:///{target}", plan)
    async with Move(plan) as move:
        with pytest.raises(ChecksFailed) as raised:
            await move.run(freeze=True)
    grant = f"GRANT CREATE ON DATABASE {url.database} TO reads"
    assert [check.message.endswith(grant) for check in raised.value.checks] == [True]
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT id FROM notes").fetchall() == []


async def test_a_partition_cannot_be_written_to_either(postgres_url: str, journal: Journal) -> None:
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(postgres_url), "file:///unused")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE logs (id int) PARTITION BY RANGE (id)")
        connection.execute("CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (9)")
        async with frozen(endpoint, [TableName("public", "logs")], journal):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("INSERT INTO logs_1 VALUES (1)")


async def test_an_application_responds_with_503_and_retry_after_to_writes_and_goes_on_reading(
    app: FastAPI, settings: Settings, client: Client, journal: Journal
) -> None:
    ann = await client.as_user("ann@example.com")
    database = settings.database
    schema = None if database.get_backend_name() == "sqlite" else "auth"
    users = TableName(schema, "users" if schema else "auth_users")
    endpoint = SqlEndpoint(Role.SOURCE, database, "file:///unused")
    body = {"email": "bob@example.com", "password": PASSWORD}
    async with frozen(endpoint, [users], journal):
        rejected = await client.post("/auth/sign-up", json=body)
        read = await ann.get("/users/me")
    taken = await client.post("/auth/sign-up", json=body)
    assert (rejected.status_code, rejected.json()["code"]) == (503, "read_only")
    assert rejected.headers["retry-after"] == "10"
    assert (read.status_code, taken.status_code) == (200, 201)


def project_of(supabase: LocalSupabase) -> SupabaseEndpoint:
    key = SecretStr(supabase.service_role_key)
    return SupabaseEndpoint(Role.SOURCE, supabase.url, key, None, parse_url(supabase.db_url))


async def test_clients_of_a_frozen_project_get_503_with_retry_after(
    supabase: LocalSupabase, journal: Journal
) -> None:
    headers = {"apikey": supabase.secret_key}
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE frozen_notes (id int PRIMARY KEY)")
        connection.execute("GRANT ALL ON frozen_notes TO service_role")
        await asyncio.to_thread(wait_for_schema, supabase)
        try:
            async with (
                httpx.AsyncClient(base_url=f"{supabase.url}/rest/v1", headers=headers) as client,
                frozen(project_of(supabase), [TableName("public", "frozen_notes")], journal),
            ):
                rejected = await client.post("/frozen_notes", json={"id": 1})
                read = await client.get("/frozen_notes")
        finally:
            connection.execute("DROP TABLE frozen_notes")
    assert (rejected.status_code, rejected.headers["retry-after"]) == (503, "10")
    assert (read.status_code, read.json()) == (200, [])


async def test_a_project_without_its_database_says_that_it_cannot_be_frozen(
    journal: Journal,
) -> None:
    endpoint = SupabaseEndpoint(Role.SOURCE, "https://example.supabase.co", SecretStr("key"))
    with pytest.raises(MoveFailed, match="--db-url"):
        async with frozen(endpoint, [], journal):
            pass


def test_an_insert_that_ignores_conflicts_is_rejected_too(tmp_path: Path) -> None:
    """INSERT OR IGNORE does not hide what a trigger raises."""
    database = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
    endpoint = SqlEndpoint(Role.SOURCE, parse_url(f"sqlite:///{tmp_path}/app.db"), "")
    asyncio.run(build_freezer(endpoint).freeze([TableName(None, "notes")]))
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT OR IGNORE INTO notes VALUES (1)")
    database.close()
