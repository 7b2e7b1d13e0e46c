"""A database's pools: how many connections they open, who waits for whom, what a session sets."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text
from tests.conftest import CLIENT_SECONDS, SECRET
from tests.database.pools import call

from amphibase import load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.database import engine
from amphibase.database.engine import Database, PoolOptions
from amphibase.errors import Contention, Unavailable
from amphibase.models import Base
from amphibase.schema.commands import ensure
from amphibase.sql.backend import SqlBackend


async def hold_all(database: Database, times: int) -> int:
    """Use the database from many tasks at once; return how many connections it had at most."""
    counts = []

    async def read() -> None:
        async with database.read() as connection:
            sql = "select count(*) from pg_stat_activity where datname = current_database()"
            counts.append(await connection.scalar(text(sql)))
            await connection.execute(text("select pg_sleep(0.05)"))

    async def pipelined() -> None:
        if database.pipeline is not None:
            await database.pipeline.run(call("select pg_sleep(0.05)"))

    await asyncio.gather(*[use() for _ in range(times) for use in (read, pipelined)])
    await read()  # the pools keep what they have opened
    return int(max(counts))


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_all_pools_together_open_as_many_connections_as_pool_size_says(
    postgres_url: str, size: int
) -> None:
    settings = load_settings(database_url=postgres_url, pool_size=size, secret_key=SECRET)
    backend = SqlBackend(settings, load_keys(settings))
    try:
        assert await hold_all(backend.database, 3 * size) == size
    finally:
        await backend.close()


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_on_sqlite_too(sqlite_url: str, size: int) -> None:
    database = Database(sqlite_url, PoolOptions(size=size, pipelined=size // 2))
    opened: list[object] = []
    for each in {database.engine.sync_engine, database.readers.sync_engine}:
        event.listen(each, "connect", lambda connection, _: opened.append(connection))

    async def use(writes: bool) -> None:
        async with database.write() if writes else database.read() as connection:
            await connection.execute(text("select 1"))
            await asyncio.sleep(0.01)

    await asyncio.gather(*[use(n % 2 == 0) for n in range(6 * size)])
    assert len(opened) == size
    await database.close()


async def test_on_sqlite_readers_never_wait_for_writers_who_go_in_turn(sqlite_url: str) -> None:
    database = Database(sqlite_url, PoolOptions(size=3))
    async with database.write() as connection:
        await connection.execute(text("create table t (n integer)"))
    begun = asyncio.Event()
    let_go = asyncio.Event()

    async def hold() -> None:
        async with database.session() as session:
            await session.execute(text("insert into t values (0)"))
            begun.set()
            await let_go.wait()

    async def write(n: int) -> None:
        async with database.write() as connection:
            await connection.execute(text(f"insert into t values ({n})"))

    holder = asyncio.create_task(hold())
    await begun.wait()
    writers = [asyncio.create_task(write(n)) for n in range(1, 31)]
    await asyncio.sleep(0)
    async with asyncio.timeout(CLIENT_SECONDS / 2):  # the writers wait for twice that
        for _ in range(10):
            async with database.read() as connection:
                assert await connection.scalar(text("select count(*) from t")) == 0
            async with database.session(writes=False) as session:
                assert await session.scalar(text("select count(*) from t")) == 0
    assert not any(writer.done() for writer in writers)
    let_go.set()
    await asyncio.gather(holder, *writers)
    async with database.read() as connection:
        rows = await connection.scalars(text("select n from t order by rowid"))
        assert rows.all() == list(range(31))
    await database.close()


async def test_a_writer_whose_turn_does_not_come_meets_contention(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that another process keeps from writing, so that `in_transaction` tries again."""
    monkeypatch.setattr(engine, "POOL_TIMEOUT_SECONDS", 0.05)
    database = Database(sqlite_url, PoolOptions(size=3))
    async with database.write():
        with pytest.raises(Contention):
            async with database.write():
                pass
        with pytest.raises(Contention):
            async with database.session() as session:
                await session.execute(text("select 1"))
    await database.close()


