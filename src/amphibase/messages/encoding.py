"""The form of a message on its way: a JSON array of topic, sender and payload.

An array of a topic and a list of ids says whose presence has changed there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from amphibase.backend import Message
from amphibase.errors import InvalidValue, PayloadTooLarge

MAX_PAYLOAD_BYTES = 7000
"""`NOTIFY` takes less than 8,000 bytes (Postgres's docs), and the topic needs a part of them."""
MAX_PRESENCE_BYTES = 1000
"""Whoever comes to a topic gets the payloads of all who are there."""


@dataclass(frozen=True, slots=True)
class PresenceHint:
    """Whose presence on a topic has changed; the store has how."""

    topic: str
    ids: Sequence[str]


def encode(topic: str, sender: UUID | None, payload: Any) -> str:
    """Return the text of a message.

    Args:
        topic: its name.
        payload: anything that pydantic writes as JSON.

    Raises:
        InvalidValue: the payload cannot be written as JSON.
        PayloadTooLarge: it has more than 7,000 bytes.
    """
    advice = ": store it as a row, and publish its key"
    body = _written("message", payload, MAX_PAYLOAD_BYTES, advice)
    head = json.dumps([topic, None if sender is None else str(sender)])
    return f"{head[:-1]}, {body}]"


def encode_hint(hint: PresenceHint) -> str:
    """Return the text of a hint."""
    return json.dumps([hint.topic, list(hint.ids)])


def encode_presence(payload: Mapping[str, Any]) -> str:
    """Return the payload of a presence as JSON.

    Raises:
        InvalidValue: it is not an object, or cannot be written as JSON.
        PayloadTooLarge: it has more than 1,000 bytes.
    """
    if not isinstance(payload, Mapping):
        raise InvalidValue("The payload of a presence is a JSON object")
    return _written("payload of a presence", payload, MAX_PRESENCE_BYTES)


def decode(text: str) -> Message | PresenceHint:
    """Return the message or hint of a text.

    Raises:
        ValueError: the text is of another sender than Amphibase.
    """
    match from_json(text):
        case [str() as topic, None, payload]:
            return Message(topic, payload, None)
        case [str() as topic, str() as sender, payload]:
            return Message(topic, payload, UUID(sender))
        case [str() as topic, [*ids]] if all(isinstance(id, str) for id in ids):
            return PresenceHint(topic, ids)
        case _:
            raise ValueError("not a message")


def _written(name: str, payload: Any, most: int, advice: str = "") -> str:
    """Write a payload as JSON, of so many bytes at most."""
    try:
        body = to_json(payload, inf_nan_mode="null")
    except ValueError as error:
        raise InvalidValue(f"The {name} cannot be written as JSON") from error
    if len(body) > most:
        raise PayloadTooLarge(
            f"The {name} has {len(body)} bytes, and {most} at most are sent{advice}"
        )
    text = body.decode()
    try:
        from_json(f"[{text}]")  # one level deeper, as in a message
    except ValueError as error:
        raise InvalidValue(f"The {name} is nested too deeply") from error
    return text
