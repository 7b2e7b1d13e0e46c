"""The payload of `phx_join`: what a client wants of a channel.

As in Supabase Realtime, a field of a wrong type has its default, and booleans may be texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

from amphibase.gateway.realtime.errors import InvalidReplay

TOPIC_PREFIX = "realtime:"

MAX_REPLAYED = 25
"""Of one join."""

MAX_TIME = 253_402_300_800_000
"""In milliseconds; the end of the year 9999."""


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
        if not isinstance(content, dict):
            return None
        match content.get("since"), content.get("limit", MAX_REPLAYED):
            case (bool(), _) | (_, bool()):
                pass
            case (int(since), int(limit)) if since < MAX_TIME:
                return cls(max(since, 0), max(1, min(limit, MAX_REPLAYED)))
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
        awaits_changes: whether the join fails where these cannot be had; else a message says so.
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
    awaits_changes: bool
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
        return cls(
            acknowledges=_flag(broadcast.get("ack")),
            sends_back=_flag(broadcast.get("self")),
            presence_key=_key(presence.get("key")),
            has_presence=_flag(presence.get("enabled")),
            is_private=is_private,
            replay=Replay.read(broadcast.get("replay"), is_private=is_private),
            reports_replication=_flag(broadcast.get("replication_ready")),
            changes=_changes(config) if "config" in payload else _changes_of_name(name),
            awaits_changes=_flag(_object(config.get("postgres_changes_options")).get("wait")),
            names_changes="config" not in payload,
            token=_token(payload),
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


def _token(payload: Mapping[str, Any]) -> str | None:
    """Return the token of a join: `user_token` first, the name that it had before."""
    older, newer = payload.get("user_token"), payload.get("access_token")
    first = older if newer is None else newer
    if isinstance(first, str) and user_token(first) is None:
        return None
    return next((each for each in (older, newer) if isinstance(each, str)), None)


def _key(value: Any) -> str:
    """Return a key of presence: numbers and booleans as JSON writes them, else a new one."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return value if isinstance(value, str) and value else str(uuid4())


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")
