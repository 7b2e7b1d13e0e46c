"""Storage as an ASGI application of its own."""

from collections.abc import Awaitable, Callable

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.blobs.drain import DrainingResponse
from amphibase.gateway.keys import S3Credentials
from amphibase.gateway.lifetime import CALLER_ROLES, Lifetime, check_rights
from amphibase.gateway.service import deny_websocket
from amphibase.gateway.storage import errors
from amphibase.gateway.storage.caller import request_path
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.routes import (
    buckets,
    cdn,
    download,
    objects,
    render,
    sign,
    tus,
    upload,
)
from amphibase.gateway.storage.s3 import PREFIX as S3_PREFIX
from amphibase.gateway.storage.settings import StorageSettings
from amphibase.request_body import BODY_SECONDS, RequestBody, has_body

Endpoint = Callable[[StorageContext, Request], Awaitable[Response]]

COMPATIBLE = "1.70.6"
"""The version of Supabase's Storage whose protocol this is."""

FILE = "{bucket}/{name:storage_key}"


class _ObjectKeyConvertor(Convertor[str]):
    """A path as it is, unchecked: the service itself rejects an invalid one."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("storage_key", _ObjectKeyConvertor())

# The first that fits is taken, so that names come before parameters.
ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/bucket", buckets.list_all),
    ("GET", "/bucket/", buckets.list_all),
    ("POST", "/bucket", buckets.create),
    ("POST", "/bucket/", buckets.create),
    ("GET", "/bucket/{bucket}", buckets.get),
    ("PUT", "/bucket/{bucket}", buckets.update),
    ("DELETE", "/bucket/{bucket}", buckets.delete),
    ("POST", "/bucket/{bucket}/empty", buckets.empty),
    ("POST", "/object/move", objects.move),
    ("POST", "/object/copy", objects.copy),
    ("POST", "/object/list/{bucket}", objects.list_folder),
    ("POST", "/object/list-v2/{bucket}", objects.list_page),
    ("POST", "/object/sign/{bucket}", sign.many),
    ("POST", f"/object/sign/{FILE}", sign.one),
    ("GET", f"/object/sign/{FILE}", download.by_token),
    ("POST", f"/object/upload/sign/{FILE}", sign.for_upload),
    ("PUT", f"/object/upload/sign/{FILE}", upload.by_token),
    ("GET", f"/object/info/public/{FILE}", download.info_public),
    ("GET", f"/object/info/authenticated/{FILE}", download.info_authenticated),
    ("GET", f"/object/info/{FILE}", download.info),
    ("GET", f"/object/public/{FILE}", download.public),
    ("GET", f"/object/authenticated/{FILE}", download.authenticated),
    ("GET", f"/object/{FILE}", download.get),
    ("GET", f"/render/image/public/{FILE}", render.public),
    ("GET", f"/render/image/authenticated/{FILE}", render.authenticated),
    ("GET", f"/render/image/sign/{FILE}", render.by_token),
    ("POST", f"/object/{FILE}", upload.create),
    ("PUT", f"/object/{FILE}", upload.update),
    ("DELETE", f"/object/{FILE}", objects.delete_one),
    ("DELETE", "/object/{bucket}", objects.delete_many),
    ("DELETE", "/cdn", cdn.purge),
    ("DELETE", "/cdn/", cdn.purge),
    ("DELETE", "/cdn/{bucket}", cdn.purge),
    ("DELETE", f"/cdn/{FILE}", cdn.purge),
)


class StorageApp:
    """Buckets and files in the wire protocol of Supabase Storage; satisfies `Service`.

    Args:
        database_url: of a Postgres with the schema `storage`, as a role that owns its tables and
            may become every role that `authenticator` may.
        tokens: the project's keys.
        body_seconds: how long a client may send nothing in the middle of a body.
        s3: the access key of the S3 protocol; None leaves the protocol out.
    """

    def __init__(
        self,
        settings: StorageSettings,
        database_url: str,
        tokens: KeyRing,
        body_seconds: float = BODY_SECONDS,
        s3: S3Credentials | None = None,
    ) -> None:
        self._body_seconds = body_seconds
        self._s3 = s3
        self._context = StorageContext(settings, database_url, tokens)
        self._lifetime = Lifetime(self._open, self._context.close)
        self._app = Starlette(
            routes=[
                Route("/status", _status, methods=["GET"]),
                Route("/version", _version, methods=["GET"]),
                Route("/health", self._endpoint(_health), methods=["GET"]),
                *(
                    Route(path, self._endpoint(call), methods=[method])
                    for method, path, call in ENDPOINTS
                    if settings.image_transformation_enabled or not path.startswith("/render/")
                ),
                *self._tus_routes(),
                *self._s3_routes(),
            ],
            exception_handlers={HTTPException: _not_found},
        )
        self._app.router.redirect_slashes = False

    def _tus_routes(self) -> list[Route]:
        calls = tus.TusRoutes(self._context)
        routes = []
        for path in ("/upload/resumable/sign", "/upload/resumable"):
            for method, rest, call in (
                ("OPTIONS", "", calls.options),
                ("POST", "", calls.create),
                ("POST", "/", calls.create),
                ("OPTIONS", "/{id}", calls.options),
                ("HEAD", "/{id}", calls.head),
                ("PATCH", "/{id}", calls.patch),
                ("DELETE", "/{id}", calls.delete),
            ):
                endpoint = self._endpoint(call, lambda error, _: tus.error_response(error))
                routes.append(Route(path + rest, endpoint, methods=[method]))
        return routes

    def _s3_routes(self) -> list[Route]:
        credentials = self._s3
        if credentials is None:
            return []

        async def handle(context: StorageContext, request: Request) -> Response:
            from amphibase.gateway.storage.s3 import service as s3  # few projects use it

            return await s3.handle(context, request, credentials)

        endpoint = self._endpoint(handle, _s3_error_response)
        methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
        return [Route(S3_PREFIX + rest, endpoint, methods=methods) for rest in ("", "/{rest:path}")]

    async def start(self) -> None:
        await self._lifetime.start()

    async def close(self) -> None:
        await self._lifetime.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await deny_websocket(scope, receive, send)
            return
        with self._lifetime.request():
            await self._app(scope, receive, send)

    async def _open(self) -> None:
        await check_rights(
            self._context.database, "storage.objects", "supabase_storage_admin", CALLER_ROLES
        )
        await self._context.blobs.check()

    def _endpoint(
        self,
        call: Endpoint,
        respond: Callable[[Exception, Request], Response] = lambda error, _: errors.error_response(
            error
        ),
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = RequestBody(request.receive, self._body_seconds)
            request = Request(request.scope, body.receive)
            try:
                await self.start()
                return await call(self._context, request)
            except ClientDisconnect:
                raise
            except Exception as error:
                response = respond(error, request)
                is_coming = body.is_coming and has_body(dict(request.scope["headers"]))
                return DrainingResponse(response) if is_coming else response

        return endpoint


def _s3_error_response(error: Exception, request: Request) -> Response:
    from amphibase.gateway.storage.s3.errors import error_response

    path = request_path(request).removeprefix(S3_PREFIX)
    return error_response(error, "/".join(part for part in path.split("/") if part))


async def _status(request: Request) -> Response:
    return Response()


async def _version(request: Request) -> Response:
    return PlainTextResponse(COMPATIBLE)


async def _health(context: StorageContext, request: Request) -> Response:
    """Whether database and folder can be reached. Raises Unavailable."""
    async with context.database.read() as connection:
        await connection.execute(text("SELECT 1"))
    await context.blobs.check()
    return errors.json_response({"healthy": True})


async def _not_found(request: Request, error: Exception) -> Response:
    path: str = request.scope["raw_path"].decode("latin-1")
    path = path.removeprefix(request.scope.get("root_path", ""))
    query = f"?{request.url.query}" if request.url.query else ""
    body = {
        "message": f"Route {request.method}:{path}{query} not found",
        "error": "Not Found",
        "statusCode": 404,
    }
    if path.split("/")[1:2] in (["bucket"], ["object"], ["render"], ["cdn"], ["vector"]):
        body |= {"statusCode": "404", "code": "InvalidRequest"}
    return errors.json_response(body, 404)
