"""Realtime as an ASGI application of its own."""

from collections.abc import Awaitable, Callable

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.lifetime import CALLER_ROLES, Lifetime, check_rights
from amphibase.gateway.realtime import rest
from amphibase.gateway.realtime.client_socket import ClientSocket
from amphibase.gateway.realtime.context import RealtimeContext
from amphibase.gateway.realtime.errors import RealtimeError, TooManyConnections
from amphibase.gateway.realtime.frames import Version
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.gateway.realtime.tokens import authenticate
from amphibase.gateway.service import ENCODED_FRAMES, deny_websocket

Endpoint = Callable[[RealtimeContext, Request], Awaitable[Response]]

WEBSOCKET = "/websocket"

_DELETE_OLD_MESSAGES = text(
    "DELETE FROM realtime.messages WHERE inserted_at < now() - interval '3 days'"
)
"""They were sent when they came; Supabase Realtime keeps them for as long."""

ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/api/broadcast", rest.broadcast),
    ("POST", rest.BROADCAST_PATH + "{names:path}", rest.broadcast_one),
)


class RealtimeApp:
    """Channels in the wire protocol of Supabase Realtime; satisfies `Service`.

    Args:
        database_url: of a Postgres with the schema `realtime`, as a role that owns its tables and
            may become every role that `authenticator` may.
        tokens: the project's keys.
    """

    def __init__(self, settings: RealtimeSettings, database_url: str, tokens: KeyRing) -> None:
        self._context = RealtimeContext(settings, database_url, tokens)
        self._lifetime = Lifetime(self._open, self._context.close)
        self._app = Starlette(
            routes=[
                Route("/api/ping", _ping, methods=["GET"]),
                *(
                    Route(path, self._endpoint(call), methods=[method])
                    for method, path, call in ENDPOINTS
                ),
            ]
        )
        self._app.router.redirect_slashes = False

    async def start(self) -> None:
        await self._lifetime.start()

    async def close(self) -> None:
        for socket in list(self._context.sockets):
            socket.restart()
        await self._lifetime.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lifetime.request():
            if scope["type"] == "http":
                await self._app(scope, receive, send)
            else:
                await self._connect(scope, receive, send)

    async def _open(self) -> None:
        await check_rights(
            self._context.database, "realtime.messages", "supabase_realtime_admin", CALLER_ROLES
        )
        async with self._context.database.write() as connection:
            await connection.execute(_DELETE_OLD_MESSAGES)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a handshake, and serve the socket until it ends."""
        # What the handshake needs is freed before that: a twentieth of an idle connection.
        socket = await self._accept(scope, receive, send)
        if socket is not None:
            await socket.run()

    async def _accept(self, scope: Scope, receive: Receive, send: Send) -> ClientSocket | None:
        """Respond to a handshake; return the socket, unless it is denied."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path != WEBSOCKET:
            await deny_websocket(scope, receive, send)
            return None
        handshake = HTTPConnection(scope)
        parameters = handshake.query_params
        try:
            token = rest.token_of(handshake.headers) or parameters.get("apikey")
            caller = authenticate(self._context.tokens, token)
            version = _version(parameters.get("vsn"))
            self._check_limits()
        except RealtimeError as error:
            await deny_websocket(scope, receive, send, error.status, error.message, key="error")
            return None
        await self.start()
        await receive()  # the handshake
        await send({"type": "websocket.accept"})
        extension = scope.get("extensions", {}).get(ENCODED_FRAMES, {})
        return ClientSocket(
            self._context, receive, send, extension.get("write"), version, caller.token
        )

    def _check_limits(self) -> None:
        most = self._context.settings.max_connections
        if most and len(self._context.sockets) >= most:
            raise TooManyConnections

    def _endpoint(self, call: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                await self.start()
                return await call(self._context, request)
            except ClientDisconnect:
                raise
            except RealtimeError as error:
                return rest.json_response({"message": error.message}, error.status)

        return endpoint


def _version(name: str | None) -> Version:
    """Return the version of the protocol. Raises RealtimeError."""
    try:
        return Version(name or Version.V1)
    except ValueError:
        raise RealtimeError(
            f"There is no version {name} of the protocol: {', '.join(Version)}"
        ) from None


async def _ping(request: Request) -> Response:
    return rest.json_response({"message": "Success"}, 200)
