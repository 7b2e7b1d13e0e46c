"""The Data API as a service: an ASGI application for tables, views and functions."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import IO

import psycopg
from starlette.types import Receive, Scope, Send

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call, Statement
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway.rest.errors.base import CannotConnect, CatalogNotLoaded, RestError
from amphibase.gateway.rest.errors.schema_cache import NotInSchemaCache
from amphibase.gateway.rest.handler import RequestHandler
from amphibase.gateway.rest.request.request import RequestReader, read_bearer_token
from amphibase.gateway.rest.response.response import BODILESS, RestResponse, error_response
from amphibase.gateway.rest.response.root import RootHandler
from amphibase.gateway.rest.response.timings import Timings
from amphibase.gateway.rest.schema.cache import SchemaCache
from amphibase.gateway.rest.schema.database_settings import (
    read_own_settings,
    read_settings_of_function,
)
from amphibase.gateway.rest.schema.introspection import read_catalog, read_timezones
from amphibase.gateway.rest.settings import (
    DATABASE_PREFIX,
    IN_DATABASE,
    NOT_IN_DATABASE,
    RestSettings,
)
from amphibase.gateway.rest.transaction.role import RoleResolver
from amphibase.gateway.rest.transaction.run import RoleExecutor
from amphibase.gateway.rest.transaction.settings import TransactionSettings, call_of
from amphibase.gateway.service import deny_websocket
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.rest")

_NOTIFY = Statement("SELECT pg_notify($1, $2)")

PART_BYTES = 256 * 1024
"""How much of a large body is sent at a time."""

WATCH_AFTER = 0.05
"""Seconds after which, or twice as many, a request that runs is watched for its client."""


class RestApp:
    """The Data API over one database.

    Args:
        database_url: as a role that may become the others, and owns nothing (`authenticator`).
        tokens: verifies access tokens.
    """

    def __init__(self, settings: RestSettings, database_url: str, tokens: KeyRing) -> None:
        self._settings = settings
        self._pool = PipelinePool(
            database_url,
            size=settings.db_pool,
            prepare=settings.db_prepared_statements,
            acquire_timeout=settings.db_pool_acquisition_timeout,
            session_settings={},  # as the database and the role have them
        )
        self._executor = RoleExecutor(self._pool)
        self._tokens = tokens
        self._timezones: frozenset[str] | None = None  # of the server, whatever its schemas are
        self._cache = SchemaCache(
            database_url,
            self._load,
            self._notify,
            needs_session=settings.db_prepared_statements,
        )
        self._watches = _Watches()
        self._starting = asyncio.Lock()
        self._started = False
        self._closed = False

    async def _load(self, connection: psycopg.AsyncConnection) -> "_Handlers":
        """Read the database's settings and its catalog, and make the handlers of them."""
        settings = await self._settings_of(connection)
        if self._timezones is None:
            self._timezones = await read_timezones(connection)
        catalog = await read_catalog(
            connection,
            settings.db_schemas,
            settings.db_hoisted_tx_settings,
            self._timezones,
            settings.db_extra_search_path,
        )
        self._pool.forget_statements()
        transaction_settings = TransactionSettings(
            catalog,
            settings.db_extra_search_path,
            settings.db_pre_request,
            settings.app_settings,
        )
        return _Handlers(
            RequestReader(settings.db_schemas, settings.root_function),
            RoleResolver(
                self._tokens, settings.db_anon_role, settings.jwt_aud, settings.jwt_role_claim_key
            ),
            RequestHandler(catalog, settings, transaction_settings, self._executor),
            RootHandler(catalog, settings, transaction_settings, self._executor),
            settings.server_timing_enabled,
            (settings.server_trace_header or "").lower().encode(),
            settings.are_errors_minimal,
        )

    async def _settings_of(self, connection: psycopg.AsyncConnection) -> RestSettings:
        """Return the settings as the database overrides them."""
        if not self._settings.db_config:
            return self._settings
        values: dict[str, str] = {}
        if function := self._settings.db_pre_config:
            names = IN_DATABASE | NOT_IN_DATABASE.keys()
            values = await read_settings_of_function(
                connection, call_of(function), DATABASE_PREFIX, names
            )
        return self._settings.overridden(
            {**values, **await read_own_settings(connection, DATABASE_PREFIX)}
        )

    async def _notify(self, channel: str, payload: str) -> None:
        await self._pool.run_raw(Call(_NOTIFY, (channel, payload)), again=True)

    async def start(self) -> None:
        """Read the database's settings and its catalog.

        Raises:
            Unavailable: the database cannot be reached, or the service was closed.
            ConfigurationError: a setting in the database is wrong, or cannot be honoured.
        """
        async with self._starting:
            if self._closed:
                raise Unavailable("The Data API is closed")
            if not self._started:
                await self._cache.start()
                self._started = True

    @property
    def is_ready(self) -> bool:
        """Whether the database is connected, and its catalog was read since its last change."""
        return self._started and self._cache.is_current

    async def close(self) -> None:
        """Let go of the connections; statements under way end first."""
        async with self._starting:
            self._started, self._closed = False, True
            await self._cache.close()
            await self._pool.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await deny_websocket(scope, receive, send)
            return
        trace_header = b""
        try:
            if not self._started:
                await self.start()
            handlers = self._cache.current
            trace_header = handlers.trace_header
            response = await self._respond(handlers, scope, receive)
        except RestError as error:
            response = error_response(error, minimal=self._are_errors_minimal)
        except Unavailable as error:
            unreachable = CannotConnect(error.detail)
            response = error_response(unreachable, minimal=self._are_errors_minimal)
        except ConfigurationError as error:
            logger.error("The Data API cannot start: %s", error)
            response = error_response(CatalogNotLoaded())
        except _ClientGone:
            return
        if trace_header:
            response.headers.append((trace_header, dict(scope["headers"]).get(trace_header, b"")))
        if response.status in BODILESS:
            response.drop_body()
        await send(
            {"type": "http.response.start", "status": response.status, "headers": response.headers}
        )
        if response.spooled is not None:
            await _send_file(response.spooled.file, send)
            return
        body = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": body})

    @property
    def _are_errors_minimal(self) -> bool:
        try:
            return self._cache.current.are_errors_minimal
        except CatalogNotLoaded:
            return self._settings.are_errors_minimal

    def _respond(
        self, handlers: "_Handlers", scope: Scope, receive: Receive
    ) -> Awaitable[RestResponse]:
        if handlers.is_timed:
            return self._respond_timed(handlers, scope, receive)
        return self._run(handlers, scope, receive, None)

    async def _respond_timed(
        self, handlers: "_Handlers", scope: Scope, receive: Receive
    ) -> RestResponse:
        timings = Timings()
        response = await self._run(handlers, scope, receive, timings)
        timings.mark("response")
        response.add(b"server-timing", str(timings))
        return response

    async def _run(
        self, handlers: "_Handlers", scope: Scope, receive: Receive, timings: Timings | None
    ) -> RestResponse:
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root) or "/"
        try:
            request = handlers.reader.read(scope["method"], path, scope["headers"])
        except RestError:
            authorization = dict(scope["headers"]).get(b"authorization", b"")
            handlers.roles.resolve(read_bearer_token(authorization.decode("latin-1")))
            raise  # after the token, as upstream
        if timings is not None:
            timings.mark("parse")
        role = handlers.roles.resolve(request.bearer_token)
        if timings is not None:
            timings.mark("jwt")
        query_string = scope["query_string"].decode(errors="replace")
        if request.method == "OPTIONS":
            return handlers.root.options(request, query_string)
        body = b"" if request.is_read else await _body(receive)
        watch = self._watches.begin(receive)
        try:
            if request.kind == "root":
                url = _url(scope, root)
                return await handlers.root.root(request, role, query_string, url)
            try:
                return await handlers.requests.run(request, role, query_string, body, timings)
            except NotInSchemaCache:  # it may have just been created
                newest = await self._cache.caught_up()
                if newest is handlers:
                    raise
                return await newest.requests.run(request, role, query_string, body, timings)
        except asyncio.CancelledError:
            if watch.is_gone:
                watch.task.uncancel()
                raise _ClientGone from None
            raise
        finally:
            self._watches.end(watch)


