"""Who is on a topic, for one subscriber, and their own presence there."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

from pydantic_core import from_json

from amphibase.backend import (
    Caller,
    Presence,
    PresenceEvent,
    PresenceSync,
    RepositorySource,
    TopicAddress,
)
from amphibase.messages.access import require_writer
from amphibase.messages.delivery import DeliveryQueue
from amphibase.messages.encoding import encode_presence
from amphibase.messages.presence_members import ProcessMembers
from amphibase.messages.presence_store import StoredPresence


class PresenceState(Protocol):
    """Who is on a topic now."""

    @property
    def presences(self) -> Sequence[Presence]: ...


class CallerPresence:
    """Stores the presence of one caller on one topic, if its rule admits them."""

    def __init__(
        self,
        address: TopicAddress,
        caller: Caller,
        source: RepositorySource,
        members: ProcessMembers,
    ) -> None:
        self._id = uuid4().hex
        self._address = address
        self._caller = caller
        self._source = source
        self._members = members

    async def put(self, text: str) -> None:
        """Add the presence, or replace its payload. Raises Forbidden, and as `ProcessMembers.put`.

        Args:
            text: the payload as JSON.
        """
        await require_writer(self._address, self._caller, self._source)
        presence = Presence(self._id, self._caller.user_id, from_json(text))
        process = self._members.process
        await self._members.put(StoredPresence(self._address.name, process, presence, text))

    async def remove(self) -> None:
        """Remove the presence. Raises Unavailable."""
        await self._members.remove(self._id)

    def drop(self) -> None:
        """Remove the presence soon."""
        self._members.drop(self._id)


class PresenceStream(DeliveryQueue[PresenceEvent]):
    """The events of a topic's presence that one subscriber has not taken yet.

    One who is too slow gets the state anew.

    Args:
        recheck: as `DeliveryQueue`, and whether the caller may still be present where they are.
    """

    def __init__(
        self,
        state: PresenceState,
        presence: CallerPresence,
        max_queued: int,
        recheck: Callable[[bool], Awaitable[None]],
    ) -> None:
        super().__init__(max_queued, lambda: recheck(self.is_tracked))
        self._state = state
        self._presence = presence
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
                await self._presence.put(text)
            except BaseException:
                self.leave()
                raise

    async def untrack(self) -> None:
        """Be absent."""
        async with self._tracking:
            if self._text is not None:
                await self._presence.remove()
                self._text = None

    def leave(self) -> None:
        """Be absent soon."""
        if self._text is not None:
            self._presence.drop()
            self._text = None

    def synchronize(self) -> None:
        """Replace the events that wait by the state."""
        self._queue.clear()
        self.put(PresenceSync(self.state))

    def _overflow(self) -> None:
        self.synchronize()
