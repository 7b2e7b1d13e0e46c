"""The changes of a model's rows for one request."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Generic

from fastapi import WebSocket
from starlette.requests import HTTPConnection
from starlette.responses import Response

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
from amphibase.http.event_stream import (
    EventFeed,
    EventStreamResponse,
    StreamEvent,
    serve_events,
)
from amphibase.http.row_serializer import RowSerializer, serializer_of
from amphibase.http.streams import StreamLimiter
from amphibase.records.listing import read_filters

LAST_EVENT_ID = "last-event-id"
OWN_PARAMETERS = ("after", "access_token")
"""Of the query string; all others are filters."""


class ChangeFeed(EventFeed[ChangeEvent[Model]], Generic[Model]):
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
        super().__init__(connection, caller, backend, limiter)
        self.model = model

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

    def response(self, *where: Where) -> Response:
        """Return a response of server-sent events.

        Args:
            where: filters beside those of the query string.

        Raises:
            RequestValidationError: names the parameter or column that is wrong.
        """
        return EventStreamResponse(self, self.open(*where, *self.filters()))

    async def serve(self, websocket: WebSocket, *where: Where) -> None:
        """Accept a WebSocket, and send the changes as JSON until one of the two sides ends it.

        Args:
            where: filters beside those of the query string.

        Raises:
            TooManyRequests, RequestValidationError: the handshake is denied.
        """
        await serve_events(websocket, self, self.open(*where, *self.filters()))

    def cursor(self, stream: Changes[Model]) -> str:
        """Return where a stream is."""
        return stream.cursor

    def event(self, item: ChangeEvent[Model]) -> StreamEvent:
        """Return a change as `added`, `changed`, `removed` or `lost`."""
        return StreamEvent(type(item).__name__.lower(), self._data(item), item.cursor)

    def _data(self, change: ChangeEvent[Model]) -> str:
        match change:
            case Added() | Changed():
                return self._serializer.shared_row(change.row).decode()
            case Removed():
                return self._serializer.key_object(change.key).decode()
            case Lost():
                return "{}"

    @cached_property
    def _serializer(self) -> RowSerializer:
        return serializer_of(self.model)
