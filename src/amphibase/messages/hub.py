"""Passes the messages of a backend on to the subscribers of this process."""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, Self

from amphibase.backend import Caller, Message, RepositorySource, TopicAddress
from amphibase.errors import AmphibaseError, SlowSubscriber, Unavailable
from amphibase.messages.access import require_reader, require_writer
from amphibase.messages.encoding import decode, encode
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.messages")

CANCEL_SECONDS = 1
RECHECK_SECONDS = 15
"""How old the decision of a topic's rule may be when a message is delivered."""


class MessageTransport(Protocol):
    """Carries texts from each process to all of them."""

    async def send(self, text: str) -> None:
        """Send a text. Raises Unavailable."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[str]]]:
        """Open the stream of all texts that are sent after the block is entered.

        It ends with an error where texts may have been missed. Now and then a batch is empty.
        """


class Subscription:
    """The messages of a topic that one subscriber has not taken yet.

    Args:
        max_queued: how many may wait. One more ends it.
        recheck: raises Forbidden when the subscriber is not admitted any more.
    """

    def __init__(self, max_queued: int, recheck: Callable[[], Awaitable[None]]) -> None:
        self._max_queued = max_queued
        self._recheck = recheck
        self._checked = time.monotonic()
        self._queue: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._error: AmphibaseError | None = None

    def put(self, message: Message) -> None:
        """Add a message, unless the subscription has ended."""
        if self._error is not None:
            return
        if len(self._queue) >= self._max_queued:
            self.end(SlowSubscriber())
            return
        self._queue.append(message)
        self._changed.set()

    def end(self, error: AmphibaseError) -> None:
        """Raise the error after the messages that wait."""
        self._error = self._error or error
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, however long it takes."""
        await self._wait()
        await self._check_access()
        return self._queue.popleft()

    async def batch(self, wait: float) -> Sequence[Message]:
        """Return the messages that wait, none after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wait()
        await self._check_access()
        messages = list(self._queue)
        self._queue.clear()
        return messages

    async def _wait(self) -> None:
        """Wait for a message. Raises why the subscription has ended."""
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


class _Listener:
    """One connection to the transport, shared by all subscribers."""

    def __init__(self, hub: "MessageHub") -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self.task = asyncio.create_task(hub.run(self))


class MessageHub:
    """Publishes messages, and passes those of all processes on to the subscribers of this one.

    It listens while there are subscribers.

    Args:
        source: of the rows that the rules of topics look at.
        max_queued: how many messages may wait for one subscriber.
    """

    def __init__(
        self, transport: MessageTransport, source: RepositorySource, max_queued: int
    ) -> None:
        self._transport = transport
        self._source = source
        self._max_queued = max_queued
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._listener: _Listener | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, address: TopicAddress, payload: object, caller: Caller) -> None:
        """Send a message to the subscribers of a topic, in every process."""
        await require_writer(address, caller, self._source)
        await self._transport.send(encode(address.name, caller.user_id, payload))

    @asynccontextmanager
    async def subscribe(self, address: TopicAddress, caller: Caller) -> AsyncIterator[Subscription]:
        """Open the stream of what is published on a topic from now on."""

        async def require_access() -> None:
            await require_reader(address, caller, self._source)

        await require_access()
        subscription = Subscription(self._max_queued, require_access)
        self._subscriptions[address.name].add(subscription)  # before, so that the listener stays
        try:
            await self._listening()
            yield subscription
        finally:
            self._remove(address.name, subscription)

    async def close(self) -> None:
        """End every subscription, and stop to listen."""
        self._end_all(Unavailable("The backend was closed"))
        tasks = list(self._tasks)
        self._stop()
        while tasks:
            for task in tasks:
                task.cancel()
            _, pending = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
            tasks = list(pending)

    async def run(self, listener: _Listener) -> None:
        """Pass messages on until it is cancelled or the transport fails."""
        try:
            async with self._transport.listen() as batches:
                listener.ready.set_result(None)
                async for texts in batches:
                    for text in texts:
                        self._deliver(text)
                    if self._listener is not listener:  # on Python 3.11, wait_for of psycopg may
                        return  # swallow the cancellation
        except Exception as error:
            logger.warning("The messages of topics were interrupted: %s", error)
            reason = error if isinstance(error, AmphibaseError) else Unavailable()
            if not listener.ready.done():
                listener.ready.set_exception(reason)
            if self._listener is listener:
                self._listener = None
                self._end_all(Unavailable("The database was lost: messages may have been missed"))

    async def _listening(self) -> None:
        if self._listener is None:
            self._listener = _Listener(self)
            self._tasks.add(self._listener.task)
            self._listener.task.add_done_callback(self._tasks.discard)
        await asyncio.shield(self._listener.ready)

    def _deliver(self, text: str) -> None:
        try:
            message = decode(text)
        except ValueError:
            logger.warning("A notification that is not a message of Amphibase was ignored")
            return
        for subscription in self._subscriptions.get(message.topic, ()):
            subscription.put(message)

    def _remove(self, name: str, subscription: Subscription) -> None:
        self._subscriptions[name].discard(subscription)
        if not self._subscriptions[name]:
            del self._subscriptions[name]
        if not self._subscriptions:
            self._stop()

    def _stop(self) -> None:
        if self._listener is not None:
            self._listener.task.cancel()
            if not self._listener.ready.done():
                self._listener.ready.set_exception(Unavailable("The backend was closed"))
            self._listener = None

    def _end_all(self, error: AmphibaseError) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end(error)
