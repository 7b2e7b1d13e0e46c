"""The payload of `phx_join`: what a client wants of a channel.

As in Supabase Realtime, a field of a wrong type has its default, and booleans may be texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

TOPIC_PREFIX = "realtime:"


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """What a client wants of a channel.

    Attributes:
        acknowledges: whether each broadcast of the client gets a reply.
        sends_back: whether the client receives its own broadcasts.
        presence_key: by which the client is present.
        has_presence: whether it receives who is present.
        is_private: whether policies on `realtime.messages` decide.
        changes: the changes of rows that it wants, as the client writes them.
        token: an access token that counts instead of the socket's; None for that.
    """

    acknowledges: bool
    sends_back: bool
    presence_key: str
    has_presence: bool
    is_private: bool
    changes: Sequence[Mapping[str, Any]]
    token: str | None

    @property
    def needs_feed(self) -> bool:
        """Whether it has what the database sends."""
        return self.is_private or bool(self.changes)

    @classmethod
    def read(cls, payload: Any) -> Self:
        """Read the payload of a join."""
        payload = _object(payload)
        config = _object(payload.get("config"))
        broadcast, presence = _object(config.get("broadcast")), _object(config.get("presence"))
        changes = config.get("postgres_changes")
        key = presence.get("key")
        return cls(
            acknowledges=_flag(broadcast.get("ack")),
            sends_back=_flag(broadcast.get("self")),
            presence_key=key if isinstance(key, str) and key else str(uuid4()),
            has_presence=_flag(presence.get("enabled")),
            is_private=_flag(config.get("private")),
            changes=[each for each in changes if isinstance(each, dict)]
            if isinstance(changes, list)
            else [],
            token=user_token(payload.get("access_token")) or user_token(payload.get("user_token")),
        )


def user_token(value: Any) -> str | None:
    """Return an access token; None for what is none, such as an opaque API key."""
    return value if isinstance(value, str) and not value.startswith("sb_") else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: Any) -> bool:
    return value is True or value == "true"
