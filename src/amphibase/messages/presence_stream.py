"""Who is on a topic, for one subscriber, and their own presence there."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

from amphibase.backend import Presence, PresenceEvent, PresenceSync
from amphibase.messages.delivery import DeliveryQueue
from amphibase.messages.encoding import encode_presence


class PresenceState(Protocol):
    """Who is on a topic now."""

    @property
    def presences(self) -> Sequence[Presence]: ...


class PresenceWriter(Protocol):
    """Stores the presence of one caller on one topic. Each call may raise Unavailable."""

    async def put(self, id: str, text: str) -> None:
        """Add a presence, or replace its payload. Raises Forbidden, TooManyRequests."""

    async def remove(self, id: str) -> None:
        """Remove a presence."""

    def drop(self, id: str) -> None:
        """Remove a presence soon. Raises nothing."""


class PresenceStream(DeliveryQueue[PresenceEvent]):
    """The events of a topic's presence that one subscriber has not taken yet.

    One who is too slow gets the state anew.

    Args:
        recheck: as `DeliveryQueue`, and whether the caller may still be present where they are.
    """

    def __init__(
        self,
        state: PresenceState,
        writer: PresenceWriter,
        max_queued: int,
        recheck: Callable[[bool], Awaitable[None]],
    ) -> None:
        super().__init__(max_queued, lambda: recheck(self.is_tracked))
        self.id = uuid4().hex
        self._state = state
        self._writer = writer
        self._text: str | None = None
        self._tracking = asyncio.Lock()
        self.synchronize()

    @property
    def is_tracked(self) -> bool:
        """Whether the subscriber is present, or may be."""
        return self._text is not None

    @property
    def state(self) -> Sequence[Presence]:
        """Those who are there now, in the order in which they came."""
        return self._state.presences

    async def track(self, payload: Mapping[str, Any]) -> None:
        """Be present with a payload."""
        text = encode_presence(payload)
        async with self._tracking:
            if text == self._text:
                return
            self._text = text
            try:
                await self._writer.put(self.id, text)
            except BaseException:
                self.leave()
                raise

    async def untrack(self) -> None:
        """Be absent."""
        async with self._tracking:
            if self._text is not None:
                await self._writer.remove(self.id)
                self._text = None

    def leave(self) -> None:
        """Be absent soon."""
        if self._text is not None:
            self._writer.drop(self.id)
            self._text = None

    def synchronize(self) -> None:
        """Replace the events that wait by the state."""
        self._queue.clear()
        self.put(PresenceSync(self.state))

    def _overflow(self) -> None:
        self.synchronize()
