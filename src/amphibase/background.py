"""Work that goes on after the response, such as sending email, so that the time of a response
does not reveal it."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from amphibase.errors import AmphibaseError
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.background")

Result = TypeVar("Result")

MAX_TASKS = 1000
CLOSE_SECONDS = 10


class Background:
    """Runs coroutines after the response; errors are logged, since no request waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        """Start the work now.

        Args:
            what: names it in the log when it fails, or is dropped because too much is under way.
        """
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            logger.error("%s was dropped: too much is waiting", what)
            return
        task = asyncio.create_task(self._guarded(what, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except AmphibaseError as error:
            logger.error("%s failed: %s", what, error.detail)
        except Exception:
            logger.exception("%s failed", what)

    async def settle(self) -> None:
        """Wait until all that was started is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Let what is under way finish, for a few seconds; then cancel it."""
        try:
            await asyncio.wait_for(self.settle(), CLOSE_SECONDS)
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def uninterrupted(work: Awaitable[Result]) -> Result:
    """Wait for the end of the work; a cancellation meanwhile is raised after it."""
    running = asyncio.ensure_future(work)
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not running.cancelled():
            running.exception()  # retrieved, so that asyncio does not log it as never retrieved
        raise asyncio.CancelledError
    return running.result()
