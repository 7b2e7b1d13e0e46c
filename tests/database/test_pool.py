"""The pool to Postgres: answers, transactions, errors and roles."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import uuid
from decimal import Decimal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.errors import (
    DivisionByZero,
    ForeignKeyViolation,
    ProtocolViolation,
    QueryCanceled,
    UniqueViolation,
)
from tests.database.pools import ASSUME, PID, SLEEP, WHO, MakePool, Proxy, Server, call

from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call, Statement

# Answers


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("bool", True),
        ("int2", -7),
        ("int4", 1 << 30),
        ("int8", 1 << 60),
        ("float8", 0.1),
        ("numeric", Decimal("12345678901234567890.123")),
        ("text", "naïve ☃ 'quoted' \\ "),
        ("bytea", bytes(range(256))),
        ("uuid", uuid.uuid4()),
        ("date", dt.date(2024, 2, 29)),
        ("time", dt.time(1, 2, 3, 4)),
        ("interval", dt.timedelta(days=-3, hours=5, microseconds=7)),
        ("timestamp", dt.datetime(2024, 1, 2, 3, 4, 5, 6)),
        ("timestamptz", dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)),
        ("int4[]", [1, None, 3]),
        ("int4[]", []),
        ("text[]", ["a,b", '"', None]),
        ("bytea[]", [b"\x00\\", b"'"]),
        ("uuid[]", [uuid.uuid4(), uuid.uuid4()]),
        ("text", None),
    ],
)
@pytest.mark.parametrize("prepare", [True, False])
async def test_a_value_comes_back_as_it_was_sent(
    make_pool: MakePool, type_name: str, value: object, prepare: bool
) -> None:
    pool = make_pool(prepare=prepare)
    [[(returned,)]] = await pool.run(call(f"select $1::{type_name}", value))
    assert returned == value
    assert type(returned) is type(value)


async def test_json_is_read_as_python_and_an_unknown_type_as_text(
    pool: PipelinePool, server: Server
) -> None:
    server.execute("create type mood as enum ('calm', 'busy')")
    rows = await pool.run(
        call("""select '{"a": [1, null]}'::jsonb, '"x"'::json, 'busy'::mood, '1 & 2'::tsquery""")
    )
    assert rows == [[({"a": [1, None]}, "x", "busy", "'1' & '2'")]]


@pytest.mark.parametrize("prepare", [True, False])
async def test_times_are_utc_whatever_zone_and_style_the_session_would_have(
    make_pool: MakePool, conninfo: str, prepare: bool
) -> None:
    options = "-c timezone=Asia/Tokyo -c datestyle=German -c intervalstyle=iso_8601"
    pool = make_pool(make_conninfo(conninfo, options=options), prepare=prepare)
    moment = dt.datetime(2024, 1, 1, 18, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    [[row]] = await pool.run(
        call("select $1::timestamptz, $1::timestamptz::date, interval '2 days'", moment)
    )
    assert row == (moment, dt.date(2024, 1, 1), dt.timedelta(days=2))
    assert row[0].utcoffset() == dt.timedelta(0)


async def test_each_call_gets_its_own_rows_and_a_command_none(pool: PipelinePool) -> None:
    assert await pool.run(
        call("select 1"),
        call("create temporary table t (a int)"),
        call("insert into t values ($1), ($2)", 1, 2),
        call("select a, a * 2 from t order by a"),
        call("select 1 where false"),
        call("insert into t values (3) returning a"),
    ) == [[(1,)], [], [], [(1, 2), (2, 4)], [], [(3,)]]
    assert await pool.run() == []


@pytest.mark.parametrize("prepare", [True, False])
async def test_a_5_mb_parameter_and_a_5_mb_result_pass_whole(
    make_pool: MakePool, prepare: bool
) -> None:
    pool = make_pool(prepare=prepare)
    text = "0123456789abcdef" * (5 << 16)
    blob = random.randbytes(5 << 20)
    response = await pool.run(call("select $1::text, $2::bytea", text, blob), call("select 7"))
    assert response == [[(text, blob)], [(7,)]]


async def test_large_parameters_and_results_in_one_pipeline_do_not_block_each_other(
    pool: PipelinePool,
) -> None:
    texts = [str(n) * (1 << 20) for n in range(10)]
    echo = Statement("select $1::text || $1::text")
    response = await asyncio.wait_for(pool.run(*(Call(echo, [text]) for text in texts)), 60)
    assert response == [[(text * 2,)] for text in texts]


async def test_200_000_rows_arrive_in_order(pool: PipelinePool) -> None:
    [rows] = await pool.run(call("select n, 'row ' || n from generate_series(1, 200000) n"))
    assert rows == [(n, f"row {n}") for n in range(1, 200001)]


async def test_a_value_that_cannot_be_sent_is_rejected_and_harms_nothing(
    pool: PipelinePool,
) -> None:
    [[pid]] = await pool.run(PID)
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt"):
        await pool.run(PID, call("select $1", object()))
    with pytest.raises(psycopg.DataError):
        await pool.run(PID, call("select $1::text", "nul \0"))
    with pytest.raises(psycopg.DataError):
        await pool.run(call("select 'infinity'::timestamptz"))
    with pytest.raises(ProtocolViolation):
        await pool.run(call("select $1::text"))
    assert await pool.run(PID) == [[pid]]


# One run, one transaction, one round trip


async def test_the_calls_of_a_run_share_one_transaction(pool: PipelinePool) -> None:
    xid = call("select pg_current_xact_id()::text")
    first, second = await pool.run(xid, xid)
    assert first == second
    assert await pool.run(xid) != [first]


async def test_a_failing_call_undoes_the_calls_before_it(
    pool: PipelinePool, server: Server
) -> None:
    server.execute("create table undone (a int)")
    insert = call("insert into undone values (1)")
    with pytest.raises(DivisionByZero):
        await pool.run(insert, call("select 1 / $1::int", 0), insert)
    assert server.value("select count(*) from undone") == 0
    await pool.run(insert)
    assert server.value("select count(*) from undone") == 1


async def test_a_run_is_one_message_to_the_server_with_one_sync(
    make_pool: MakePool, proxy: Proxy, proxied: str
) -> None:
    pool = make_pool(proxied)
    calls = [call("select $1::int", 1), call("select $1::text", "two"), PID]
    await pool.run(*calls)
    proxy.sent.clear()
    await pool.run(*calls)
    [sent] = proxy.sent
    kinds, at = b"", 0
    while at < len(sent):
        kinds += sent[at : at + 1]
        at += 1 + int.from_bytes(sent[at + 1 : at + 5])
    assert kinds == b"BDE" * 3 + b"S"  # Bind, Describe and Execute of each; no Parse again


# Errors


async def test_an_error_has_its_class_and_diagnosis_and_leaves_the_connection(
    pool: PipelinePool, server: Server
) -> None:
    server.execute("create table taken (name text constraint taken_name unique)")
    insert = call("insert into taken values ($1)", "a")
    [[pid], _] = await pool.run(PID, insert)
    with pytest.raises(UniqueViolation) as caught:
        await pool.run(PID, insert, PID)
    assert caught.value.diag.constraint_name == "taken_name"
    assert caught.value.diag.sqlstate == "23505"
    with pytest.raises(psycopg.errors.SyntaxError):
        await pool.run(PID, call("selec"), PID)
    assert await pool.run(PID) == [[pid]]


async def test_a_constraint_checked_at_the_commit_fails_the_run(
    pool: PipelinePool, server: Server
) -> None:
    server.execute(
        "create table parent (id int primary key);"
        "create table child (id int references parent deferrable initially deferred)"
    )
    [[pid]] = await pool.run(PID)
    with pytest.raises(ForeignKeyViolation):
        await pool.run(call("insert into child values (1)"))
    assert await pool.run(PID) == [[pid]]


async def test_copy_is_rejected_and_the_next_run_succeeds(
    pool: PipelinePool, server: Server
) -> None:
    server.execute("create table copied (a int)")
    for sql in ("copy (select 1) to stdout", "copy copied from stdin"):
        with pytest.raises(psycopg.Error):
            await asyncio.wait_for(pool.run(call(sql)), 60)
        assert await pool.run(call("select 1")) == [[(1,)]]


async def test_a_connection_left_in_a_transaction_is_not_used_again(pool: PipelinePool) -> None:
    [[pid], _] = await pool.run(PID, call("begin"))
    assert await pool.run(PID) != [[pid]]


async def test_a_statement_timeout_ends_a_slow_statement(make_pool: MakePool) -> None:
    for prepare in (True, False):
        pool = make_pool(prepare=prepare, statement_timeout=1)
        with pytest.raises(QueryCanceled):
            await pool.run(Call(SLEEP, [60]))
        assert await pool.run(call("select 1")) == [[(1,)]]


# Roles and claims


async def test_a_role_and_claims_end_with_their_run(pool: PipelinePool, role: str) -> None:
    [[(owner, _)]] = await pool.run(WHO)
    _, mine = await pool.run(Call(ASSUME, [role, '{"sub": "1"}']), WHO)
    assert mine == [(role, '{"sub": "1"}')]
    assert await pool.run(WHO) in ([[(owner, None)]], [[(owner, "")]])


async def test_a_role_and_claims_end_with_a_run_that_fails(make_pool: MakePool, role: str) -> None:
    pool = make_pool(size=1)
    [[(owner, _)], [pid]] = await pool.run(WHO, PID)
    with pytest.raises(DivisionByZero):
        await pool.run(Call(ASSUME, [role, "{}"]), call("select 1 / 0"))
    who, [same_pid] = await pool.run(WHO, PID)
    assert who in ([(owner, None)], [(owner, "")])
    assert same_pid == pid


@pytest.mark.parametrize("prepare", [True, False])
async def test_no_caller_of_2_000_sees_the_role_or_the_claims_of_another(
    make_pool: MakePool, role: str, prepare: bool
) -> None:
    pool = make_pool(size=5, prepare=prepare, acquire_timeout=240)
    [[(owner, _)]] = await pool.run(WHO)

    async def caller(number: int) -> None:
        kind = number % 4
        if kind == 0:  # without a role
            [[(user, claims)]] = await pool.run(WHO)
            assert (user, claims or "") == (owner, "")
        elif kind == 1:  # fails
            with pytest.raises(DivisionByZero):
                await pool.run(Call(ASSUME, [role, str(number)]), call("select 1 / 0"), WHO)
        elif kind == 2:  # gives up at any moment
            task = asyncio.create_task(pool.run(Call(ASSUME, [role, str(number)]), WHO))
            if number % 100 == 2:
                await asyncio.sleep(random.random() / 20)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task)[1] == [(role, str(number))]
        else:
            _, who = await pool.run(Call(ASSUME, [role, str(number)]), WHO)
            assert who == [(role, str(number))]

    await asyncio.gather(*(caller(number) for number in range(2000)))
