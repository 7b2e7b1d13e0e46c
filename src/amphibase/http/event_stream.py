"""Sends the events of a stream: as server-sent events, and over a WebSocket."""

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import WebSocket
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from amphibase.backend import Backend, Caller
from amphibase.errors import AmphibaseError, Retryable
from amphibase.http.streams import RETRY_SECONDS, Batches, StreamLimiter, batches, first_of
from amphibase.redaction import redacted_logger

SEND_SECONDS = 30
BATCH_SECONDS = 120
"""How long a client may take nothing of what is sent, and how long it may take for a batch as a
whole, which stays in memory until then."""
CLOSE_SECONDS = 1
MAX_JOINED_CHARACTERS = 16 * 1024

EVENT_STREAM_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER = 1008, 1012, 1013
"""Codes that a WebSocket is closed with (IANA, "WebSocket Close Code Number Registry")."""

logger = redacted_logger("amphibase.streams")

Item = TypeVar("Item")
Stream = TypeVar("Stream", bound=Batches[Any])


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event as clients get it.

    Attributes:
        data: JSON.
        cursor: where to go on after it, of a stream that can.
    """

    name: str
    data: str
    cursor: str | None = None


class EventFeed(ABC, Generic[Item]):
    """The stream of one request: whose it is, and the form of its events.

    Attributes:
        caller: the sender of the request.
    """

    def __init__(
        self,
        connection: HTTPConnection,
        caller: Caller,
        backend: Backend,
        limiter: StreamLimiter,
    ) -> None:
        self.caller = caller
        self.backend = backend
        self._connection = connection
        self._limiter = limiter

    def slot(self) -> AbstractContextManager[None]:
        """Take one of the places that the caller has for streams.

        Raises:
            TooManyRequests: they have too many open, or all together have.
        """
        return self._limiter.slot_of(self._connection, self.caller)

    def cursor(self, stream: Any) -> str | None:
        """Return where a stream is; None for one that does not go on later."""
        return None

    @abstractmethod
    def event(self, item: Item) -> StreamEvent:
        """Return the event of an item."""


class EventStreamResponse(Response, Generic[Stream]):
    """Server-sent events (HTML Standard, section 9.2), and `closed` where the server ends the
    stream for a reason.

    Args:
        opened: opens the stream.
    """

    media_type = "text/event-stream"

    def __init__(self, feed: EventFeed[Any], opened: AbstractAsyncContextManager[Stream]) -> None:
        super().__init__(headers=EVENT_STREAM_HEADERS)
        del self.headers["content-length"]
        self._feed = feed
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.slot():
            async with self._opened as stream:
                await self._respond(stream, receive, send)

    async def _respond(self, stream: Stream, receive: Receive, send: Send) -> None:
        async def write(content: str, *, more: bool = True) -> None:
            body = content.encode()
            await send({"type": "http.response.body", "body": body, "more_body": more})

        def parts(batch: Sequence[Any]) -> Iterable[str]:
            if not batch:  # an id without data tells where to go on, and is no event
                return [(_id(self._feed.cursor(stream)) or ":\n") + "\n"]
            return _joined(map(self._text, batch))

        async def disconnected() -> Exception:
            while (await receive())["type"] != "http.disconnect":
                pass
            return ClientDisconnect()

        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await write(f"retry: {RETRY_SECONDS * 1000}\n{_id(self._feed.cursor(stream))}\n")
        end = await first_of(delivered(self._feed, stream, parts, write), disconnected())
        if isinstance(end, ClientDisconnect | TimeoutError):
            raise ClientDisconnect from end
        closed = ""
        if isinstance(end, AmphibaseError):
            data = json.dumps({"code": end.code, "detail": end.detail})
            closed = f"event: closed\ndata: {data}\n\n"
        await write(closed, more=False)

    def _text(self, item: Any) -> str:
        event = self._feed.event(item)
        return f"{_id(event.cursor)}event: {event.name}\ndata: {event.data}\n\n"


async def serve_events(
    websocket: WebSocket,
    feed: EventFeed[Any],
    opened: AbstractAsyncContextManager[Stream],
    receive: Callable[[Stream, str], Awaitable[None]] | None = None,
) -> None:
    """Accept a WebSocket, and send events as JSON objects: `event`, `cursor` where the stream has
    one, and `data`.

    It ends when the client leaves or takes nothing for too long, when its token ends, or when the
    server stops; the code of the close says which.

    Args:
        opened: opens the stream.
        receive: gets the texts of the client, one after the other; what it raises ends the stream.
            Without it they are ignored.

    Raises:
        AmphibaseError: the handshake is denied.
    """
    with feed.slot():
        async with opened as stream:
            with contextlib.suppress(WebSocketDisconnect):  # while something is sent
                await websocket.accept()
                await _send_events(websocket, feed, stream, receive)


async def _send_events(
    websocket: WebSocket,
    feed: EventFeed[Any],
    stream: Stream,
    receive: Callable[[Stream, str], Awaitable[None]] | None,
) -> None:
    def text(event: StreamEvent) -> str:
        cursor = "" if event.cursor is None else f'"cursor":"{event.cursor}",'
        return f'{{"event":"{event.name}",{cursor}"data":{event.data}}}'

    def parts(batch: Sequence[Any]) -> Iterable[str]:
        return (text(feed.event(item)) for item in batch)

    async def disconnected() -> Exception:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return WebSocketDisconnect(message["code"])
            if receive is not None:
                try:
                    await receive(stream, message.get("text") or "")
                except AmphibaseError as error:
                    return error

    await websocket.send_text(text(StreamEvent("opened", "{}", feed.cursor(stream))))
    end = await first_of(delivered(feed, stream, parts, websocket.send_text), disconnected())
    if isinstance(end, WebSocketDisconnect):
        return
    code = SERVICE_RESTART
    if isinstance(end, TimeoutError | Retryable):
        code = TRY_AGAIN_LATER
    elif isinstance(end, AmphibaseError):
        code = POLICY_VIOLATION
    reason = end.code if isinstance(end, AmphibaseError) else ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)


async def delivered(
    feed: EventFeed[Item],
    stream: Batches[Item],
    parts: Callable[[Sequence[Item]], Iterable[str]],
    write: Callable[[str], Awaitable[None]],
) -> Exception:
    """Deliver the batches of a stream for as long as possible; return why it ended.

    Args:
        parts: returns what is written of a batch, one after the other. An empty one is a heartbeat.
    """
    loop = asyncio.get_running_loop()
    try:
        async for batch in batches(stream, feed.caller, feed.backend):
            end = loop.time() + BATCH_SECONDS
            for part in parts(batch):
                async with asyncio.timeout_at(min(loop.time() + SEND_SECONDS, end)):
                    await write(part)
    except (AmphibaseError, OSError) as error:
        if isinstance(error, TimeoutError):
            logger.info("A stream was closed whose client takes nothing or too little")
        return error
    raise AssertionError("a stream has no end of its own")


def _id(cursor: str | None) -> str:
    return "" if cursor is None else f"id: {cursor}\n"


def _joined(events: Iterable[str]) -> Iterator[str]:
    """Join small events, since each that is sent alone costs as much as a large one."""
    part, length = [], 0
    for event in events:
        part.append(event)
        length += len(event)
        if length > MAX_JOINED_CHARACTERS:
            yield "".join(part)
            part, length = [], 0
    if part:
        yield "".join(part)
