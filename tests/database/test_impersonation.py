"""A transaction runs as another role until it ends, or until a savepoint is undone."""

import json
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.database.pools import call

from amphibase.database.engine import Database, PoolOptions
from amphibase.database.impersonation import (
    Impersonation,
    as_connection_user,
    impersonate,
)

STATE = """
select current_user::text, current_setting('request.jwt.claims', true),
    current_setting('request.method', true), current_setting('search_path')
"""
CLAIMS = json.dumps({"sub": "ann's \\ 100 %"})


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    # One connection of each pool: what a transaction leaves behind is met by the next.
    database = Database(postgres_url, PoolOptions(size=2, pipelined=1))
    yield database
    await database.close()


def ann(role: str) -> Impersonation:
    return Impersonation(role, CLAIMS, {"request.method": "GET", "search_path": "pg_temp"})


def became(role: str) -> tuple[str, ...]:
    return (role, CLAIMS, "GET", "pg_temp")


async def state(connection: AsyncConnection) -> tuple[str, ...]:
    return tuple((await connection.execute(text(STATE))).one())


async def test_a_run_in_pipeline_mode_is_the_roles_and_the_next_is_not(
    database: Database, role: str
) -> None:
    assert database.pipeline is not None
    (before,) = await database.pipeline.run(call(STATE))
    _, inside = await database.pipeline.run(ann(role).call(), call(STATE))
    assert inside == [became(role)]
    (after,) = await database.pipeline.run(call(STATE))
    assert after[0][0] == before[0][0] != role
    assert after[0][3] == before[0][3]
    assert not any(after[0][1:3])


@pytest.mark.parametrize("fails", [False, True])
async def test_a_transaction_is_the_roles_and_the_next_is_not(
    database: Database, role: str, fails: bool
) -> None:
    async with database.read() as connection:
        before = await state(connection)
    try:
        async with database.write() as connection:
            await impersonate(connection, ann(role))
            assert await state(connection) == became(role)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    async with database.read() as connection:
        after = await state(connection)
    assert (after[0], after[3]) == (before[0], before[3])
    assert not any(after[1:3])


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_read_as_the_connections_user_leaves_the_role_and_nothing_else_behind(
    database: Database, role: str, fails: bool
) -> None:
    async with database.write() as connection:
        owner = (await state(connection))[0]
        await connection.execute(text("create table kept (n int)"))
        await impersonate(connection, ann(role))
        try:
            async with as_connection_user(connection):
                assert (await state(connection))[0] == owner
                await connection.execute(text("insert into public.kept values (1)"))
                if fails:
                    await connection.execute(text("select 1 / 0"))
        except DBAPIError:
            assert fails
        assert await state(connection) == became(role)
    async with database.read() as connection:
        assert await connection.scalar(text("select count(*) from kept")) == 0


async def test_a_transaction_for_reading_writes_nothing(database: Database) -> None:
    assert database.pipeline is not None
    await database.pipeline.run(call("create table kept (n int)"))
    who = Impersonation("none", "{}")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await database.pipeline.run(who.call(read_only=True), call("insert into kept values (1)"))


async def test_a_settings_name_is_never_sql(database: Database, role: str) -> None:
    name = "app.x', 'y', true), pg_catalog.set_config('app.z"
    with pytest.raises(DBAPIError):
        async with database.write() as connection:
            await impersonate(connection, Impersonation(role, "{}", {name: "v"}))
    with pytest.raises(DBAPIError):
        async with database.write() as connection:
            await impersonate(connection, Impersonation(role, "{}", {"app.100%s": "v"}))


async def test_functions_of_the_same_names_do_not_come_before_the_servers(
    postgres_url: str, role: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "create function public.set_config(text, text, boolean) returns text"
            " language sql as 'select $2'"
        )
        name = connection.info.dbname
        connection.execute(f'alter database "{name}" set search_path = public, pg_catalog'.encode())
    database = Database(postgres_url, PoolOptions(size=2, pipelined=1))
    assert database.pipeline is not None
    async with database.write() as session:
        await impersonate(session, ann(role))
        assert await state(session) == became(role)
    _, inside = await database.pipeline.run(ann(role).call(), call(STATE))
    assert inside == [became(role)]
    await database.close()
