"""The gateway itself: one ASGI application with all services, each mounted at its prefix.

It does what Kong does before the services of a Supabase project: it routes, responds to CORS, turns
API keys into tokens, and rejects bodies that are too large and clients that stall.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import orjson
from starlette.types import Message, Receive, Scope, Send

from amphibase.errors import ConfigurationError, RequestTimeout, Unavailable
from amphibase.gateway.cors import OPEN, Headers, cors_headers, is_preflight, preflight_headers
from amphibase.gateway.forwarded import with_origin
from amphibase.gateway.keys import ApiKeys
from amphibase.gateway.service import WHOLE_RESPONSE, Service, deny_websocket
from amphibase.redaction import redacted_logger
from amphibase.request_body import BODY_SECONDS, RequestBody, has_body

logger = redacted_logger("amphibase.gateway")

TAKE_SECONDS = 20
"""How long a client may take nothing in the middle of a response."""

NO_ROUTE = "no Route matched with those values"
INVALID_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}
"""As Kong and its configuration by Supabase respond."""

FUNCTIONS = "/functions/v1/"
NO_FUNCTION = {"code": "NOT_FOUND", "message": "Requested function was not found"}
"""As the platform responds for an edge function that is not deployed; there are none here."""

GRAPHQL = ("/graphql/v1", "/graphql/v1/")
GRAPHQL_CALL = "/rest/v1/rpc/graphql"
GRAPHQL_PROFILE = (b"content-profile", b"graphql_public")
"""Requests of GraphQL call a function by the Data API, as Supabase configures Kong."""

KEY_PREFIXES = (b"sb_", b"eyJ")
"""Of API keys: opaque ones, and JSON Web Tokens. A filter by a column begins with an operator."""

JSON = (b"content-type", b"application/json; charset=utf-8")


@dataclass
class Mount:
    """A service at its prefix, built when it is needed.

    Args:
        build: makes the service, at its first request or at `start`.
        max_body: the most bytes that a request's body may have; None where the service looks.
        takes_api_key: whether an API key that is a JWT counts as the bearer's token.
        takes_origin: whether headers say where a request came from (`X-Forwarded-For` …).
        starts_early: whether `Gateway.start` starts it; else its first request does.
        allowed_origins: of the pages that may call; none for all.
    """

    build: Callable[[], Service]
    max_body: int | None = None
    takes_api_key: bool = True
    takes_origin: bool = False
    starts_early: bool = True
    allowed_origins: Sequence[str] = ()
    _service: Service | None = field(default=None, repr=False)

    def service(self) -> Service:
        if self._service is None:
            self._service = self.build()
        return self._service

    def detach(self) -> Service | None:
        """Return the service, if there is one; the next request builds a new one."""
        service, self._service = self._service, None
        return service


class Gateway:
    """All services of a project.

    Args:
        mounts: by prefix, such as `/rest/v1`.
        keys: the project's API keys.
        body_seconds: how long a client may send nothing in the middle of a body.
    """

    def __init__(
        self, mounts: Mapping[str, Mount], keys: ApiKeys, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._mounts = dict(mounts)
        self._keys = keys
        self._body_seconds = body_seconds

    def service(self, prefix: str) -> Service:
        """Return the service at a prefix."""
        return self._mounts[prefix].service()

    async def start(self) -> None:
        """Start the services that start early.

        Raises:
            ConfigurationError: a setting is wrong, or the database lacks something.
            Unavailable: the database cannot be reached.
        """
        for mount in self._mounts.values():
            if mount.starts_early:
                await mount.service().start()

    async def close(self, detached: Callable[[], None] | None = None) -> None:
        """Close all services, even where one fails to; the next request to one builds it again.

        Args:
            detached: called when no request reaches the old ones, which may take long to close.
        """
        services = [mount.detach() for mount in self._mounts.values()]
        if detached is not None:
            detached()
        async with AsyncExitStack() as stack:
            for service in services:
                if service is not None:
                    stack.push_async_callback(service.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._websocket(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        root: str = scope.get("root_path", "")
        prefix = self._prefix(scope["path"].removeprefix(root))
        if prefix is None:
            await deny_websocket(scope, receive, send, 404, NO_ROUTE)
            return
        headers = dict(scope["headers"])
        # A browser sets no header of a handshake, so that its API key is in the query string.
        if b"apikey" not in headers and (key := _api_key(scope["query_string"])):
            headers[b"apikey"] = key
        mount = self._mounts[prefix]
        credentials = self._credentials(scope["headers"], headers, mount)
        if credentials is None:
            await deny_websocket(scope, receive, send, 401, INVALID_KEY["message"])
            return
        child = {**scope, "root_path": root + prefix, "headers": credentials}
        await mount.service()(child, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        exchange = _Exchange(scope, receive, send, self._body_seconds)
        headers = dict(scope["headers"])
        is_graphql = path in GRAPHQL
        if is_graphql:
            path = GRAPHQL_CALL
        prefix = self._prefix(path)
        if prefix is not None:
            allowed_origins = self._mounts[prefix].allowed_origins
            exchange.cors = cors_headers(allowed_origins, headers.get(b"origin"))
        if scope["method"] == "OPTIONS" and is_preflight(headers):
            await exchange.respond(200, None, preflight_headers(headers, exchange.cors))
            return
        if is_graphql:
            scope = {**scope, "path": root + path, "headers": [*scope["headers"], GRAPHQL_PROFILE]}
        if prefix is None:
            if path == "/health":
                await exchange.respond(200, {"status": "ok"})
            elif path.startswith(FUNCTIONS):
                code = (b"sb-error-code", NO_FUNCTION["code"].encode())
                await exchange.respond(404, NO_FUNCTION, [*OPEN, code])
            else:
                await exchange.respond(404, {"message": NO_ROUTE})
            return
        mount = self._mounts[prefix]
        query_string: bytes = scope["query_string"]
        # A link has its API key in the query string. The service does not see it, as behind the
        # API gateway of a project (Kong's key-auth with hide_credentials).
        if (
            b"apikey=" in query_string
            and b"apikey" not in headers
            and (key := _api_key(query_string))
            and key.startswith(KEY_PREFIXES)
        ):
            headers[b"apikey"] = key
            query_string = _without_api_key(query_string)
        credentials = self._credentials(scope["headers"], headers, mount)
        if credentials is None:
            await exchange.respond(401, INVALID_KEY)
            return
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() else 0
        if mount.max_body is not None and size > mount.max_body:
            await exchange.reject_body()
            return
        if mount.takes_origin:
            credentials = with_origin(credentials, scope, headers.get(b"host", b""))
        child = {
            **scope,
            "root_path": root + prefix,
            "headers": credentials,
            "query_string": query_string,
        }
        if has_body(headers):
            exchange.limit = mount.max_body
            receive = exchange.receive
        await self._serve(mount, child, receive, exchange)

    def _prefix(self, path: str) -> str | None:
        for prefix in self._mounts:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                return prefix
        return None

    async def _serve(
        self, mount: Mount, scope: Scope, receive: Receive, exchange: "_Exchange"
    ) -> None:
        try:
            await mount.service()(scope, receive, exchange.send)
        except Unavailable as error:
            after = str(error.retry_after or 1).encode()
            await exchange.fail(503, error.detail, [(b"retry-after", after)])
        except ConfigurationError as error:
            logger.error("%s", error.detail)
            await exchange.fail(503, error.detail)
        except Exception:
            if exchange.gone or exchange.rejected:
                logger.debug("A service met a client that is gone", exc_info=True)
            elif exchange.began:
                raise  # cutting the connection is all that is left
            else:
                logger.exception("Unexpected error")
                await exchange.fail(500, "An unexpected error occurred")
        if exchange.rejected:
            await exchange.reject_body()

    def _credentials(
        self, received: Headers, headers: Mapping[bytes, bytes], mount: Mount
    ) -> Headers | None:
        """Return the headers with a token in Authorization; None for an unknown key.

        An opaque key is replaced by its token. Without a token, the API key serves as one, where
        the service takes it.
        """
        authorization = headers.get(b"authorization")
        if authorization is not None and authorization[:10].lower() != b"bearer sb_":
            return received
        key = headers.get(b"apikey") if authorization is None else authorization[7:]
        if not key:
            return received
        token = key
        if key.startswith(b"sb_"):
            key_token = self._keys.token_for(key.decode("latin-1"))
            if key_token is None:
                return None
            token = key_token.encode()
        elif authorization is None and not mount.takes_api_key:
            return received
        others = [header for header in received if header[0] != b"authorization"]
        return [*others, (b"authorization", b"Bearer " + token)]


class _Exchange:
    """One request and its response: adds CORS headers, limits the request body, and cuts off a
    client that stalls.

    Attributes:
        began: whether a part of the response was sent.
    """

    __slots__ = (
        "_body", "_bytes", "_head", "_send", "_send_whole", "began", "cors", "gone", "limit",
        "rejected",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_seconds: float) -> None:
        self._body = RequestBody(receive, body_seconds)
        self._send = send
        extension = scope.get("extensions", {}).get(WHOLE_RESPONSE)
        self._send_whole = None if extension is None else extension["send"]
        self._head: Message | None = None
        self._bytes = 0
        self.limit: int | None = None
        self.cors = OPEN
        self.began = self.gone = self.rejected = False

    async def receive(self) -> Message:
        """Receive the next part of the body; too much or too late, the client is disconnected."""
        if self.rejected:
            return {"type": "http.disconnect"}
        try:
            message = await self._body.receive()
        except RequestTimeout:
            self.rejected = True
            return {"type": "http.disconnect"}
        if message["type"] == "http.disconnect":
            self.gone = True
        else:
            self._bytes += len(message.get("body", b""))
            if self.limit is not None and self._bytes > self.limit:
                self.rejected = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; its head goes with the first part of its body."""
        if self.rejected and not self.began:
            return
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            names = dict(headers)
            message["headers"] = [
                *headers,
                *[header for header in self.cors if header[0] not in names],
            ]
            self._head = message
            return
        head, self._head = self._head, None
        if head is not None:
            self.began = True
            if not message.get("more_body") and self._sends_whole(head, message):
                return
            await self._send(head)
        if message.get("more_body"):
            async with asyncio.timeout(TAKE_SECONDS):
                await self._send(message)
        else:
            await self._send(message)

    def _sends_whole(self, head: Message, body: Message) -> bool:
        return self._send_whole is not None and self._send_whole(
            head["status"], head["headers"], body.get("body", b"")
        )

    async def respond(
        self, status: int, content: Mapping[str, str] | None, headers: Headers | None = None
    ) -> None:
        body = b"" if content is None else orjson.dumps(content)
        all_headers = [
            *(self.cors if headers is None else headers),
            (b"content-length", b"%d" % len(body)),
        ]
        if body:
            all_headers.append(JSON)
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, status: int, message: str, headers: Headers | None = None) -> None:
        """Respond in place of the service, unless it has begun to."""
        if not (self.began or self.rejected):
            await self.respond(status, {"message": message}, [*self.cors, *(headers or [])])

    async def reject_body(self) -> None:
        """Respond that the body is too large or did not come, and read no more of it."""
        if self.began:
            return
        self.began = True
        status, message = 413, "Payload too large"
        if self._body.timed_out:
            status, message = RequestTimeout.status, RequestTimeout.default
        await self.respond(status, {"message": message}, [*self.cors, (b"connection", b"close")])


def _api_key(query_string: bytes) -> bytes | None:
    keys = parse_qs(query_string).get(b"apikey")
    return keys[-1] if keys else None


def _without_api_key(query_string: bytes) -> bytes:
    return b"&".join(part for part in query_string.split(b"&") if part[:7] != b"apikey=")
