"""The form of a message on its way: a JSON array of topic, sender and payload."""

import json
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from amphibase.backend import Message
from amphibase.errors import InvalidValue, PayloadTooLarge

MAX_PAYLOAD_BYTES = 7000
"""`NOTIFY` takes less than 8,000 bytes (Postgres's docs), and the topic needs a part of them."""


def encode(topic: str, sender: UUID | None, payload: Any) -> str:
    """Return the text of a message.

    Args:
        topic: its name.
        payload: anything that pydantic writes as JSON.

    Raises:
        InvalidValue: the payload cannot be written as JSON.
        PayloadTooLarge: it has more than 7,000 bytes.
    """
    try:
        body = to_json(payload, inf_nan_mode="null")
    except ValueError as error:
        raise InvalidValue("The message cannot be written as JSON") from error
    if len(body) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"The message has {len(body)} bytes, and {MAX_PAYLOAD_BYTES} at most are sent: "
            "store it as a row, and publish its key"
        )
    head = json.dumps([topic, None if sender is None else str(sender)])
    text = f"{head[:-1]}, {body.decode()}]"
    try:
        decode(text)
    except ValueError as error:
        raise InvalidValue("The message is nested too deeply") from error
    return text


def decode(text: str) -> Message:
    """Return the message of a text.

    Raises:
        ValueError: the text is of another sender than Amphibase.
    """
    match from_json(text):
        case [str() as topic, None, payload]:
            return Message(topic, payload, None)
        case [str() as topic, str() as sender, payload]:
            return Message(topic, payload, UUID(sender))
        case _:
            raise ValueError("not a message")
