"""A service opens what it needs once, and closes when nobody needs it."""

import asyncio
from contextlib import suppress

import pytest

from amphibase.errors import Unavailable
from amphibase.gateway.lifetime import Lifetime


async def nothing() -> None:
    pass


async def test_many_who_come_first_open_it_once() -> None:
    opened = []

    async def open() -> None:
        opened.append(True)
        await asyncio.sleep(0)

    lifetime = Lifetime(open, nothing)
    await asyncio.gather(*(lifetime.start() for _ in range(5)))
    await lifetime.start()
    assert opened == [True]


async def test_what_could_not_be_opened_is_tried_again() -> None:
    tries = []

    async def open() -> None:
        tries.append(True)
        if len(tries) == 1:
            raise Unavailable

    lifetime = Lifetime(open, nothing)
    with pytest.raises(Unavailable):
        await lifetime.start()
    await lifetime.start()
    assert len(tries) == 2


async def test_it_closes_when_the_last_request_has_ended() -> None:
    closed = []

    async def close() -> None:
        closed.append(True)

    lifetime = Lifetime(nothing, close)
    with suppress(ZeroDivisionError), lifetime.request():
        with lifetime.request():
            closing = asyncio.create_task(lifetime.close())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert closed == []
        raise ZeroDivisionError
    await closing
    assert closed == [True]
