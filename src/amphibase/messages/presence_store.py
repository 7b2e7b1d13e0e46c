"""What a backend keeps of the presences of all its processes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from pydantic_core import from_json

from amphibase.backend import Presence

MAX_PRESENCES = 1000
"""On one topic: whoever comes gets them all."""

BEAT_SECONDS = 10
"""How often a process says that it is alive."""
LIFETIME_SECONDS = 30
"""After which a silent process has ended, and those who were present by way of it have gone."""


@dataclass(frozen=True, slots=True)
class StoredPresence:
    """A presence as it is stored.

    Attributes:
        topic: its name.
        process: the id of the process that its connection is to.
        text: its payload as JSON.
    """

    topic: str
    process: str
    presence: Presence
    text: str

    @classmethod
    def of(cls, id: str, topic: str, process: str, user_id: str | None, text: str) -> Self:
        """Return the presence that has these values in the store; an empty user is none."""
        presence = Presence(id, UUID(user_id) if user_id else None, from_json(text))
        return cls(topic, process, presence, text)

    @property
    def values(self) -> dict[str, str | None]:
        """The values in the store, by the names of the columns."""
        user_id = self.presence.user_id
        return {
            "id": self.presence.id,
            "topic": self.topic,
            "process": self.process,
            "user_id": None if user_id is None else str(user_id),
            "payload": self.text,
        }


class PresenceStore(Protocol):
    """The presences of all processes, and which of these are alive. Each call may raise
    Unavailable."""

    async def put(self, stored: StoredPresence, most: int) -> bool:
        """Add a presence, or replace its payload.

        Args:
            most: how many there may be on its topic.

        Returns:
            False where the topic is full.
        """

    async def remove(self, presences: Collection[StoredPresence]) -> None:
        """Remove presences, those of them that are there."""

    async def read(
        self, topic: str, ids: Collection[str] | None = None
    ) -> Sequence[StoredPresence]:
        """Return the presences of living processes on a topic, the oldest first.

        Args:
            ids: only these.
        """

    async def beat(self, process: str) -> "Beat":
        """Record that a process is alive, and remove those that are not, with their presences."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process learns when it says that it is alive.

    Attributes:
        was_alive: whether the others still took it to be.
        alive: the ids of the processes that are, its own among them.
    """

    was_alive: bool
    alive: frozenset[str]
