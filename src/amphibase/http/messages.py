"""The messages of a topic for one request."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import WebSocket
from pydantic_core import to_json
from starlette.responses import Response

from amphibase.backend import Message, Messages
from amphibase.http.event_stream import EventStreamResponse, StreamEvent, serve_events
from amphibase.http.topic_feed import TopicFeed


class MessageFeed(TopicFeed[Message]):
    """The messages of a topic as the sender of one request may use them."""

    async def publish(self, payload: Any) -> None:
        """Send a message to everyone who is subscribed to the topic now.

        Raises:
            Forbidden, InvalidValue, PayloadTooLarge, NotSupported, Unavailable: as
                `Backend.publish`.
        """
        await self.backend.publish(self.address, payload, self.caller)

    def open(self) -> AbstractAsyncContextManager[Messages]:
        """Open the stream of what is published on the topic from now on."""
        return self.backend.subscribe(self.address, self.caller)

    def response(self) -> Response:
        """Return a response of server-sent events."""
        return EventStreamResponse(self, self.open())

    async def serve(self, websocket: WebSocket) -> None:
        """Accept a WebSocket, and send the messages as JSON until one of the two sides ends it.

        Raises:
            TooManyRequests, Forbidden, NotSupported, Unavailable: the handshake is denied.
        """
        await serve_events(websocket, self, self.open())

    def event(self, item: Message) -> StreamEvent:
        """Return a message as the event `message`."""
        sender = None if item.sender is None else str(item.sender)
        data = {"topic": item.topic, "sender": sender, "payload": item.payload}
        return StreamEvent("message", to_json(data).decode())
