"""The changes of a model's rows for one request: as server-sent events, and over a WebSocket."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic

from fastapi import WebSocket
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from amphibase.backend import (
    Added,
    Backend,
    Caller,
    Changed,
    ChangeEvent,
    Changes,
    Lost,
    Model,
    Removed,
    Where,
)
from amphibase.errors import AmphibaseError
from amphibase.http.row_serializer import RowSerializer
from amphibase.http.streams import RETRY_SECONDS, StreamLimiter, batches, first_of
from amphibase.rate_limits import client_of
from amphibase.records.listing import read_filters

SEND_SECONDS = 30
"""How long a client may take nothing of a batch that is sent."""
CLOSE_SECONDS = 1
MAX_JOINED_CHARACTERS = 16 * 1024
LAST_EVENT_ID = "last-event-id"
OWN_PARAMETERS = ("after", "access_token")
"""Of the query string; all others are filters."""

EVENT_STREAM_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER = 1008, 1012, 1013
"""Codes that a WebSocket is closed with (IANA, "WebSocket Close Code Number Registry")."""


class ChangeFeed(Generic[Model]):
    """The changes of a model's rows, as the sender of one request may see them.

    They go on after the header `Last-Event-ID`, which browsers send when they open a stream again,
    or the parameter `after`. Everything else in the query string is a filter, as of a list.
    """

    def __init__(
        self,
        model: type[Model],
        connection: HTTPConnection,
        caller: Caller,
        backend: Backend,
        limiter: StreamLimiter,
    ) -> None:
        self.model = model
        self.caller = caller
        self.backend = backend
        self._connection = connection
        self._limiter = limiter

    def open(self, *where: Where) -> AbstractAsyncContextManager[Changes[Model]]:
        """Open the changes of the rows that match, whatever the query string filters by."""
        connection = self._connection
        after = connection.headers.get(LAST_EVENT_ID) or connection.query_params.get("after")
        return self.backend.changes(self.model, self.caller, *where, after=after)

    def filters(self) -> Sequence[Where]:
        """Return the filters of the query string.

        Raises:
            RequestValidationError: names the parameter or column that is wrong.
        """
        parameters = self._connection.query_params.multi_items()
        own = [(name, text) for name, text in parameters if name not in OWN_PARAMETERS]
        return read_filters(self.model, own)

    def slot(self) -> AbstractContextManager[None]:
        """Take one of the places that the caller has for streams.

        Raises:
            TooManyRequests: they have too many open.
        """
        client = self._connection.client
        who = self.caller.user_id or client_of(client.host if client else None)
        return self._limiter.slot(str(who))

    def response(self, *where: Where) -> Response:
        """Return a response of server-sent events.

        Args:
            where: filters beside those of the query string.

        Raises:
            RequestValidationError: names the parameter or column that is wrong.
        """
        return EventStreamResponse(self, [*where, *self.filters()])

    async def serve(self, websocket: WebSocket, *where: Where) -> None:
        """Accept a WebSocket, and send the changes as JSON until one of the two sides ends it.

        Args:
            where: filters beside those of the query string.

        Raises:
            TooManyRequests, RequestValidationError: the handshake is denied.
        """
        filters = [*where, *self.filters()]
        with self.slot():
            async with self.open(*filters) as changes:
                await websocket.accept()
                await send_changes(websocket, self, changes)


class EventStreamResponse(Response):
    """Server-sent events (HTML Standard, section 9.2): `added`, `changed`, `removed` and `lost`,
    and `closed` where the server ends the stream for a reason."""

    media_type = "text/event-stream"

    def __init__(self, feed: ChangeFeed[Any], where: Sequence[Where]) -> None:
        super().__init__(headers=EVENT_STREAM_HEADERS)
        del self.headers["content-length"]
        self._feed = feed
        self._where = where
        self._serializer = RowSerializer(feed.model)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.slot():
            async with self._feed.open(*self._where) as changes:
                await self._respond(changes, receive, send)

    async def _respond(self, changes: Changes[Any], receive: Receive, send: Send) -> None:
        async def write(content: str, *, more: bool = True) -> None:
            body = content.encode()
            await send({"type": "http.response.body", "body": body, "more_body": more})

        async def deliver(batch: Sequence[ChangeEvent[Any]], cursor: str) -> None:
            if not batch:  # an id without data tells where to go on, and is no event
                await write(f"id: {cursor}\n\n")
            for content in _joined(map(self._event, batch)):
                await write(content)

        async def disconnected() -> Exception:
            while (await receive())["type"] != "http.disconnect":
                pass
            return ClientDisconnect()

        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await write(f"retry: {RETRY_SECONDS * 1000}\nid: {changes.cursor}\n\n")
        end = await first_of(delivered(self._feed, changes, deliver), disconnected())
        if isinstance(end, ClientDisconnect | TimeoutError):
            raise ClientDisconnect from end
        closed = ""
        if isinstance(end, AmphibaseError):
            data = json.dumps({"code": end.code, "detail": end.detail})
            closed = f"event: closed\ndata: {data}\n\n"
        await write(closed, more=False)

    def _event(self, change: ChangeEvent[Any]) -> str:
        data = _data(change, self._serializer)
        return f"id: {change.cursor}\nevent: {_name(change)}\ndata: {data}\n\n"


async def send_changes(websocket: WebSocket, feed: ChangeFeed[Any], changes: Changes[Any]) -> None:
    """Send changes over a WebSocket, each as a JSON object: `event`, `cursor` and `data`.

    It ends when the client leaves or takes nothing for too long, when its token ends, or when the
    server stops; the code of the close says which.
    """
    serializer = RowSerializer(feed.model)

    async def write(name: str, cursor: str, data: str) -> None:
        await websocket.send_text(f'{{"event":"{name}","cursor":"{cursor}","data":{data}}}')

    async def deliver(batch: Sequence[ChangeEvent[Any]], cursor: str) -> None:
        for change in batch:
            await write(_name(change), change.cursor, _data(change, serializer))

    async def disconnected() -> Exception:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return WebSocketDisconnect(message["code"])

    await write("opened", changes.cursor, "{}")
    end = await first_of(delivered(feed, changes, deliver), disconnected())
    if isinstance(end, WebSocketDisconnect):
        return
    code = SERVICE_RESTART
    if isinstance(end, TimeoutError):
        code = TRY_AGAIN_LATER
    elif isinstance(end, AmphibaseError):
        code = POLICY_VIOLATION
    reason = end.code if isinstance(end, AmphibaseError) else ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)


async def delivered(
    feed: ChangeFeed[Any],
    changes: Changes[Any],
    deliver: Callable[[Sequence[ChangeEvent[Any]], str], Awaitable[None]],
) -> Exception:
    """Deliver batches of changes for as long as possible; return why it ended.

    A batch without changes is a heartbeat.
    """
    try:
        async for batch in batches(changes, feed.caller, feed.backend):
            async with asyncio.timeout(SEND_SECONDS):
                await deliver(batch, changes.cursor)
    except (AmphibaseError, TimeoutError, OSError) as error:
        return error
    raise AssertionError("a stream has no end of its own")


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


def _name(change: ChangeEvent[Any]) -> str:
    return type(change).__name__.lower()


def _data(change: ChangeEvent[Any], serializer: RowSerializer) -> str:
    match change:
        case Added() | Changed():
            return serializer.row(change.row).decode()
        case Removed():
            return serializer.key_object(change.key).decode()
        case Lost():
            return "{}"
