"""The pool to Postgres: every way a connection can break."""

from __future__ import annotations

import asyncio
import threading
import time

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import AdminShutdown
from tests.database.pools import PID, SLEEP, MakePool, Proxy, Server, call

from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call


async def test_idle_connections_that_were_all_terminated_do_no_harm(
    pool: PipelinePool, server: Server
) -> None:
    for pause in (0.1, 0):  # noticed while idle; and not before the next run
        await asyncio.gather(*(pool.run(PID, Call(SLEEP, [0.05])) for _ in range(4)))
        assert server.backends() == 4
        server.terminate()  # blocks the event loop, which thus notices nothing by itself
        await asyncio.sleep(pause)
        responses = await asyncio.gather(*(pool.run(call("select 1")) for _ in range(20)))
        assert responses == [[[(1,)]]] * 20


async def test_a_terminated_run_raises_and_is_not_repeated(
    pool: PipelinePool, server: Server
) -> None:
    server.execute("create sequence started")
    await pool.run(PID)
    task = asyncio.create_task(pool.run(call("select nextval('started')"), Call(SLEEP, [30]), PID))
    await server.until(lambda: server.backends("active") == 1)
    server.terminate()
    with pytest.raises(AdminShutdown) as caught:
        await task
    assert isinstance(caught.value, psycopg.OperationalError)
    assert await pool.run(call("select 1")) == [[(1,)]]
    assert server.value("select last_value from started") == 1


@pytest.mark.parametrize("pause", [0.1, 0])
async def test_a_run_survives_connections_cut_while_idle(
    make_pool: MakePool, proxy: Proxy, proxied: str, pause: float
) -> None:
    pool = make_pool(proxied, size=3)
    await asyncio.gather(*(pool.run(Call(SLEEP, [0.05])) for _ in range(3)))
    proxy.cut()
    await asyncio.sleep(pause)
    assert await pool.run(call("select 1")) == [[(1,)]]


async def test_the_farewell_of_the_server_is_enough_to_leave_a_connection(
    make_pool: MakePool, proxy: Proxy, proxied: str, server: Server
) -> None:
    pool = make_pool(proxied)
    [[pid]] = await pool.run(PID)
    proxy.keeps_open = True
    server.terminate()
    await asyncio.sleep(0.1)
    [[other]] = await asyncio.wait_for(pool.run(PID), 60)
    assert other != pid
    proxy.cut()


async def test_a_run_cut_before_any_response_is_repeated_once_if_the_connection_was_pooled(
    make_pool: MakePool, proxy: Proxy, proxied: str
) -> None:
    pool = make_pool(proxied)
    await pool.run(PID)
    proxy.cut_at_next_send = True
    proxy.sent.clear()
    assert await pool.run(call("select 'again'")) == [[("again",)]]
    assert sum(b"again" in sent for sent in proxy.sent) == 2


async def test_a_run_cut_on_a_fresh_connection_raises(
    make_pool: MakePool, proxy: Proxy, proxied: str, server: Server
) -> None:
    pool = make_pool(proxied)
    task = asyncio.create_task(pool.run(Call(SLEEP, [30])))
    await server.until(lambda: server.backends("active") == 1)
    proxy.cut()
    with pytest.raises(psycopg.OperationalError):
        await task
    assert await pool.run(call("select 1")) == [[(1,)]]


async def test_a_failed_connect_leaves_room_for_the_next(
    make_pool: MakePool, proxy: Proxy, proxied: str
) -> None:
    password = str(conninfo_to_dict(proxied).get("password", "hunter2"))
    pool = make_pool(make_conninfo(proxied, password=password), size=1)
    await pool.run(PID)
    proxy.stop()
    outcomes = await asyncio.gather(*(pool.run(PID) for _ in range(5)), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, psycopg.OperationalError)
        assert password not in f"{outcome!r} {outcome.__cause__!r} {outcome.__context__!r}"
        assert outcome.pgconn is None
    await proxy.start()
    assert await pool.run(call("select 1")) == [[(1,)]]


async def test_a_host_name_is_resolved(make_pool: MakePool, proxied: str) -> None:
    pool = make_pool(make_conninfo(proxied, host="localhost"))
    assert await pool.run(call("select 1")) == [[(1,)]]


async def test_a_server_that_never_responds_ends_the_connect_in_time() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        pool = PipelinePool(f"postgresql://u:hunter2@127.0.0.1:{port}/d", connect_timeout=0.2)
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match=r"within 0\.2 s") as caught:
            await pool.run(PID)
        assert time.monotonic() - started >= 0.19
        assert "hunter2" not in str(caught.value)
        await pool.close()


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
def test_a_malformed_connection_string_is_rejected_without_being_quoted(conninfo: str) -> None:
    with pytest.raises(psycopg.ProgrammingError) as caught:
        PipelinePool(conninfo)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_it_runs_cancels_and_reconnects_on_uvloop(conninfo: str, server: Server) -> None:
    async def main() -> None:
        assert "uvloop" in type(asyncio.get_running_loop()).__module__
        pool = PipelinePool(conninfo, size=1)
        [[pid]] = await pool.run(PID)
        texts = [str(n) * (1 << 20) for n in range(5)]
        calls = [call("select $1::text", text) for text in texts]
        assert await pool.run(*calls) == [[(text,)] for text in texts]
        task = asyncio.create_task(pool.run(Call(SLEEP, [60])))
        await server.until(lambda: server.backends("active") == 1)
        task.cancel()
        assert await pool.run(PID) == [[pid]]
        server.terminate()
        assert await pool.run(PID) != [[pid]]
        running = asyncio.create_task(pool.run(Call(SLEEP, [60])))
        await server.until(lambda: server.backends("active") == 1)
        server.terminate()
        with pytest.raises(AdminShutdown):
            await running
        assert await pool.run(call("select 1")) == [[(1,)]]
        await pool.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_reset_that_leaves_something_to_read_is_noticed_on_uvloop(
    conninfo: str, server: Server
) -> None:
    relay = Proxy(server.info)

    async def main() -> None:
        address = make_conninfo(conninfo, host="127.0.0.1", port=relay.port, sslmode="disable")
        pool = PipelinePool(address)
        large = call("select repeat('x', 1 << 22)")
        await pool.run(large)
        relay.reset_at_next_answer = True
        again = asyncio.create_task(pool.run(large))
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 — both the bytes and the reset arrive meanwhile
        await asyncio.wait([again], timeout=60)
        assert not relay.reset_at_next_answer
        assert again.done()
        assert again.result() == [[("x" * (1 << 22),)]]
        await pool.close()

    elsewhere = asyncio.new_event_loop()
    thread = threading.Thread(target=elsewhere.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(relay.start(), elsewhere).result(60)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        asyncio.run_coroutine_threadsafe(relay.shut(), elsewhere).result(60)
        elsewhere.call_soon_threadsafe(elsewhere.stop)
        thread.join()
        elsewhere.close()
