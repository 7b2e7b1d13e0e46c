"""The frames of a WebSocket: Phoenix's protocol in its versions 1.0.0 and 2.0.0.

1.0.0 sends JSON objects, 2.0.0 JSON arrays, and binary frames for the broadcasts of users: kind 3
from clients, kind 4 to them. The lengths of a binary frame's strings take one byte each
(realtime-js, `lib/serializer.ts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import orjson

from amphibase.gateway.realtime.nesting import TooDeep, read_json

USER_BROADCAST_PUSH = 3
USER_BROADCAST = 4
BINARY, JSON_TEXT = 0, 1

# Of WebSocket frames (RFC 6455, section 5.2).
_FINAL, _TEXT, _BYTES = 0x80, 1, 2
_SIZE_16, _SIZE_64 = 126, 127

Frame = str | bytes
"""A text or a binary frame."""


class Version(StrEnum):
    """A version of the protocol, as `vsn` of the handshake names it."""

    V1 = "1.0.0"
    V2 = "2.0.0"


_V1 = Version.V1  # to look a member up in its class takes as long as a call

MAX_NAME_BYTES = 255
"""Of a topic, an event and a key of presence: as many as a binary frame can express."""


def is_too_long(name: str) -> bool:
    """Return whether a name has more bytes than `MAX_NAME_BYTES`."""
    return len(name.encode()) > MAX_NAME_BYTES


class InvalidFrame(Exception):
    """A frame that is not of the protocol; it is ignored, as Phoenix does."""


@dataclass(frozen=True, slots=True)
class UserBroadcast:
    """A broadcast in a binary frame, whose content goes on untouched.

    Attributes:
        event: the user's own.
        metadata: JSON, or empty.
        is_json: whether the content is JSON; any bytes otherwise.
    """

    event: str
    metadata: bytes
    is_json: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """What a client sends.

    Attributes:
        join_ref: of the join that the client's channel stands on.
        ref: repeated in the reply.
        payload: of the event; a `UserBroadcast` of a binary frame.
        size: of the frame as it came, in bytes.
    """

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: Any
    size: int


def read_frame(version: Version, frame: Frame) -> ClientMessage:
    """Read what a client sent. Raises InvalidFrame."""
    if isinstance(frame, bytes):
        if version is Version.V1:
            raise InvalidFrame("protocol 1.0.0 has no binary frames")
        return _read_binary(frame)
    try:
        content = read_json(frame)
    except TooDeep as error:
        raise InvalidFrame(str(error)) from None
    except ValueError:
        raise InvalidFrame("it is not JSON") from None
    if version is Version.V1:
        if not isinstance(content, dict) or not content.keys() >= {
            "topic", "event", "payload", "ref"
        }:  # fmt: skip
            raise InvalidFrame("it is not an object with topic, event, payload and ref")
        parts = [content.get(key) for key in ("join_ref", "ref", "topic", "event", "payload")]
    elif isinstance(content, list) and len(content) == 5:
        parts = content
    else:
        raise InvalidFrame("it is not an array of join_ref, ref, topic, event and payload")
    join_ref, ref, topic, event, payload = parts
    if not isinstance(topic, str) or not isinstance(event, str):
        raise InvalidFrame("topic and event are not texts")
    if not all(each is None or isinstance(each, str | int) for each in (join_ref, ref)):
        raise InvalidFrame("ref and join_ref are not texts")
    return ClientMessage(
        None if join_ref is None else str(join_ref),
        None if ref is None else str(ref),
        topic,
        event,
        payload,
        len(frame) if frame.isascii() else len(frame.encode()),
    )


def _read_binary(frame: bytes) -> ClientMessage:
    if len(frame) < 7 or frame[0] != USER_BROADCAST_PUSH:
        raise InvalidFrame("it is not a broadcast of a user")
    start, texts = 7, []
    for length in frame[1:6]:
        texts.append(frame[start : start + length])
        start += length
    if start > len(frame):
        raise InvalidFrame("it is shorter than its lengths say")
    content, is_json = frame[start:], frame[6] == JSON_TEXT
    try:
        join_ref, ref, topic, event = (text.decode() for text in texts[:4])
        for text in (texts[4], content if is_json else b""):
            if text:
                read_json(text)
    except TooDeep as error:
        raise InvalidFrame(str(error)) from None
    except ValueError:
        raise InvalidFrame("a text is not UTF-8, or not JSON") from None
    payload = UserBroadcast(event, texts[4], is_json, content)
    return ClientMessage(join_ref or None, ref or None, topic, "broadcast", payload, len(frame))


class EncodedFrame:
    """A message of the server, and as the frame that is the same bytes for every client.

    Attributes:
        content: the message.
        encoded: the frame (RFC 6455, section 5.2): whole, and not masked.
    """

    __slots__ = ("content", "encoded")

    def __init__(self, content: Frame) -> None:
        self.content = content
        kind, data = (_TEXT, content.encode()) if isinstance(content, str) else (_BYTES, content)
        first, size = _FINAL | kind, len(data)
        if size < _SIZE_16:
            head = bytes((first, size))
        elif size < 1 << 16:
            head = bytes((first, _SIZE_16)) + size.to_bytes(2)
        else:
            head = bytes((first, _SIZE_64)) + size.to_bytes(8)
        self.encoded = head + data


class Push:
    """A message for any number of sockets, written once for each version.

    Args:
        payload: a JSON value.

    Attributes:
        message_id: of a message of the database; None for any other.
    """

    message_id: str | None = None

    def __init__(self, topic: str, event: str, payload: Any) -> None:
        self.topic = topic
        self.event = event
        self.payload = payload

    def frame(self, version: Version) -> "EncodedFrame | None":
        """Return it in a version; None where that cannot express it."""
        return self._encoded_v1 if version is _V1 else self._encoded_v2

    @cached_property
    def _encoded_v1(self) -> "EncodedFrame | None":
        return None if self.v1 is None else EncodedFrame(self.v1)

    @cached_property
    def _encoded_v2(self) -> "EncodedFrame | None":
        return None if self.v2 is None else EncodedFrame(self.v2)

    @cached_property
    def v1(self) -> Frame | None:
        return write_frame(Version.V1, self.topic, self.event, self.payload)

    @cached_property
    def v2(self) -> Frame | None:
        return write_frame(Version.V2, self.topic, self.event, self.payload)


class UserBroadcastPush(Push):
    """A broadcast whose content is passed on as it came; 1.0.0 has none of bytes."""

    def __init__(self, topic: str, broadcast: UserBroadcast) -> None:
        super().__init__(topic, "broadcast", None)
        self._broadcast = broadcast

    @cached_property
    def v1(self) -> Frame | None:
        broadcast = self._broadcast
        if not broadcast.is_json:
            return None
        payload = {
            "type": "broadcast",
            "event": broadcast.event,
            "payload": orjson.Fragment(broadcast.content or b"{}"),
        }
        if broadcast.metadata:
            payload["meta"] = orjson.Fragment(broadcast.metadata)
        return write_frame(Version.V1, self.topic, self.event, payload)

    @cached_property
    def v2(self) -> Frame | None:
        broadcast = self._broadcast
        texts = (self.topic.encode(), broadcast.event.encode(), broadcast.metadata)
        if any(len(text) > 255 for text in texts):
            return None
        encoding = JSON_TEXT if broadcast.is_json else BINARY
        head = bytes([USER_BROADCAST, *map(len, texts), encoding])
        return b"".join((head, *texts, broadcast.content))


def write_frame(
    version: Version,
    topic: str,
    event: str,
    payload: Any,
    ref: str | None = None,
    join_ref: str | None = None,
) -> str:
    """Write a message of the server."""
    message: Any = [join_ref, ref, topic, event, payload]
    if version is Version.V1:
        message = {"ref": ref, "topic": topic, "event": event, "payload": payload}
    return orjson.dumps(message).decode()


def system_payload(
    channel: str, extension: str, message: str, *, is_error: bool = False
) -> Mapping[str, str]:
    """Return the payload of a `system` message; supabase-py drops one that lacks a key."""
    status = "error" if is_error else "ok"
    return {"extension": extension, "status": status, "message": message, "channel": channel}
