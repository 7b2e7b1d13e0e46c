"""A transaction of several round trips, and runs that may not be sent twice."""

import asyncio

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.database.pools import ASSUME, PID, SLEEP, WHO, MakePool, Proxy, Server, call

from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call

INSERT = "insert into things values ($1)"


@pytest.fixture(autouse=True)
def _things(server: Server) -> None:
    server.execute("create table things (id int primary key)")


async def test_values_stay_the_bytes_that_the_server_wrote(pool: PipelinePool) -> None:
    (rows,) = await pool.run_raw(call("select 7, null, 'é', '{}'::jsonb"), again=True)
    assert rows == [(b"7", None, "é".encode(), b"{}")]


async def test_a_transaction_commits_at_the_end_of_its_block(
    pool: PipelinePool, server: Server
) -> None:
    async with pool.transaction() as run:
        await run(call(INSERT, 1))
        ((count,),) = (await run(call("select count(*) from things")))[0]
        assert count == b"1"
        assert server.value("select count(*) from things") == 0
    assert server.value("select count(*) from things") == 1


@pytest.mark.parametrize("how", ["raises", "fails"])
async def test_a_transaction_that_does_not_end_well_leaves_nothing(
    pool: PipelinePool, server: Server, how: str
) -> None:
    async def insert() -> None:
        async with pool.transaction() as run:
            await run(call(INSERT, 1))
            if how == "fails":
                await run(call(INSERT, 1))
            raise ValueError

    with pytest.raises(ValueError if how == "raises" else psycopg.errors.UniqueViolation):
        await insert()
    assert server.value("select count(*) from things") == 0
    assert server.backends("idle in transaction%") == 0
    assert len(await pool.run(WHO)) == 1


async def test_a_cancelled_transaction_leaves_nothing_open(
    pool: PipelinePool, server: Server
) -> None:
    begun = asyncio.Event()

    async def insert_and_sleep() -> None:
        async with pool.transaction() as run:
            await run(call(INSERT, 1))
            begun.set()
            await run(Call(SLEEP, [60]))

    task = asyncio.create_task(insert_and_sleep())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.backends("active") + server.backends("idle in%") == 0)
    assert server.value("select count(*) from things") == 0
    assert len(await pool.run(WHO)) == 1


async def test_settings_of_a_transaction_end_with_it(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    async with pool.transaction() as run:
        await run(call("select set_config('request.jwt.claims', 'secret', true)"))
    ((_, claims),) = (await pool.run(WHO))[0]
    assert not claims


async def test_a_transaction_has_the_isolation_that_is_requested(pool: PipelinePool) -> None:
    async with pool.transaction("serializable") as run:
        ((level,),) = (await run(call("show transaction_isolation")))[0]
    assert level == b"serializable"


async def test_what_may_not_be_sent_twice_is_not(
    make_pool: MakePool, proxied: str, proxy: Proxy, server: Server
) -> None:
    pool = make_pool(proxied)
    await pool.run(PID)
    proxy.cut_at_next_send = True
    with pytest.raises(psycopg.OperationalError):
        await pool.run_raw(call(INSERT, 1), again=False)
    assert server.value("select count(*) from things") == 0


async def test_what_was_never_sent_is_sent_on_another_connection(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool()
    await pool.run(PID)
    server.terminate()
    await pool.run_raw(call(INSERT, 1), again=False)
    async with pool.transaction() as run:
        await run(call(INSERT, 2))
    server.terminate()
    async with pool.transaction() as run:
        await run(call(INSERT, 3))
    assert server.value("select count(*) from things") == 3


async def test_a_transaction_prepares_its_statements_anew_once_the_schema_has_changed(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=1)
    for type_name in ("bigint", "smallint"):
        async with pool.open_transaction() as transaction:
            await transaction.run(call("select id from things"))
        server.execute(f"alter table things alter id type {type_name}")
        pool.forget_statements()
    async with pool.open_transaction() as transaction:
        await transaction.run(call("select id from things"))


async def test_each_role_of_a_transaction_prepares_its_own_statements(
    make_pool: MakePool, role: str
) -> None:
    """Under row level security Postgres plans one anew for another role."""
    pool, statement = make_pool(size=1), call("select 1")
    prepared = call(
        "select count(*) from pg_prepared_statements where statement = $1", statement.statement.sql
    )
    counts = []
    async with pool.open_transaction() as transaction:
        for _ in range(2):
            async with transaction.undone():
                await transaction.run(Call(ASSUME, (role, "{}"), role))
                await transaction.run(statement)
            await transaction.run(statement)
            counts += pool.load(await transaction.run(prepared))[0]
    assert counts == [(2,), (2,)]


@pytest.mark.parametrize("prepare", [True, False])
async def test_a_transaction_has_the_settings_of_its_pool(
    make_pool: MakePool, conninfo: str, prepare: bool
) -> None:
    pool = make_pool(make_conninfo(conninfo, options="-c timezone=Asia/Tokyo"), prepare=prepare)
    async with pool.open_transaction() as transaction:
        for _ in range(2):
            assert pool.load(await transaction.run(call("show timezone"))) == [[("UTC",)]]
