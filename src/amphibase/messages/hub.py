"""Passes the messages of a backend on to the subscribers of this process."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from amphibase.backend import Caller, Message, RepositorySource, TopicAddress
from amphibase.errors import AmphibaseError, SlowSubscriber, Unavailable
from amphibase.messages.access import require_reader, require_writer
from amphibase.messages.delivery import DeliveryQueue
from amphibase.messages.encoding import PresenceHint, decode, encode
from amphibase.messages.listener import MessageTransport, TransportListener, logger
from amphibase.messages.presence_hub import PresenceHub
from amphibase.messages.presence_store import PresenceStore
from amphibase.messages.presence_stream import PresenceStream


class Subscription(DeliveryQueue[Message]):
    """The messages of a topic that one subscriber has not taken yet; one too many ends it."""

    def _overflow(self) -> None:
        self.end(SlowSubscriber())


class MessageHub:
    """Publishes messages, passes those of all processes on to the subscribers of this one, and
    knows who is present.

    It listens while there are subscribers.

    Args:
        store: has the presences of all processes.
        source: of the rows that the rules of topics look at.
        max_queued: how many messages may wait for one subscriber.
        check: reaches what carries the messages, where nobody else has.
        closing: close what carries the messages, where nobody else does.
    """

    def __init__(
        self,
        transport: MessageTransport,
        store: PresenceStore,
        source: RepositorySource,
        max_queued: int,
        check: Callable[[], Awaitable[None]] | None = None,
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._transport = transport
        self._source = source
        self._max_queued = max_queued
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._listener = TransportListener(transport, self._deliver, self._end_all)
        self._check = check
        self._closing = closing
        self._presences = PresenceHub(transport, store, self._listener, source, max_queued)

    async def publish(self, topic: TopicAddress, payload: object, caller: Caller) -> None:
        """Send a message to the subscribers of a topic, in every process."""
        await require_writer(topic, caller, self._source)
        await self._transport.send(encode(topic.name, caller.user_id, payload))

    @asynccontextmanager
    async def subscribe(self, topic: TopicAddress, caller: Caller) -> AsyncIterator[Subscription]:
        """Open the stream of what is published on a topic from now on."""

        async def require_access() -> None:
            await require_reader(topic, caller, self._source)

        await require_access()
        subscription = Subscription(self._max_queued, require_access)
        self._subscriptions[topic.name].add(subscription)
        try:
            async with self._listener.listening():
                yield subscription
        finally:
            self._remove(topic.name, subscription)

    def presence(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[PresenceStream]:
        """Open the stream of those who join and leave a topic."""
        return self._presences.open(topic, caller)

    async def start(self) -> None:
        """Log where what carries the messages cannot be reached: all else works without it."""
        if self._check is not None:
            try:
                await self._check()
            except Unavailable as error:
                logger.error("%s: %s", error.detail, error.__cause__)

    async def close(self) -> None:
        """End every subscription, let all of this process be absent, and stop to listen."""
        self._end_all(Unavailable("The backend was closed"))
        async with AsyncExitStack() as stack:  # ends with what it was given first
            for close in self._closing:
                stack.push_async_callback(close)
            stack.push_async_callback(self._listener.close)
            stack.push_async_callback(self._presences.close)

    def _deliver(self, text: str) -> None:
        try:
            item = decode(text)
        except ValueError:
            logger.warning("A notification that is not a message of Amphibase was ignored")
            return
        if isinstance(item, PresenceHint):
            self._presences.notice(item)
            return
        for subscription in self._subscriptions.get(item.topic, ()):
            subscription.put(item)

    def _remove(self, name: str, subscription: Subscription) -> None:
        self._subscriptions[name].discard(subscription)
        if not self._subscriptions[name]:
            del self._subscriptions[name]

    def _end_all(self, error: AmphibaseError) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end(error)
        self._presences.end_all(error)
