"""Storage as an ASGI application of its own."""

from collections.abc import Awaitable, Callable

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from amphibase.accounts.jwt.verifier import Tokens
from amphibase.blobs.drain import Parting
from amphibase.gateway.lifetime import Lifetime, check_table
from amphibase.gateway.storage import buckets, download, errors, objects, signing, tus, upload
from amphibase.gateway.storage.core import Core
from amphibase.gateway.storage.settings import StorageSettings

Call = Callable[[Core, Request], Awaitable[Response]]

FILE = "{bucket}/{name:storage_key}"


class _Key(Convertor[str]):
    """A path as it is, whatever is in it: that no file is called so is to be said by us."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("storage_key", _Key())

# The first that fits is taken, so that names come before parameters.
CALLS: tuple[tuple[str, str, Call], ...] = (
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
    ("POST", "/object/sign/{bucket}", signing.many),
    ("POST", f"/object/sign/{FILE}", signing.one),
    ("GET", f"/object/sign/{FILE}", download.by_token),
    ("POST", f"/object/upload/sign/{FILE}", signing.for_upload),
    ("PUT", f"/object/upload/sign/{FILE}", upload.by_token),
    ("GET", f"/object/info/public/{FILE}", download.info_public),
    ("GET", f"/object/info/authenticated/{FILE}", download.info_authenticated),
    ("GET", f"/object/info/{FILE}", download.info),
    ("GET", f"/object/public/{FILE}", download.public),
    ("GET", f"/object/authenticated/{FILE}", download.authenticated),
    ("GET", f"/object/{FILE}", download.get),
    ("POST", f"/object/{FILE}", upload.create),
    ("PUT", f"/object/{FILE}", upload.update),
    ("DELETE", f"/object/{FILE}", objects.delete_one),
    ("DELETE", "/object/{bucket}", objects.delete_many),
)


class StorageService:
    """Buckets and files in the wire protocol of Supabase Storage; satisfies `Service`.

    Args:
        database_url: of a Postgres with the schema `storage`, as a role that owns its tables and
            may become every role that `authenticator` may.
        tokens: the project's keys.
    """

    def __init__(self, settings: StorageSettings, database_url: str, tokens: Tokens) -> None:
        self._core = Core(settings, database_url, tokens)
        self._lifetime = Lifetime(self._open, self._core.close)
        self._app = Starlette(
            routes=[
                Route("/status", _status, methods=["GET"]),
                Route("/health", self._endpoint(_health), methods=["GET"]),
                *(
                    Route(path, self._endpoint(call), methods=[method])
                    for method, path, call in CALLS
                ),
                *self._tus_routes(),
            ],
            exception_handlers={HTTPException: _not_found},
        )
        self._app.router.redirect_slashes = False

    def _tus_routes(self) -> list[Route]:
        calls = tus.Tus(self._core)
        found = []
        for path in ("/upload/resumable/sign", "/upload/resumable"):
            for method, rest, call in (
                ("OPTIONS", "", calls.offer),
                ("POST", "", calls.begin),
                ("POST", "/", calls.begin),
                ("OPTIONS", "/{id}", calls.offer),
                ("HEAD", "/{id}", calls.offset),
                ("PATCH", "/{id}", calls.go_on),
                ("DELETE", "/{id}", calls.drop),
            ):
                endpoint = self._endpoint(call, tus.answer)
                found.append(Route(path + rest, endpoint, methods=[method]))
        return found

    async def start(self) -> None:
        await self._lifetime.start()

    async def close(self) -> None:
        await self._lifetime.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        with self._lifetime.request():
            await self._app(scope, receive, send)

    async def _open(self) -> None:
        await check_table(self._core.database, "storage.objects")
        await self._core.blobs.check()

    def _endpoint(
        self, call: Call, answer: Callable[[Exception], Response] = errors.answer
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = _Body(request)
            request = Request(request.scope, body.receive)
            try:
                await self.start()
                return await call(self._core, request)
            except ClientDisconnect:
                raise
            except Exception as error:
                told = answer(error)
                return Parting(told) if body.is_coming else told

        return endpoint


class _Body:
    """Notices whether the body of a request is still coming."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        length = request.headers.get("content-length", "0")
        self.is_coming = length != "0" or "transfer-encoding" in request.headers

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):
            self.is_coming = False
        return message


async def _status(request: Request) -> Response:
    return Response()


async def _health(core: Core, request: Request) -> Response:
    """Whether database and folder can be reached. Raises Unavailable."""
    async with core.database.read() as connection:
        await connection.execute(text("SELECT 1"))
    await core.blobs.check()
    return errors.json_answer({"healthy": True})


async def _not_found(request: Request, error: Exception) -> Response:
    path = request.url.path
    body = {
        "message": f"Route {request.method}:{path} not found",
        "error": "Not Found",
        "statusCode": "404",
    }
    return errors.json_answer(body, 404)