async def test_a_reader_for_whom_no_connection_is_free_meets_no_contention(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What writers hold is another connection: to write again would not help."""
    monkeypatch.setattr(engine, "POOL_TIMEOUT_SECONDS", 0.05)
    database = Database(sqlite_url, PoolOptions(size=2))
    async with database.read():
        for writes in (database.write(), database.session()):
            with pytest.raises(Unavailable) as caught:
                async with writes, database.read():
                    pass
            assert not isinstance(caught.value, Contention)
    await database.close()


async def test_a_connection_in_use_when_its_database_is_closed_is_closed_when_it_comes_back(
    database_url: str,
) -> None:
    database = Database(database_url)
    closed: list[object] = []
    event.listen(database.readers.sync_engine, "close", lambda each, _: closed.append(each))
    async with database.read():
        await database.close()
        assert closed == []
    assert len(closed) == 1
    async with database.read():  # by work that has not ended yet
        pass
    assert len(closed) == 2


def alter(url: str, setting: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'alter database "{name}" set {setting}'.encode())


SETTINGS = [
    "timezone = 'Europe/Berlin'",
    "datestyle = 'German, DMY'",
    "intervalstyle = 'sql_standard'",
    "extra_float_digits = -5",
    "bytea_output = 'escape'",
]
VALUES: dict[str, tuple[Any, str]] = {
    "timestamptz": (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "9999-12-31 23:59:59+00"),
    "interval": (timedelta(days=-3, seconds=7, microseconds=1), "-3 days +00:00:07.000001"),
    "float8": (0.1 + 0.2, "0.30000000000000004"),
    "bytea": (bytes(range(256)), r"\x" + bytes(range(256)).hex()),
}
"""By type: a value, and the text that the server writes for it."""


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("by_transaction", [False, True], ids=["session", "transaction"])
async def test_what_a_database_sets_for_its_sessions_changes_no_value(
    postgres_url: str, setting: str, by_transaction: bool
) -> None:
    alter(postgres_url, setting)
    options = PoolOptions(size=4, pipelined=2, by_transaction=by_transaction)
    database = Database(postgres_url, options)
    assert database.pipeline is not None
    for kind, (value, written) in VALUES.items():
        async with database.read() as connection:
            statement = text(f"select cast(cast(:value as {kind}) as text), cast(:value as {kind})")
            row = (await connection.execute(statement, {"value": value})).one()
        (in_pipeline,) = await database.pipeline.run(
            call(f"select cast($1::{kind} as text), $1::{kind}", value)
        )
        assert tuple(row) == tuple(in_pipeline[0]) == (written, value)
    await database.close()


@pytest.mark.parametrize("setting", SETTINGS)
async def test_people_sign_up_whatever_a_database_sets(postgres_url: str, setting: str) -> None:
    alter(postgres_url, setting)
    settings = load_settings(database_url=postgres_url, secret_key=SECRET)
    backend = SqlBackend(settings, load_keys(settings))
    try:
        await ensure(backend.database, settings, Base.metadata)
        signed_up = await backend.accounts.sign_up("ann@example.com", "correct horse battery")
        assert signed_up.tokens is not None
        caller = await backend.accounts.authenticate(signed_up.tokens.access_token)
        assert caller.user_id is not None
    finally:
        await backend.close()


async def test_options_of_the_url_hold_beside_them(postgres_url: str) -> None:
    database = Database(f"{postgres_url}?options=-c%20search_path%3Dpg_catalog")
    async with database.read() as connection:
        assert await connection.scalar(text("show search_path")) == "pg_catalog"
        assert await connection.scalar(text("show timezone")) == "UTC"
    await database.close()


@pytest.mark.parametrize(
    ("port", "named", "expected"),
    [(5432, None, False), (6543, None, True), (6543, False, False), (5432, True, True)],
)
def test_a_pooler_in_transaction_mode_is_known_by_its_port_or_named(
    port: int, named: bool | None, expected: bool
) -> None:
    database = Database(f"postgres://db:{port}/app", PoolOptions(by_transaction=named))
    assert database.options.by_transaction is expected


@pytest.mark.parametrize(("mode", "expected"), [("session", False), ("transaction", True)])
def test_pool_mode_names_it(mode: str, expected: bool) -> None:
    settings = load_settings(database_url="postgres://db:6543/app", pool_mode=mode)
    assert settings.pool_options.by_transaction is expected
