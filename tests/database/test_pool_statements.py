"""The pool to Postgres: statements that are prepared once and kept."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from psycopg.errors import DivisionByZero
from tests.database.pools import PID, SLEEP, MakePool, Server, call, prepared

from amphibase.database import connection as pipeline
from amphibase.database.statement import Call, Statement


async def test_a_statement_is_prepared_once_for_the_types_of_its_values(
    make_pool: MakePool,
) -> None:
    pool = make_pool(size=1)
    echo = Statement("select $1::text as echoed")
    for value in ("a", "b", "c"):
        await pool.run(Call(echo, [value]), Call(echo, [value]))
    assert await pool.run(prepared("% as echoed")) == [[(1,)]]
    assert await pool.run(Call(echo, [uuid.UUID(int=1)])) == [[(str(uuid.UUID(int=1)),)]]
    assert await pool.run(Call(echo, ["d"])) == [[("d",)]]
    assert await pool.run(prepared("% as echoed")) == [[(2,)]]


async def test_a_statement_is_prepared_for_each_role_that_executes_it(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    assume = Statement("select pg_catalog.set_config('role', $1, true)")
    echo = call("select current_user::text as executing")
    for _ in range(2):
        assert await pool.run(echo) == [[("postgres",)]]
        for role in ("pg_monitor", "pg_read_all_data"):
            assert await pool.run(Call(assume, [role], role), echo) == [[(role,)], [(role,)]]
    assert await pool.run(prepared("% as executing")) == [[(3,)]]


async def test_without_preparing_the_server_keeps_no_statement(make_pool: MakePool) -> None:
    pool = make_pool(size=1, prepare=False)
    for _ in range(2):
        assert await pool.run(call("select $1::int", 5), prepared("%")) == [[(5,)], [(0,)]]


async def test_a_long_statement_is_not_kept(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    long = call(f"select $1::int as long /* {'x' * 20_000} */", 5)
    for number in range(3):
        short = call(f"select {number} as short")
        assert await pool.run(short, long, short) == [[(number,)], [(5,)], [(number,)]]
    assert await pool.run(prepared("% as long%"), prepared("% as short")) == [[(0,)], [(3,)]]


async def test_the_statements_used_least_recently_are_closed_on_the_server(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_STATEMENTS_KEPT", 5)
    pool = make_pool(size=1)
    often = call("select 'often' as kept")
    for number in range(40):
        assert await pool.run(often, call(f"select {number}")) == [[("often",)], [(number,)]]
    assert await pool.run(call("select 3"), call("select 38")) == [[(3,)], [(38,)]]
    [[(kept,)]] = await pool.run(prepared("%"))
    assert kept <= 7
    listed = call("select statement from pg_prepared_statements")
    [rows] = await pool.run(listed)
    assert ("select 'often' as kept",) in rows
    # More new statements in one run than are kept.
    many = [call(f"select {number} as many") for number in range(20)]
    for _ in range(2):
        assert await pool.run(*many) == [[(number,)] for number in range(20)]


async def test_a_statement_whose_result_type_changed_is_prepared_again_on_each_connection(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=3)
    server.execute("create table changing (a int); insert into changing values (1)")
    select = call("select * from changing")
    slow = Call(SLEEP, [0.05])
    for response, change in (
        ([(1,)], "alter table changing add b text default 'new'"),
        ([(1, "new")], "alter table changing alter a type text"),
        ([("1", "new")], "alter table changing drop b"),
        ([("1",)], "select 1"),
    ):
        responses = await asyncio.gather(*(pool.run(select, slow) for _ in range(3)))
        assert [rows for rows, _ in responses] == [response] * 3
        server.execute(change)
    assert await pool.run(prepared("select * from changing")) == [[(1,)]]


async def test_a_statement_that_the_server_forgot_is_prepared_again(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    two = call("select $1::int", 2)
    await pool.run(two, PID)
    await pool.run(call("deallocate all"))
    [response, [pid]] = await pool.run(two, PID)
    assert response == [(2,)]
    assert await pool.run(PID) == [[pid]]


async def test_a_statement_of_a_run_that_failed_is_usable_in_the_next(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    before, after = call("select 'before'"), call("select 'after'")
    with pytest.raises(DivisionByZero):
        await pool.run(before, call("select 1 / 0"), after)
    assert await pool.run(before, after) == [[("before",)], [("after",)]]
    assert await pool.run(prepared("select '%'")) == [[(2,)]]
