"""The wire to Postgres: answers, transactions, pooling, and every way a connection can break."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import random
import struct
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import (
    AdminShutdown,
    DivisionByZero,
    ForeignKeyViolation,
    ProtocolViolation,
    QueryCanceled,
    UniqueViolation,
)

from amphibase.sql import wire as wire_module
from amphibase.sql.wire import Call, Statement, Wire

PID = Call(Statement("select pg_backend_pid()"))
SLEEP = Statement("select pg_sleep($1::float8)")
WHO = Call(Statement("select current_user, current_setting('request.jwt.claims', true)"))
ASSUME = Statement(
    "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)"
)


def call(sql: str, *values: object) -> Call:
    return Call(Statement(sql), values)


class Server:
    """What the server says about the connections of the wires under test, and to them."""

    def __init__(self, connection: psycopg.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self.info = connection.info

    def execute(self, sql: str) -> None:
        self._connection.execute(sql.encode())

    def value(self, sql: str) -> Any:
        row = self._connection.execute(sql.encode()).fetchone()
        return row and row[0]

    def backends(self, state: str = "%") -> int:
        return int(
            self.value(
                f"select count(*) from pg_stat_activity where application_name = '{self._name}'"
                f" and state like '{state}'"
            )
        )

    def terminate(self) -> None:
        """End all the wires' backends, and wait until they are gone."""
        self.value(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
            f" where application_name = '{self._name}'"
        )

    async def until(self, condition: Callable[[], bool], limit: float = 10) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            await asyncio.sleep(0.01)


