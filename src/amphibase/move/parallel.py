"""Several things at once, never more than so many, and at the pace that a server demands."""

import asyncio
import random
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from amphibase.errors import (
    Forbidden,
    MoveFailed,
    Retryable,
    StorageFull,
    TooManyRequests,
    Unauthenticated,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

KEY_REJECTED = (
    "The project rejects the service's key: it has expired, was revoked or is another project's. "
    "Set SUPABASE_SERVICE_KEY, or that of the end (SOURCE_…, TARGET_…), and run again"
)

ATTEMPTS = 8
FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 30.0


async def in_parallel(
    items: Iterable[Item] | AsyncIterable[Item],
    work: Callable[[Item], Awaitable[None]],
    limit: int,
) -> None:
    """Do the work for each item, at most `limit` at once; items are taken as there is room.

    Raises:
        Exception: the first that the work raised; what was under way is cancelled.
    """
    room = asyncio.Semaphore(limit)

    async def run(item: Item) -> None:
        try:
            await work(item)
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    await room.acquire()
                    group.create_task(run(item))
            else:
                for item in items:
                    await room.acquire()
                    group.create_task(run(item))
    except* Exception as failures:
        raise _first(failures) from None


async def run_all(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all at the same time until they end; where one fails, cancel the others.

    Returns:
        Their results, in the same order.

    Raises:
        Exception: the first error.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except* Exception as failures:
        raise _first(failures) from None
    return [task.result() for task in tasks]


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure


class Pace:
    """Repeats requests that fail for a while, and holds all back while the server demands it.

    Args:
        clock: returns seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._resume_at = 0.0

    async def keep(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Send a request that may be sent again, until it succeeds or has failed ATTEMPTS times.

        After 429 no request is sent for as long as `Retry-After` says.

        Raises:
            Retryable: the last failure.
            StorageFull: at once, since waiting makes no room.
            MoveFailed: the server rejects the key.
        """
        try:
            return await self._repeated(request)
        except (Unauthenticated, Forbidden):
            raise MoveFailed(KEY_REJECTED) from None

    async def _repeated(self, request: Callable[[], Awaitable[Result]]) -> Result:
        for attempt in range(1, ATTEMPTS):
            while (wait := self._resume_at - self._clock()) > 0:
                await self._sleep(wait)
            try:
                return await request()
            except StorageFull:
                raise
            except TooManyRequests as error:
                self._resume_at = max(self._resume_at, self._clock() + error.retry_after)
            except Retryable:
                longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
                await self._sleep(random.uniform(longest / 2, longest))  # noqa: S311 - no secret
        return await request()
