"""The presence of a topic for one request."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import WebSocket
from pydantic_core import from_json, to_json
from starlette.responses import Response

from amphibase.backend import (
    Presence,
    PresenceEvent,
    PresenceJoin,
    PresenceLeave,
    Presences,
    PresenceSync,
)
from amphibase.errors import InvalidRequest
from amphibase.http.event_stream import EventStreamResponse, StreamEvent, serve_events
from amphibase.http.topic_feed import TopicFeed

MAX_FRAME_CHARACTERS = 8000
"""Of a client: a payload of 1,000 bytes, however it is escaped."""
FRAME_SECONDS = 0.1
"""A client is read that often at most, since each of its frames is written and sent to all."""


class PresenceFeed(TopicFeed[PresenceEvent]):
    """The presence of a topic as the sender of one request may use it."""

    @asynccontextmanager
    async def open(self, payload: Mapping[str, Any] | None = None) -> AsyncIterator[Presences]:
        """Open the presence of the topic.

        Args:
            payload: what the caller is present with during the block; None where they only look.

        Raises:
            Forbidden, NotSupported, Unavailable: as `Backend.presence`.
            InvalidValue, PayloadTooLarge, TooManyRequests: as `Presences.track`.
        """
        async with self.backend.presence(self.address, self.caller) as presences:
            if payload is not None:
                await presences.track(payload)
            yield presences

    def response(self, payload: Mapping[str, Any] | None = None) -> Response:
        """Return a response of server-sent events.

        Args:
            payload: what the caller is present with while it lasts; None where they only look.
        """
        return EventStreamResponse(self, self.open(payload))

    async def serve(self, websocket: WebSocket, payload: Mapping[str, Any] | None = None) -> None:
        """Accept a WebSocket, and send the events as JSON until one of the two sides ends it.

        Args:
            payload: what the caller is present with while it lasts. With None, clients decide:
                they send `{"event": "track", "payload": {…}}` and `{"event": "untrack"}`.

        Raises:
            TooManyRequests, Forbidden, NotSupported, Unavailable: the handshake is denied.
        """
        receive = _receive if payload is None else None
        await serve_events(websocket, self, self.open(payload), receive)

    def event(self, item: PresenceEvent) -> StreamEvent:
        """Return an event as `sync`, `join`, `update` or `leave`."""
        match item:
            case PresenceSync(presences):
                return _event("sync", [_data(each) for each in presences])
            case PresenceJoin(presence):
                return _event("join", _data(presence))
            case PresenceLeave(presence):
                return _event("leave", _data(presence))
            case _:
                return _event("update", _data(item.presence))


async def _receive(presences: Presences, text: str) -> None:
    """Do what the frame of a client says. Raises InvalidRequest, and as `Presences.track`."""
    if len(text) > MAX_FRAME_CHARACTERS:
        raise InvalidRequest(f"A frame has at most {MAX_FRAME_CHARACTERS} characters")
    try:
        frame = from_json(text)
    except ValueError:
        frame = None
    match frame:
        case {"event": "track", "payload": dict() as payload}:
            await presences.track(payload)
        case {"event": "untrack"}:
            await presences.untrack()
        case _:
            raise InvalidRequest("A frame is an event, track or untrack, with a payload to track")
    await asyncio.sleep(FRAME_SECONDS)


def _event(name: str, data: object) -> StreamEvent:
    return StreamEvent(name, to_json(data).decode())


def _data(presence: Presence) -> dict[str, Any]:
    user_id = None if presence.user_id is None else str(presence.user_id)
    return {"id": presence.id, "user_id": user_id, "payload": presence.payload}
