"""The payload of `phx_join`: what a client wants of a channel.

As in Supabase Realtime, a field of a wrong type has its default, and booleans may be texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

from amphibase.gateway.realtime.errors import InvalidReplay

TOPIC_PREFIX = "realtime:"

MAX_REPLAYED = 25
"""Of one join."""

MAX_TIME = 2**53
"""In milliseconds; what a number of JavaScript can hold."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Which broadcasts of the database are sent again.

    Attributes:
        since: the oldest, in milliseconds since 1970.
        limit: how many, the newest.
    """

    since: int
    limit: int

    @classmethod
    def read(cls, content: Any, *, is_private: bool) -> Self | None:
        """Read what a join has of it. Raises InvalidReplay."""
        if content is None:
            return None
        if not is_private:
            raise InvalidReplay("Replay is not allowed for public channels")
        values = [content.get("since"), content.get("limit", MAX_REPLAYED)] if (
            isinstance(content, dict)
        ) else []  # fmt: skip
        match values:
            case [int(since), int(limit)] if 0 <= since < MAX_TIME and 0 < limit <= MAX_REPLAYED:
                return cls(since, limit)
        raise InvalidReplay("Replay params are not valid")


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """What a client wants of a channel.

    Attributes:
        acknowledges: whether each broadcast of the client gets a reply.
        sends_back: whether the client receives its own broadcasts.
        presence_key: by which the client is present.
        has_presence: whether it receives who is present.
        is_private: whether policies on `realtime.messages` decide.
        replay: which broadcasts of the database it wants that were sent before; None for none.
        reports_replication: whether it wants to know when broadcasts of the database come.
        changes: the changes of rows that it wants, as the client writes them.
        names_changes: whether changes come as events of the name of their operation, as for the
            clients before 2022, which have no configuration: the topic says what they want.
        token: an access token that counts instead of the socket's; None for that.
    """

    acknowledges: bool
    sends_back: bool
    presence_key: str
    has_presence: bool
    is_private: bool
    replay: Replay | None
    reports_replication: bool
    changes: Sequence[Mapping[str, Any]]
    names_changes: bool
    token: str | None

    @property
    def needs_feed(self) -> bool:
        """Whether it has what the database sends."""
        return self.is_private or self.reports_replication or bool(self.changes)

    @classmethod
    def read(cls, name: str, payload: Any) -> Self:
        """Read the payload of a join.

        Args:
            name: of the topic, without the prefix.

        Raises:
            InvalidReplay: what it wants to be replayed cannot be.
        """
        payload = _object(payload)
        config = _object(payload.get("config"))
        broadcast, presence = _object(config.get("broadcast")), _object(config.get("presence"))
        is_private = _flag(config.get("private"))
        key = presence.get("key")
        return cls(
            acknowledges=_flag(broadcast.get("ack")),
            sends_back=_flag(broadcast.get("self")),
            presence_key=key if isinstance(key, str) and key else str(uuid4()),
            has_presence=_flag(presence.get("enabled")),
            is_private=is_private,
            replay=Replay.read(broadcast.get("replay"), is_private=is_private),
            reports_replication=_flag(broadcast.get("replication_ready")),
            changes=_changes(config) if "config" in payload else _changes_of_name(name),
            names_changes="config" not in payload,
            token=user_token(payload.get("access_token")) or user_token(payload.get("user_token")),
        )


def _changes(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    changes = config.get("postgres_changes")
    return [each for each in changes if isinstance(each, dict)] if isinstance(changes, list) else []


def _changes_of_name(name: str) -> Sequence[Mapping[str, Any]]:
    """Return the changes that a topic names: `schema`, `schema:table` or `schema:table:filter`."""
    keys = ("schema", "table", "filter")
    return [{"event": "*", **dict(zip(keys, name.split(":", 2), strict=False))}]


def user_token(value: Any) -> str | None:
    """Return an access token; None for what is none, such as an opaque API key."""
    return value if isinstance(value, str) and not value.startswith("sb_") else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: Any) -> bool:
    return value is True or value == "true"
