"""Requests at the pace that a server demands."""

import asyncio

import pytest

from amphibase.errors import StorageFull, TooManyRequests, Unavailable
from amphibase.move.parallel import ATTEMPTS, Pace, in_parallel


class Clock:
    """A clock that moves by waiting alone."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


async def test_no_request_is_sent_before_the_time_that_a_429_names() -> None:
    clock = Clock()
    pace = Pace(clock, clock.sleep)
    sent: list[float] = []

    async def request() -> None:
        sent.append(clock.seconds)
        if len(sent) == 1:
            raise TooManyRequests(retry_after=70)

    await pace.keep(request)
    await pace.keep(request)
    assert sent == [0, 70, 70]


async def test_a_request_that_keeps_failing_is_given_up_and_one_without_room_at_once() -> None:
    clock = Clock()
    pace = Pace(clock, clock.sleep)
    attempts = 0

    async def request() -> None:
        nonlocal attempts
        attempts += 1
        raise failure

    failure: Exception = Unavailable()
    with pytest.raises(Unavailable):
        await pace.keep(request)
    assert attempts == ATTEMPTS
    failure = StorageFull()
    with pytest.raises(StorageFull):
        await pace.keep(request)
    assert attempts == ATTEMPTS + 1


async def test_no_more_work_is_under_way_than_allowed_and_the_first_error_ends_all() -> None:
    under_way, most, done = 0, 0, 0

    async def work(item: int) -> None:
        nonlocal under_way, most, done
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        if item == 50:
            raise LookupError("50")
        done += 1

    with pytest.raises(LookupError, match="50"):
        await in_parallel(range(1000), work, 4)
    assert most == 4
    assert done < 60
