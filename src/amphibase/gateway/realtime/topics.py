"""Topics: who receives what is sent to a name."""

import asyncio
from collections.abc import Hashable, Iterator
from typing import Protocol

from amphibase.gateway.realtime.frames import Push
from amphibase.gateway.realtime.join import TOPIC_PREFIX
from amphibase.gateway.realtime.presence import ChannelPresences


class Subscriber(Hashable, Protocol):
    """A channel of one socket."""

    @property
    def receives_broadcasts(self) -> bool:
        """Whether it may read broadcasts."""

    @property
    def receives_presence(self) -> bool:
        """Whether it wants to know who is present, and may."""

    def push(self, push: Push) -> None:
        """Send a message to the client."""


class ChannelTopic:
    """Those who have joined one topic. A public and a private one of the same name are two.

    Attributes:
        name: without the prefix `realtime:`.
    """

    def __init__(self, name: str, *, is_private: bool) -> None:
        self.name = name
        self.is_private = is_private
        self.presences = ChannelPresences(self._flush_soon)
        self._subscribers: set[Subscriber] = set()

    @property
    def wire_name(self) -> str:
        """The name as messages have it."""
        return TOPIC_PREFIX + self.name

    @property
    def is_empty(self) -> bool:
        return not self._subscribers

    def add(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber, and let it be absent."""
        self._subscribers.discard(subscriber)
        self.presences.untrack(subscriber)

    def receivers(self, sender: Subscriber | None = None) -> list[Subscriber]:
        """Return those who receive a broadcast.

        Args:
            sender: who does not.
        """
        return [
            each for each in self._subscribers if each.receives_broadcasts and each is not sender
        ]

    def push_state(self, subscriber: Subscriber) -> None:
        """Send a subscriber everybody who is present; later diffs follow on it."""
        self._flush()
        subscriber.push(Push(self.wire_name, "presence_state", self.presences.state()))

    def _flush_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        diff = self.presences.take_diff()
        if diff is None:
            return
        push = Push(self.wire_name, "presence_diff", diff)
        for subscriber in self._subscribers:
            if subscriber.receives_presence:
                subscriber.push(push)


class Topics:
    """All topics that somebody has joined."""

    def __init__(self) -> None:
        self._topics: dict[tuple[str, bool], ChannelTopic] = {}

    def __iter__(self) -> Iterator[ChannelTopic]:
        return iter(list(self._topics.values()))

    def find(self, name: str, *, is_private: bool) -> ChannelTopic | None:
        """Return a topic; None where nobody has joined it."""
        return self._topics.get((name, is_private))

    def join(self, name: str, subscriber: Subscriber, *, is_private: bool) -> ChannelTopic:
        """Add a subscriber to a topic."""
        key = name, is_private
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = ChannelTopic(name, is_private=is_private)
        topic.add(subscriber)
        return topic

    def leave(self, topic: ChannelTopic, subscriber: Subscriber) -> None:
        """Remove a subscriber from its topic."""
        topic.remove(subscriber)
        if topic.is_empty:
            self._topics.pop((topic.name, topic.is_private), None)
