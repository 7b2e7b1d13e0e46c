"""Listens to what all processes send, while this one has subscribers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from amphibase.errors import AmphibaseError, Unavailable
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.messages")

CANCEL_SECONDS = 1


class MessageTransport(Protocol):
    """Carries texts from each process to all of them."""

    async def send(self, text: str) -> None:
        """Send a text. Raises Unavailable."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[str]]]:
        """Open the stream of all texts that are sent after the block is entered.

        It ends with an error where texts may have been missed. Now and then a batch is empty.
        """


class _Connection:
    """One connection to the transport, and the task that reads it."""

    def __init__(self, listener: "TransportListener") -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self.task = asyncio.create_task(listener.run(self))


class TransportListener:
    """One connection to a transport, shared by all who need it.

    Args:
        deliver: gets each text.
        lose: gets the error when texts may have been missed; the connection has ended then.
    """

    def __init__(
        self,
        transport: MessageTransport,
        deliver: Callable[[str], None],
        lose: Callable[[AmphibaseError], None],
    ) -> None:
        self._transport = transport
        self._deliver = deliver
        self._lose = lose
        self._users = 0
        self._connection: _Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for the block, which is entered when nothing is missed any more.

        Raises:
            Unavailable: the transport cannot be reached.
        """
        self._users += 1
        try:
            if self._connection is None:
                self._connection = _Connection(self)
                self._tasks.add(self._connection.task)
                self._connection.task.add_done_callback(self._tasks.discard)
            await asyncio.shield(self._connection.ready)
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._stop()

    async def close(self) -> None:
        """Stop to listen."""
        tasks = list(self._tasks)
        self._stop()
        while tasks:
            for task in tasks:
                task.cancel()
            _, pending = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
            tasks = list(pending)

    async def run(self, connection: _Connection) -> None:
        """Pass texts on until it is cancelled or the transport fails."""
        try:
            async with self._transport.listen() as batches:
                connection.ready.set_result(None)
                async for texts in batches:
                    for text in texts:
                        self._deliver(text)
                    # On Python 3.11, `wait_for` of psycopg may swallow the cancellation.
                    if self._connection is not connection:
                        return
        except Exception as error:
            logger.warning("The messages of topics were interrupted: %s", error)
            reason = error if isinstance(error, AmphibaseError) else Unavailable()
            if not connection.ready.done():
                connection.ready.set_exception(reason)
            if self._connection is connection:
                self._connection = None
                self._lose(Unavailable("The connection was lost: messages may have been missed"))

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.task.cancel()
            if not self._connection.ready.done():
                self._connection.ready.set_exception(Unavailable("The backend was closed"))
            self._connection = None