class Proxy:
    """A TCP relay to the server that counts what the client sends, and can break."""

    def __init__(self, server: psycopg.ConnectionInfo) -> None:
        self._server = server
        self._writers: list[asyncio.StreamWriter] = []
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.sent: list[bytes] = []
        self.cut_at_next_send = False
        self.reset_at_next_answer = False
        self.keeps_open = False

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Accept no further connection; keep those there are."""
        assert self._listener
        self._listener.close()

    def stop(self) -> None:
        self.refuse()
        self.cut()

    async def shut(self) -> None:
        """Stop, and wait until every relay has ended."""
        self.stop()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server.hostaddr or self._server.host, self._server.port
        upstream_reader, upstream = await (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        self._writers += [writer, upstream]
        back = asyncio.create_task(self._relay(upstream_reader, writer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.sent.append(data)
                if self.cut_at_next_send:
                    self.cut_at_next_send = False
                    writer.transport.abort()
                    break
                upstream.write(data)
                await upstream.drain()
        upstream.close()
        await back

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self.reset_at_next_answer and len(data) > 1000:
                    self.reset_at_next_answer = False
                    socket = writer.get_extra_info("socket")
                    # At once, so that the reset arrives while there is still something to read.
                    os.write(socket.fileno(), data[:1000])
                    socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    break
                writer.write(data)
                await writer.drain()
        if not self.keeps_open:
            writer.close()


MakeWire = Callable[..., Wire]


@pytest.fixture
def conninfo(postgres_url: str) -> str:
    return make_conninfo(postgres_url, application_name=f"wire_{uuid.uuid4().hex}")


@pytest.fixture
def server(conninfo: str) -> Iterator[Server]:
    name = str(conninfo_to_dict(conninfo)["application_name"])
    with psycopg.connect(conninfo, autocommit=True, application_name="server") as connection:
        yield Server(connection, name)


@pytest.fixture
async def make_wire(conninfo: str) -> AsyncIterator[MakeWire]:
    wires: list[Wire] = []

    def make(address: str = conninfo, **options: Any) -> Wire:
        wires.append(Wire(address, **options))
        return wires[-1]

    yield make
    for wire in wires:
        await wire.close()


@pytest.fixture
def wire(make_wire: MakeWire) -> Wire:
    return make_wire(size=4)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    relay = Proxy(server.info)
    await relay.start()
    yield relay
    relay.stop()


@pytest.fixture
def proxied(conninfo: str, proxy: Proxy) -> str:
    return make_conninfo(conninfo, host="127.0.0.1", port=proxy.port, sslmode="disable")


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    name = f"reader_{uuid.uuid4().hex[:8]}"
    server.execute(f"create role {name}")
    yield name
    server.execute(f"drop role {name}")


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
    make_wire: MakeWire, type_name: str, value: object, prepare: bool
) -> None:
    wire = make_wire(prepare=prepare)
    [[(returned,)]] = await wire.run(call(f"select $1::{type_name}", value))
    assert returned == value
    assert type(returned) is type(value)


async def test_json_is_read_as_python_and_an_unknown_type_as_text(
    wire: Wire, server: Server
) -> None:
    server.execute("create type mood as enum ('calm', 'busy')")
    rows = await wire.run(
        call("""select '{"a": [1, null]}'::jsonb, '"x"'::json, 'busy'::mood, '1 & 2'::tsquery""")
    )
    assert rows == [[({"a": [1, None]}, "x", "busy", "'1' & '2'")]]


@pytest.mark.parametrize("prepare", [True, False])
async def test_times_are_utc_whatever_zone_and_style_the_session_would_have(
    make_wire: MakeWire, conninfo: str, prepare: bool
) -> None:
    options = "-c timezone=Asia/Tokyo -c datestyle=German -c intervalstyle=iso_8601"
    wire = make_wire(make_conninfo(conninfo, options=options), prepare=prepare)
    moment = dt.datetime(2024, 1, 1, 18, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    [[row]] = await wire.run(
        call("select $1::timestamptz, $1::timestamptz::date, interval '2 days'", moment)
    )
    assert row == (moment, dt.date(2024, 1, 1), dt.timedelta(days=2))
    assert row[0].utcoffset() == dt.timedelta(0)


async def test_each_call_gets_its_own_rows_and_a_command_none(wire: Wire) -> None:
    assert await wire.run(
        call("select 1"),
        call("create temporary table t (a int)"),
        call("insert into t values ($1), ($2)", 1, 2),
        call("select a, a * 2 from t order by a"),
        call("select 1 where false"),
        call("insert into t values (3) returning a"),
    ) == [[(1,)], [], [], [(1, 2), (2, 4)], [], [(3,)]]
    assert await wire.run() == []


@pytest.mark.parametrize("prepare", [True, False])
async def test_a_5_mb_parameter_and_a_5_mb_result_pass_whole(
    make_wire: MakeWire, prepare: bool
) -> None:
    wire = make_wire(prepare=prepare)
    text = "0123456789abcdef" * (5 << 16)
    blob = random.randbytes(5 << 20)
    answer = await wire.run(call("select $1::text, $2::bytea", text, blob), call("select 7"))
    assert answer == [[(text, blob)], [(7,)]]


async def test_large_parameters_and_results_in_one_pipeline_do_not_block_each_other(
    wire: Wire,
) -> None:
    texts = [str(n) * (1 << 20) for n in range(10)]
    echo = Statement("select $1::text || $1::text")
    answer = await asyncio.wait_for(wire.run(*(Call(echo, [text]) for text in texts)), 30)
    assert answer == [[(text * 2,)] for text in texts]


async def test_200_000_rows_arrive_in_order(wire: Wire) -> None:
    [rows] = await wire.run(call("select n, 'row ' || n from generate_series(1, 200000) n"))
    assert rows == [(n, f"row {n}") for n in range(1, 200001)]


async def test_a_value_that_cannot_be_sent_is_refused_and_harms_nothing(wire: Wire) -> None:
    [[pid]] = await wire.run(PID)
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt"):
        await wire.run(PID, call("select $1", object()))
    with pytest.raises(psycopg.DataError):
        await wire.run(PID, call("select $1::text", "nul \0"))
    with pytest.raises(psycopg.DataError):
        await wire.run(call("select 'infinity'::timestamptz"))
    with pytest.raises(ProtocolViolation):
        await wire.run(call("select $1::text"))
    assert await wire.run(PID) == [[pid]]


# One run, one transaction, one round trip


async def test_the_calls_of_a_run_share_one_transaction(wire: Wire) -> None:
    xid = call("select pg_current_xact_id()::text")
    first, second = await wire.run(xid, xid)
    assert first == second
    assert await wire.run(xid) != [first]


async def test_a_failing_call_undoes_the_calls_before_it(wire: Wire, server: Server) -> None:
    server.execute("create table undone (a int)")
    insert = call("insert into undone values (1)")
    with pytest.raises(DivisionByZero):
        await wire.run(insert, call("select 1 / $1::int", 0), insert)
    assert server.value("select count(*) from undone") == 0
    await wire.run(insert)
    assert server.value("select count(*) from undone") == 1


async def test_a_run_is_one_message_to_the_server_with_one_sync(
    make_wire: MakeWire, proxy: Proxy, proxied: str
) -> None:
    wire = make_wire(proxied)
    calls = [call("select $1::int", 1), call("select $1::text", "two"), PID]
    await wire.run(*calls)
    proxy.sent.clear()
    await wire.run(*calls)
    [sent] = proxy.sent
    kinds, at = b"", 0
    while at < len(sent):
        kinds += sent[at : at + 1]
        at += 1 + int.from_bytes(sent[at + 1 : at + 5])
    assert kinds == b"BDE" * 3 + b"S"  # Bind, Describe and Execute of each; no Parse again


# Errors


async def test_an_error_has_its_class_and_diagnosis_and_leaves_the_connection(
    wire: Wire, server: Server
) -> None:
    server.execute("create table taken (name text constraint taken_name unique)")
    insert = call("insert into taken values ($1)", "a")
    [[pid], _] = await wire.run(PID, insert)
    with pytest.raises(UniqueViolation) as caught:
        await wire.run(PID, insert, PID)
    assert caught.value.diag.constraint_name == "taken_name"
    assert caught.value.diag.sqlstate == "23505"
    with pytest.raises(psycopg.errors.SyntaxError):
        await wire.run(PID, call("selec"), PID)
    assert await wire.run(PID) == [[pid]]


async def test_a_constraint_checked_at_the_commit_fails_the_run(wire: Wire, server: Server) -> None:
    server.execute(
        "create table parent (id int primary key);"
        "create table child (id int references parent deferrable initially deferred)"
    )
    [[pid]] = await wire.run(PID)
    with pytest.raises(ForeignKeyViolation):
        await wire.run(call("insert into child values (1)"))
    assert await wire.run(PID) == [[pid]]


async def test_copy_is_refused_and_the_next_run_succeeds(wire: Wire, server: Server) -> None:
    server.execute("create table copied (a int)")
    for sql in ("copy (select 1) to stdout", "copy copied from stdin"):
        with pytest.raises(psycopg.Error):
            await asyncio.wait_for(wire.run(call(sql)), 5)
        assert await wire.run(call("select 1")) == [[(1,)]]


async def test_a_connection_left_in_a_transaction_is_not_used_again(wire: Wire) -> None:
    [[pid], _] = await wire.run(PID, call("begin"))
    assert await wire.run(PID) != [[pid]]


async def test_a_statement_timeout_ends_a_slow_statement(make_wire: MakeWire) -> None:
    for prepare in (True, False):
        wire = make_wire(prepare=prepare, statement_timeout=0.1)
        with pytest.raises(QueryCanceled):
            await wire.run(Call(SLEEP, [10]))
        assert await wire.run(call("select 1")) == [[(1,)]]


# Roles and claims


async def test_a_role_and_claims_end_with_their_run(wire: Wire, role: str) -> None:
    [[(owner, _)]] = await wire.run(WHO)
    _, mine = await wire.run(Call(ASSUME, [role, '{"sub": "1"}']), WHO)
    assert mine == [(role, '{"sub": "1"}')]
    assert await wire.run(WHO) in ([[(owner, None)]], [[(owner, "")]])


async def test_a_role_and_claims_end_with_a_run_that_fails(make_wire: MakeWire, role: str) -> None:
    wire = make_wire(size=1)
    [[(owner, _)], [pid]] = await wire.run(WHO, PID)
    with pytest.raises(DivisionByZero):
        await wire.run(Call(ASSUME, [role, "{}"]), call("select 1 / 0"))
    who, [same_pid] = await wire.run(WHO, PID)
    assert who in ([(owner, None)], [(owner, "")])
    assert same_pid == pid


@pytest.mark.parametrize("prepare", [True, False])
async def test_no_caller_of_2_000_sees_the_role_or_the_claims_of_another(
    make_wire: MakeWire, role: str, prepare: bool
) -> None:
    wire = make_wire(size=5, prepare=prepare, acquire_timeout=60)
    [[(owner, _)]] = await wire.run(WHO)

    async def caller(number: int) -> None:
        kind = number % 4
        if kind == 0:  # without a role
            [[(user, claims)]] = await wire.run(WHO)
            assert (user, claims or "") == (owner, "")
        elif kind == 1:  # fails
            with pytest.raises(DivisionByZero):
                await wire.run(Call(ASSUME, [role, str(number)]), call("select 1 / 0"), WHO)
        elif kind == 2:  # gives up at any moment
            task = asyncio.create_task(wire.run(Call(ASSUME, [role, str(number)]), WHO))
            if number % 100 == 2:
                await asyncio.sleep(random.random() / 20)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task)[1] == [(role, str(number))]
        else:
            _, who = await wire.run(Call(ASSUME, [role, str(number)]), WHO)
            assert who == [(role, str(number))]

    await asyncio.gather(*(caller(number) for number in range(2000)))


# Prepared statements

PREPARED = Call(Statement("select count(*) from pg_prepared_statements where statement like $1"))


def prepared(like: str) -> Call:
    return Call(PREPARED.statement, [like])


async def test_a_statement_is_prepared_once_for_the_types_of_its_values(
    make_wire: MakeWire,
) -> None:
    wire = make_wire(size=1)
    echo = Statement("select $1::text as echoed")
    for value in ("a", "b", "c"):
        await wire.run(Call(echo, [value]), Call(echo, [value]))
    assert await wire.run(prepared("% as echoed")) == [[(1,)]]
    assert await wire.run(Call(echo, [uuid.UUID(int=1)])) == [[(str(uuid.UUID(int=1)),)]]
    assert await wire.run(Call(echo, ["d"])) == [[("d",)]]
    assert await wire.run(prepared("% as echoed")) == [[(2,)]]


async def test_without_preparing_the_server_keeps_no_statement(make_wire: MakeWire) -> None:
    wire = make_wire(size=1, prepare=False)
    for _ in range(2):
        assert await wire.run(call("select $1::int", 5), prepared("%")) == [[(5,)], [(0,)]]


async def test_the_statements_used_least_recently_are_closed_on_the_server(
    make_wire: MakeWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "_STATEMENTS_KEPT", 5)
    wire = make_wire(size=1)
    often = call("select 'often' as kept")
    for number in range(40):
        assert await wire.run(often, call(f"select {number}")) == [[("often",)], [(number,)]]
    assert await wire.run(call("select 3"), call("select 38")) == [[(3,)], [(38,)]]
    [[(kept,)]] = await wire.run(prepared("%"))
    assert kept <= 7
    listed = call("select statement from pg_prepared_statements")
    [rows] = await wire.run(listed)
    assert ("select 'often' as kept",) in rows
    # More new statements in one run than are kept.
    many = [call(f"select {number} as many") for number in range(20)]
    for _ in range(2):
        assert await wire.run(*many) == [[(number,)] for number in range(20)]


async def test_a_statement_whose_result_type_changed_is_prepared_again_on_each_connection(
    make_wire: MakeWire, server: Server
) -> None:
    wire = make_wire(size=3)
    server.execute("create table changing (a int); insert into changing values (1)")
    select = call("select * from changing")
    slow = Call(SLEEP, [0.05])
    for answer, change in (
        ([(1,)], "alter table changing add b text default 'new'"),
        ([(1, "new")], "alter table changing alter a type text"),
        ([("1", "new")], "alter table changing drop b"),
        ([("1",)], "select 1"),
    ):
        answers = await asyncio.gather(*(wire.run(select, slow) for _ in range(3)))
        assert [rows for rows, _ in answers] == [answer] * 3
        server.execute(change)
    assert await wire.run(prepared("select * from changing")) == [[(1,)]]


async def test_a_statement_that_the_server_forgot_is_prepared_again(make_wire: MakeWire) -> None:
    wire = make_wire(size=1)
    two = call("select $1::int", 2)
    await wire.run(two, PID)
    await wire.run(call("deallocate all"))
    [answer, [pid]] = await wire.run(two, PID)
    assert answer == [(2,)]
    assert await wire.run(PID) == [[pid]]


async def test_a_statement_of_a_run_that_failed_is_usable_in_the_next(make_wire: MakeWire) -> None:
    wire = make_wire(size=1)
    before, after = call("select 'before'"), call("select 'after'")
    with pytest.raises(DivisionByZero):
        await wire.run(before, call("select 1 / 0"), after)
    assert await wire.run(before, after) == [[("before",)], [("after",)]]
    assert await wire.run(prepared("select '%'")) == [[(2,)]]


# Connections that break


async def test_idle_connections_that_were_all_terminated_do_no_harm(
    wire: Wire, server: Server
) -> None:
    for pause in (0.1, 0):  # noticed while idle; and not before the next run
        await asyncio.gather(*(wire.run(PID, Call(SLEEP, [0.05])) for _ in range(4)))
        assert server.backends() == 4
        server.terminate()  # blocks the event loop, which thus notices nothing by itself
        await asyncio.sleep(pause)
        answers = await asyncio.gather(*(wire.run(call("select 1")) for _ in range(20)))
        assert answers == [[[(1,)]]] * 20


async def test_a_terminated_run_raises_and_is_not_repeated(wire: Wire, server: Server) -> None:
    server.execute("create sequence started")
    await wire.run(PID)
    task = asyncio.create_task(wire.run(call("select nextval('started')"), Call(SLEEP, [30]), PID))
    await server.until(lambda: server.backends("active") == 1)
    server.terminate()
    with pytest.raises(AdminShutdown) as caught:
        await task
    assert isinstance(caught.value, psycopg.OperationalError)
    assert await wire.run(call("select 1")) == [[(1,)]]
    assert server.value("select last_value from started") == 1


@pytest.mark.parametrize("pause", [0.1, 0])
async def test_a_run_survives_connections_cut_while_idle(
    make_wire: MakeWire, proxy: Proxy, proxied: str, pause: float
) -> None:
    wire = make_wire(proxied, size=3)
    await asyncio.gather(*(wire.run(Call(SLEEP, [0.05])) for _ in range(3)))
    proxy.cut()
    await asyncio.sleep(pause)
    assert await wire.run(call("select 1")) == [[(1,)]]


async def test_the_farewell_of_the_server_is_enough_to_leave_a_connection(
    make_wire: MakeWire, proxy: Proxy, proxied: str, server: Server
) -> None:
    wire = make_wire(proxied)
    [[pid]] = await wire.run(PID)
    proxy.keeps_open = True
    server.terminate()
    await asyncio.sleep(0.1)
    [[other]] = await asyncio.wait_for(wire.run(PID), 5)
    assert other != pid
    proxy.cut()


async def test_a_run_cut_before_any_answer_is_repeated_once_if_the_connection_was_pooled(
    make_wire: MakeWire, proxy: Proxy, proxied: str
) -> None:
    wire = make_wire(proxied)
    await wire.run(PID)
    proxy.cut_at_next_send = True
    proxy.sent.clear()
    assert await wire.run(call("select 'again'")) == [[("again",)]]
    assert sum(b"again" in sent for sent in proxy.sent) == 2


async def test_a_run_cut_on_a_fresh_connection_raises(
    make_wire: MakeWire, proxy: Proxy, proxied: str, server: Server
) -> None:
    wire = make_wire(proxied)
    task = asyncio.create_task(wire.run(Call(SLEEP, [30])))
    await server.until(lambda: server.backends("active") == 1)
    proxy.cut()
    with pytest.raises(psycopg.OperationalError):
        await task
    assert await wire.run(call("select 1")) == [[(1,)]]


async def test_a_failed_connect_leaves_room_for_the_next(
    make_wire: MakeWire, proxy: Proxy, proxied: str
) -> None:
    password = str(conninfo_to_dict(proxied).get("password", "hunter2"))
    wire = make_wire(make_conninfo(proxied, password=password), size=1)
    await wire.run(PID)
    proxy.stop()
    outcomes = await asyncio.gather(*(wire.run(PID) for _ in range(5)), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, psycopg.OperationalError)
        assert password not in f"{outcome!r} {outcome.__cause__!r} {outcome.__context__!r}"
        assert outcome.pgconn is None
    await proxy.start()
    assert await wire.run(call("select 1")) == [[(1,)]]


async def test_a_host_name_is_resolved(make_wire: MakeWire, proxied: str) -> None:
    wire = make_wire(make_conninfo(proxied, host="localhost"))
    assert await wire.run(call("select 1")) == [[(1,)]]


async def test_a_server_that_never_answers_ends_the_connect_in_time() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        wire = Wire(f"postgresql://u:hunter2@127.0.0.1:{port}/d", connect_timeout=0.2)
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match=r"within 0\.2 s") as caught:
            await wire.run(PID)
        assert 0.2 <= time.monotonic() - started < 2
        assert "hunter2" not in str(caught.value)
        await wire.close()


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://u:hunter2%zz@localhost/d",
        "postgresql://u:x@hunter2@localhost/d",
        "postgresql://u:hunter2/x@localhost/d",
        "postgresql://u:12/hunter2@localhost/d",
        "postgresql://u:x?@hunter2@localhost/d",
        "host=localhost password=x hunter2",
    ],
)
def test_a_malformed_connection_string_is_refused_without_being_quoted(conninfo: str) -> None:
    with pytest.raises(psycopg.ProgrammingError) as caught:
        Wire(conninfo)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__context__!r}"


# Cancellation


async def test_a_cancelled_run_stops_on_the_server_and_gives_its_connection_back(
    make_wire: MakeWire, server: Server
) -> None:
    wire = make_wire(size=1)
    [[pid]] = await wire.run(PID)
    task = asyncio.create_task(wire.run(call("select 'stale'"), Call(SLEEP, [60])))
    await server.until(lambda: server.backends("active") == 1)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 0.1
    await server.until(lambda: server.backends("active") == 0, limit=3)
    assert await wire.run(PID) == [[pid]]


async def test_runs_cancelled_at_any_moment_cost_no_connection_and_mix_no_answers(
    make_wire: MakeWire, server: Server
) -> None:
    wire = make_wire(size=3, acquire_timeout=30)
    rng = random.Random(7)

    async def caller(number: int) -> None:
        calls = call("select $1::int", number), Call(SLEEP, [rng.random() / 100])
        task = asyncio.create_task(wire.run(*calls))
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() / 5)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert (await task)[0] == [(number,)]

    await asyncio.gather(*(caller(number) for number in range(300)))
    answers = await asyncio.gather(*(wire.run(PID, Call(SLEEP, [0.1])) for _ in range(3)))
    assert len({pid for [[pid], _] in answers}) == 3
    assert server.backends() == 3


async def test_a_run_cancelled_while_it_connects_leaves_room_for_the_next(
    make_wire: MakeWire,
) -> None:
    wire = make_wire(size=1, acquire_timeout=5)
    for turns in range(8):
        task = asyncio.create_task(wire.run(PID))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await wire.run(call("select 1")) == [[(1,)]]


async def test_a_cancel_request_that_gets_lost_is_repeated(
    make_wire: MakeWire, proxy: Proxy, proxied: str, server: Server
) -> None:
    wire = make_wire(proxied, size=1)
    [[pid]] = await wire.run(PID)
    task = asyncio.create_task(wire.run(Call(SLEEP, [60])))
    await server.until(lambda: server.backends("active") == 1)
    proxy.cut_at_next_send = True  # the cancel request is what is sent next
    task.cancel()
    await server.until(lambda: server.backends("active") == 0, limit=3)
    assert await wire.run(PID) == [[pid]]


async def test_a_connection_that_cannot_be_cancelled_is_replaced(
    make_wire: MakeWire, proxy: Proxy, proxied: str, server: Server
) -> None:
    wire = make_wire(proxied, size=1)
    [[pid]] = await wire.run(PID)
    task = asyncio.create_task(wire.run(Call(SLEEP, [1])))
    await server.until(lambda: server.backends("active") == 1)
    proxy.refuse()
    task.cancel()
    with pytest.raises(psycopg.OperationalError):
        await wire.run(PID)
    await proxy.start()
    [[other]] = await wire.run(PID)
    assert other != pid


# The pool


async def test_the_pool_grows_as_needed_and_never_beyond_its_size(
    make_wire: MakeWire, server: Server
) -> None:
    wire = make_wire(size=3)
    for _ in range(5):
        await wire.run(PID)
    assert server.backends() == 1
    answers = await asyncio.gather(*(wire.run(PID, Call(SLEEP, [0.02])) for _ in range(12)))
    assert len({pid for [[pid], _] in answers}) == 3
    assert server.backends() == 3
    one_by_one = [await wire.run(PID) for _ in range(5)]
    assert one_by_one == [one_by_one[0]] * 5  # the one used last, so that the others can rest


async def test_a_run_that_finds_no_free_connection_in_time_raises(make_wire: MakeWire) -> None:
    wire = make_wire(size=1, acquire_timeout=0.2)
    busy = asyncio.create_task(wire.run(Call(SLEEP, [0.6])))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match="no connection free"):
        await wire.run(PID)
    assert 0.15 < time.monotonic() - started < 0.5
    await busy
    assert await wire.run(call("select 1")) == [[(1,)]]


async def test_waiting_runs_are_served_in_their_order(make_wire: MakeWire) -> None:
    wire = make_wire(size=1)
    order: list[int] = []

    async def caller(number: int) -> None:
        await wire.run(Call(SLEEP, [0.01]))
        order.append(number)

    await asyncio.gather(*(caller(number) for number in range(10)))
    assert order == list(range(10))


async def test_a_waiting_run_that_is_cancelled_loses_no_connection(make_wire: MakeWire) -> None:
    wire = make_wire(size=1, acquire_timeout=2)

    async def hold(then_cancel: bool) -> None:
        await wire.run(Call(SLEEP, [0.1]))
        if then_cancel:
            waiter.cancel()  # the connection is already promised to it

    for then_cancel in (True, False):
        holder = asyncio.create_task(hold(then_cancel))
        await asyncio.sleep(0.02)
        waiter = asyncio.create_task(wire.run(PID))
        behind = asyncio.create_task(wire.run(call("select 'behind'")))
        await asyncio.sleep(0.02)
        if not then_cancel:
            waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await holder
        assert await behind == [[("behind",)]]
        assert await wire.run(call("select 1")) == [[(1,)]]


async def test_a_waiter_takes_the_place_of_a_connection_that_broke(
    make_wire: MakeWire, server: Server
) -> None:
    wire = make_wire(size=1, acquire_timeout=5)
    running = asyncio.create_task(wire.run(Call(SLEEP, [30])))
    await server.until(lambda: server.backends("active") == 1)
    waiting = asyncio.create_task(wire.run(call("select 1")))
    await asyncio.sleep(0.02)
    server.terminate()
    with pytest.raises(AdminShutdown):
        await running
    assert await waiting == [[(1,)]]


async def test_a_closed_wire_refuses_runs_and_keeps_no_connection(
    make_wire: MakeWire, server: Server
) -> None:
    wire = make_wire(size=2)
    runs = [asyncio.create_task(wire.run(PID, Call(SLEEP, [0.2]))) for _ in range(3)]
    cancelled = asyncio.create_task(wire.run(PID))
    await server.until(lambda: server.backends("active") == 2)
    cancelled.cancel()
    await wire.close()
    assert len((await runs[0])[0]) == len((await runs[1])[0]) == 1
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await runs[2]
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await wire.run(PID)
    await server.until(lambda: server.backends() == 0)


def test_it_runs_cancels_and_reconnects_on_uvloop(conninfo: str, server: Server) -> None:
    async def main() -> None:
        assert "uvloop" in type(asyncio.get_running_loop()).__module__
        wire = Wire(conninfo, size=1)
        [[pid]] = await wire.run(PID)
        texts = [str(n) * (1 << 20) for n in range(5)]
        calls = [call("select $1::text", text) for text in texts]
        assert await wire.run(*calls) == [[(text,)] for text in texts]
        task = asyncio.create_task(wire.run(Call(SLEEP, [60])))
        await server.until(lambda: server.backends("active") == 1)
        task.cancel()
        assert await wire.run(PID) == [[pid]]
        server.terminate()
        assert await wire.run(PID) != [[pid]]
        running = asyncio.create_task(wire.run(Call(SLEEP, [60])))
        await server.until(lambda: server.backends("active") == 1)
        server.terminate()
        with pytest.raises(AdminShutdown):
            await running
        assert await wire.run(call("select 1")) == [[(1,)]]
        await wire.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_reset_that_leaves_something_to_read_is_noticed_on_uvloop(
    conninfo: str, server: Server
) -> None:
    relay = Proxy(server.info)

    async def main() -> None:
        address = make_conninfo(conninfo, host="127.0.0.1", port=relay.port, sslmode="disable")
        wire = Wire(address)
        large = call("select repeat('x', 1 << 22)")
        await wire.run(large)
        relay.reset_at_next_answer = True
        again = asyncio.create_task(wire.run(large))
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 — both the bytes and the reset arrive meanwhile
        await asyncio.wait([again], timeout=5)
        assert not relay.reset_at_next_answer
        assert again.done()
        assert again.result() == [[("x" * (1 << 22),)]]
        await wire.close()

    elsewhere = asyncio.new_event_loop()
    thread = threading.Thread(target=elsewhere.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(relay.start(), elsewhere).result(5)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        asyncio.run_coroutine_threadsafe(relay.shut(), elsewhere).result(5)
        elsewhere.call_soon_threadsafe(elsewhere.stop)
        thread.join()
        elsewhere.close()
