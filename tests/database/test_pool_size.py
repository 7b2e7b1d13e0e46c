"""The pool to Postgres: runs that are cancelled, and the connections they share."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import psycopg
import pytest
from psycopg.errors import AdminShutdown
from tests.database.pools import PID, SLEEP, MakePool, Proxy, Server, call

from amphibase.database.pool import PoolTimeout
from amphibase.database.statement import Call

# Cancellation


async def test_a_cancelled_run_stops_on_the_server_and_gives_its_connection_back(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=1)
    [[pid]] = await pool.run(PID)
    task = asyncio.create_task(pool.run(call("select 'stale'"), Call(SLEEP, [60])))
    await server.until(lambda: server.backends("active") == 1)
    task.cancel()
    for _ in range(2):  # turns of the loop, in which no response comes
        await asyncio.sleep(0)
    assert task.cancelled()
    await server.until(lambda: server.backends("active") == 0)
    assert await pool.run(PID) == [[pid]]


async def test_runs_cancelled_at_any_moment_cost_no_connection_and_mix_no_responses(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=3, acquire_timeout=30)
    rng = random.Random(7)

    async def caller(number: int) -> None:
        calls = call("select $1::int", number), Call(SLEEP, [rng.random() / 100])
        task = asyncio.create_task(pool.run(*calls))
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() / 5)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert (await task)[0] == [(number,)]

    await asyncio.gather(*(caller(number) for number in range(300)))
    responses = await asyncio.gather(*(pool.run(PID, Call(SLEEP, [0.1])) for _ in range(3)))
    assert len({pid for [[pid], _] in responses}) == 3
    await server.until(lambda: server.backends() == 3)


async def test_a_run_cancelled_while_it_connects_leaves_room_for_the_next(
    make_pool: MakePool,
) -> None:
    pool = make_pool(size=1, acquire_timeout=20)
    for turns in range(8):
        task = asyncio.create_task(pool.run(PID))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await pool.run(call("select 1")) == [[(1,)]]


async def test_a_cancel_request_that_gets_lost_is_repeated(
    make_pool: MakePool, proxy: Proxy, proxied: str, server: Server
) -> None:
    pool = make_pool(proxied, size=1)
    [[pid]] = await pool.run(PID)
    task = asyncio.create_task(pool.run(Call(SLEEP, [60])))
    await server.until(lambda: server.backends("active") == 1)
    proxy.cut_at_next_send = True  # the cancel request is what is sent next
    task.cancel()
    await server.until(lambda: server.backends("active") == 0)
    assert await pool.run(PID) == [[pid]]


async def test_a_connection_that_cannot_be_cancelled_is_replaced(
    make_pool: MakePool, proxy: Proxy, proxied: str, server: Server
) -> None:
    pool = make_pool(proxied, size=1)
    [[pid]] = await pool.run(PID)
    task = asyncio.create_task(pool.run(Call(SLEEP, [60])))
    await server.until(lambda: server.backends("active") == 1)
    proxy.refuse()
    task.cancel()
    with pytest.raises(psycopg.OperationalError):
        await pool.run(PID)
    await proxy.start()
    [[other]] = await pool.run(PID)
    assert other != pid


# The pool


async def test_the_pool_grows_as_needed_and_never_beyond_its_size(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=3)
    for _ in range(5):
        await pool.run(PID)
    assert server.backends() == 1
    responses = await asyncio.gather(*(pool.run(PID, Call(SLEEP, [0.02])) for _ in range(12)))
    assert len({pid for [[pid], _] in responses}) == 3
    assert server.backends() == 3
    one_by_one = [await pool.run(PID) for _ in range(5)]
    assert one_by_one == [one_by_one[0]] * 5  # the one used last, so that the others can rest


async def test_a_run_that_finds_no_free_connection_in_time_raises(make_pool: MakePool) -> None:
    pool = make_pool(size=1, acquire_timeout=0.2)
    async with pool.transaction() as run:
        await run(PID)
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="no connection free"):
            await pool.run(PID)
        assert time.monotonic() - started >= 0.19
    assert await pool.run(call("select 1")) == [[(1,)]]


async def test_each_run_that_waits_too_long_raises_in_its_own_time(make_pool: MakePool) -> None:
    pool = make_pool(size=1, acquire_timeout=60)
    held = asyncio.Event()

    async def hold() -> None:
        async with pool.transaction() as run:
            await run(PID)
            await held.wait()

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    pool._acquire_timeout = 0.2
    first = asyncio.create_task(pool.run(PID))
    await asyncio.sleep(0)
    pool._acquire_timeout = 2
    second = asyncio.create_task(pool.run(PID))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert done == {first}
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [PoolTimeout] * 2
    held.set()
    await holding


async def test_waiting_runs_are_served_in_their_order(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    order: list[int] = []

    async def caller(number: int) -> None:
        await pool.run(Call(SLEEP, [0.01]))
        order.append(number)

    await asyncio.gather(*(caller(number) for number in range(10)))
    assert order == list(range(10))


async def test_a_waiting_run_that_is_cancelled_loses_no_connection(make_pool: MakePool) -> None:
    pool = make_pool(size=1, acquire_timeout=20)
    for then_cancel in (True, False):
        async with pool.transaction() as run:
            await run(PID)
            waiter = asyncio.create_task(pool.run(PID))
            behind = asyncio.create_task(pool.run(call("select 'behind'")))
            await asyncio.sleep(0)
            if not then_cancel:
                waiter.cancel()
        if then_cancel:
            waiter.cancel()  # the connection is already promised to it
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await behind == [[("behind",)]]
        assert await pool.run(call("select 1")) == [[(1,)]]


async def test_a_waiter_takes_the_place_of_a_connection_that_broke(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=1, acquire_timeout=20)
    running = asyncio.create_task(pool.run(Call(SLEEP, [30])))
    await server.until(lambda: server.backends("active") == 1)
    waiting = asyncio.create_task(pool.run(call("select 1")))
    await asyncio.sleep(0.02)
    server.terminate()
    with pytest.raises(AdminShutdown):
        await running
    assert await waiting == [[(1,)]]


async def test_a_closed_wire_rejects_runs_and_keeps_no_connection(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(size=2)
    server.execute("select pg_advisory_lock(7)")
    wait = call("select pg_advisory_lock_shared(7)::text")
    runs = [asyncio.create_task(pool.run(PID, wait)) for _ in range(3)]
    cancelled = asyncio.create_task(pool.run(PID))
    await server.until(lambda: server.backends("active") == 2)
    cancelled.cancel()
    await pool.close()
    server.execute("select pg_advisory_unlock(7)")
    assert len((await runs[0])[0]) == len((await runs[1])[0]) == 1
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await runs[2]
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await pool.run(PID)
    await server.until(lambda: server.backends() == 0)
