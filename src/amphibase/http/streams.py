"""Long responses: how many there may be, and when they end."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from starlette.requests import HTTPConnection

from amphibase.backend import Backend, Caller
from amphibase.errors import InvalidToken, TooManyRequests, Unavailable
from amphibase.rate_limits import client_of
from amphibase.shutdown import at_shutdown

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")

HEARTBEAT_SECONDS = 15
"""A proxy closes a connection that is silent for longer, most after 60 seconds."""
RETRY_SECONDS = 2
"""After which a client opens its stream again."""


class Batches(Protocol[Item_co]):
    """A stream that is read in batches."""

    async def batch(self, wait: float) -> Sequence[Item_co]:
        """Return the next items, none after so many seconds."""


class StreamLimiter:
    """Counts the streams that are open in this process.

    Args:
        per_caller: how many one user, or one address of anonymous callers, may have.
        total: how many there may be together.
    """

    def __init__(self, per_caller: int, total: int) -> None:
        self._per_caller = per_caller
        self._total = total
        self._open: Counter[str] = Counter()

    @contextmanager
    def slot(self, who: str) -> Iterator[None]:
        """Take the place of one stream for the block.

        Args:
            who: a user's id or a client's address.

        Raises:
            TooManyRequests: they have too many already, or all together have.
        """
        if self._open[who] >= self._per_caller or self._open.total() >= self._total:
            raise TooManyRequests(retry_after=HEARTBEAT_SECONDS)
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]

    def slot_of(self, connection: HTTPConnection, caller: Caller) -> AbstractContextManager[None]:
        """Take the place of one stream of a caller, identified by their address where anonymous.

        Raises:
            TooManyRequests: they have too many already, or all together have.
        """
        client = connection.client
        who = caller.user_id or client_of(client.host if client else None)
        return self.slot(str(who))


async def batches(
    stream: Batches[Item], caller: Caller, backend: Backend
) -> AsyncIterator[Sequence[Item]]:
    """Yield the batches of a stream, an empty one at each heartbeat, until the caller's token ends.

    Raises:
        InvalidToken, SessionEnded, UserBanned: the token does not hold any more.
        Unavailable: something is to be delivered, and it cannot be checked whether it does: what
            carries messages (Redis) may be there while the accounts are not.
    """
    checked = time.monotonic()
    while True:
        remaining = _seconds_left(caller)
        if remaining <= 0:
            raise InvalidToken("The access token has expired")
        batch = await stream.batch(min(HEARTBEAT_SECONDS, remaining))
        if time.monotonic() - checked >= HEARTBEAT_SECONDS and caller.token is not None:
            try:
                await backend.accounts.authenticate(caller.token)
                checked = time.monotonic()
            except Unavailable:
                if batch:
                    raise
        yield batch


def _seconds_left(caller: Caller) -> float:
    expires = caller.claims.get("exp")
    return float(expires) - time.time() if isinstance(expires, int | float) else float("inf")


class ServerStopping(Exception):
    """Why a stream ends when its server does."""


async def first_of(*work: Coroutine[Any, Any, Exception]) -> Exception:
    """Run several coroutines until one ends or the server is to stop, and cancel the others.

    Returns:
        What the one returned, or ServerStopping.
    """
    stopping = asyncio.Event()
    tasks = [asyncio.ensure_future(each) for each in work]
    waiting = asyncio.create_task(stopping.wait())
    with at_shutdown(stopping.set):
        try:
            ended, _ = await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
    return next((task.result() for task in tasks if task in ended), ServerStopping())
