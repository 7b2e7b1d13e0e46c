"""What waits for one subscriber."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Self, TypeVar

from amphibase.errors import AmphibaseError

RECHECK_SECONDS = 15
"""How old the decision of a topic's rule may be when something is delivered."""

Item = TypeVar("Item")


class DeliveryQueue(ABC, Generic[Item]):
    """What one subscriber has not taken yet.

    Args:
        max_queued: how many items may wait.
        recheck: raises Forbidden when the subscriber is not admitted any more.
    """

    def __init__(self, max_queued: int, recheck: Callable[[], Awaitable[None]]) -> None:
        self._max_queued = max_queued
        self._recheck = recheck
        self._checked = time.monotonic()
        self._queue: deque[Item] = deque()
        self._changed = asyncio.Event()
        self._error: AmphibaseError | None = None

    def put(self, item: Item) -> None:
        """Add an item, unless the subscription has ended."""
        if self._error is not None:
            return
        if len(self._queue) >= self._max_queued:
            self._overflow()
            return
        self._queue.append(item)
        self._changed.set()

    def end(self, error: AmphibaseError) -> None:
        """Raise the error after the items that wait."""
        self._error = self._error or error
        self._changed.set()

    @abstractmethod
    def _overflow(self) -> None:
        """Decide what happens where one more item comes than may wait."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """Return the next item, however long it takes."""
        await self._wait()
        await self._check_access()
        return self._queue.popleft()

    async def batch(self, wait: float) -> Sequence[Item]:
        """Return the items that wait, none after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wait()
        await self._check_access()
        items = list(self._queue)
        self._queue.clear()
        return items

    async def _wait(self) -> None:
        """Wait for an item. Raises why the subscription has ended."""
        while not self._queue:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()

    async def _check_access(self) -> None:
        now = time.monotonic()
        if now - self._checked >= RECHECK_SECONDS:
            await self._recheck()
            self._checked = now