@dataclass(frozen=True, slots=True)
class _Handlers:
    """The handlers of requests, with the catalog and the settings as they are.

    Attributes:
        is_timed: whether responses say how long their phases took.
        trace_header: the name of the header that responses repeat, empty for none.
        are_errors_minimal: whether errors have neither details nor hints.
    """

    reader: RequestReader
    roles: RoleResolver
    requests: RequestHandler
    root: RootHandler
    is_timed: bool
    trace_header: bytes
    are_errors_minimal: bool


class _ClientGone(Exception):
    """The client closed the connection."""


class _Watch:
    """Cancels a request's task, and so its statement, when its client goes away."""

    __slots__ = ("is_gone", "looking", "receive", "task")

    def __init__(self, receive: Receive, task: asyncio.Task[object]) -> None:
        self.is_gone = False
        self.receive = receive
        self.task = task
        self.looking: asyncio.Task[None] | None = None

    async def look(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.task.cancel()


class _Watches:
    """The watches of all requests under way, with one timer.

    Most requests are over before theirs begins to look, which would cost them more than it is
    worth.
    """

    def __init__(self) -> None:
        self._new: set[_Watch] = set()
        self._waiting: set[_Watch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, receive: Receive) -> _Watch:
        """Watch the current task's client from the next but one turn of the timer on."""
        loop = self._loop
        if loop is None:  # asked for once, since it takes a system call (getpid) each time
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        watch = _Watch(receive, task)
        self._new.add(watch)
        if self._timer is None:
            self._timer = loop.call_later(WATCH_AFTER, self._turn, loop)
        return watch

    def end(self, watch: _Watch) -> None:
        """Look no more."""
        self._new.discard(watch)
        self._waiting.discard(watch)
        if watch.looking is not None:
            watch.looking.cancel()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        for watch in self._waiting:
            watch.looking = loop.create_task(watch.look())
        self._waiting, self._new = self._new, set()
        again = bool(self._waiting)
        self._timer = loop.call_later(WATCH_AFTER, self._turn, loop) if again else None


async def _body(receive: Receive) -> bytes:
    """The whole body; the server in front limits its size."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_file(file: IO[bytes], send: Send) -> None:
    with file:
        while part := await asyncio.to_thread(file.read, PART_BYTES):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _url(scope: Scope, root: str) -> str:
    host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
    return f"{scope.get('scheme', 'http')}://{host}{root}"
