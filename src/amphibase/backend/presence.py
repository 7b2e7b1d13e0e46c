"""Presence: who is on a topic now, and the stream of those who join and leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Presence:
    """One who is on a topic: a connection of a user, who may have several.

    Attributes:
        id: of the connection, for as long as it is present.
        user_id: whose token it was; None for the service and anonymous callers.
        payload: the JSON object it was tracked with. Subscribers share it, so it is not for
            changing.
    """

    id: str
    user_id: UUID | None
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PresenceSync:
    """All presences on the topic: the first event, and one that replaces all before it."""

    presences: Sequence[Presence]


@dataclass(frozen=True, slots=True)
class PresenceJoin:
    """A presence has joined the topic."""

    presence: Presence


@dataclass(frozen=True, slots=True)
class PresenceUpdate:
    """A presence on the topic has another payload."""

    presence: Presence


@dataclass(frozen=True, slots=True)
class PresenceLeave:
    """A presence has left the topic: untracked, disconnected, or with a process that has ended."""

    presence: Presence


PresenceEvent: TypeAlias = PresenceSync | PresenceJoin | PresenceUpdate | PresenceLeave


class Presences(Protocol):
    """Who is on a topic, and one's own presence there, as `Backend.presence` opens them.

    The rules of the topic are applied again before a delivery when their last decision is more
    than 15 seconds old: `read`, and `write` for who is tracked.
    """

    @property
    def state(self) -> Sequence[Presence]:
        """Those who are there now, in the order in which they came."""

    async def track(self, payload: Mapping[str, Any]) -> None:
        """Be present with a payload, until `untrack` or the end of the block.

        Once more, it replaces the payload; the same payload changes nothing.

        Args:
            payload: a JSON object of at most 1,000 bytes.

        Raises:
            Forbidden: the `write` rule of the topic does not admit the caller.
            InvalidValue: the payload is not an object, or cannot be written as JSON.
            PayloadTooLarge: it has too many bytes.
            TooManyRequests: 1,000 are on the topic already.
            Unavailable: the database cannot be reached.
        """

    async def untrack(self) -> None:
        """Be absent; still those who are present are shown."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> PresenceEvent:
        """Return the next event, however long it takes.

        Who takes events more slowly than they come gets a `PresenceSync` instead of those that
        wait.

        Raises:
            Forbidden: a rule of the topic does not admit the caller any more.
            Unavailable: the database could not be reached; open it again.
        """

    async def batch(self, wait: float) -> Sequence[PresenceEvent]:
        """Return the next events, those that have come.

        Args:
            wait: seconds after which it returns without any.
        """
