"""The wire to Postgres: every way a connection can break."""

from __future__ import annotations

import asyncio
import threading
import time

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import AdminShutdown
from tests.database.pools import PID, SLEEP, MakeWire, Proxy, Server, call

from amphibase.database.connection import Call
from amphibase.database.pool import Wire


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
