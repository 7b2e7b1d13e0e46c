"""Uploads that go on after a cut connection, by the protocol of tus.io, version 1.0.0, with its
extensions creation, creation-with-upload, expiration and termination."""

import base64
import binascii
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.resumable import Plan, ResumableUploads, Upload
from amphibase.errors import Conflict, Retryable, UploadBusy
from amphibase.gateway.storage.core import UNFINISHED, Core
from amphibase.gateway.storage.errors import StorageError, known, malformed, too_large
from amphibase.gateway.storage.identity import Identity, path_of, service
from amphibase.gateway.storage.incoming import ANY, Whole, parse_user_metadata
from amphibase.gateway.storage.rules import cache_control_of

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination"
CHUNK_TYPE = "application/offset+octet-stream"
SIGNED = "/upload/resumable/sign"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends an upload.

    Attributes:
        name: tells them from others; who holds a signed URL is known by it alone.
        overwrite: whether they ask for a file to be replaced.
    """

    identity: Identity
    name: str
    overwrite: bool


class _Destination:
    """Where uploads go when all of them is there (`resumable.Destination`)."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def name_of(self, sender: Sender) -> str:
        return sender.name

    async def admit(self, sender: Sender, plan: Plan) -> None:
        await self._core.store.may_put(
            sender.identity,
            (plan.bucket, plan.path),
            "storage.tus.upload.create",
            overwrite=plan.overwrite,
            content_type=plan.content_type or ANY,
            announced=plan.size,
        )

    async def take(self, sender: Sender, plan: Plan, content: AsyncIterable[bytes]) -> None:
        said = _metadata(plan.metadata)
        incoming = Whole(
            content,
            plan.content_type or ANY,
            cache_control_of(said.get("cacheControl")),
            parse_user_metadata(said.get("metadata")),
            plan.size,
        )
        await self._core.store.put(
            sender.identity,
            (plan.bucket, plan.path),
            incoming,
            "storage.tus.upload.part",
            overwrite=plan.overwrite,
            size=plan.size,
        )


class Tus:
    """The calls of the protocol."""

    def __init__(self, core: Core) -> None:
        self._core = core
        folder = core.settings.file_storage_backend_path / UNFINISHED
        self._uploads = ResumableUploads[Sender](folder, _Destination(core))

    async def offer(self, core: Core, request: Request) -> Response:
        """What the protocol offers here."""
        headers = {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(core.settings.file_size_limit),
        }
        return Response(status_code=204, headers=headers)

    async def begin(self, core: Core, request: Request) -> Response:
        _check_version(request)
        size = _number(request, "upload-length")
        header = request.headers.get("upload-metadata", "")
        said = _metadata(header)
        if not header or not said.get("bucketName") or not said.get("objectName"):
            raise StorageError(400, "InvalidRequest", "Metadata header is required")
        parse_user_metadata(said.get("metadata"))
        bucket, name = said["bucketName"], said["objectName"]
        sender = self._sender(request, f"{bucket}/{name}")
        plan = Plan(bucket, name, size, said.get("contentType") or None, header, sender.overwrite)
        upload = await self._uploads.begin(sender, plan)
        if request.headers.get("content-type") == CHUNK_TYPE or size == 0:
            upload = await self._uploads.go_on(sender, upload.id, 0, request.stream())
        # Without scheme and host: behind a proxy we do not know which ones the client uses.
        location = f"{request.scope['path'].rstrip('/')}/{upload.id}"
        return Response(status_code=201, headers={**_headers(upload), "Location": location})

    async def offset(self, core: Core, request: Request) -> Response:
        _check_version(request)
        sender, id = self._sender_of(request), request.path_params["id"]
        upload = await self._uploads.find(sender, id)
        if upload.received == upload.plan.size and not upload.plan.done:
            # All came, and then it could not be stored: this is the time to try again.
            upload = await self._uploads.go_on(sender, id, upload.received, _nothing())
        headers = {
            "Upload-Length": str(upload.plan.size),
            "Upload-Metadata": upload.plan.metadata,
            "Cache-Control": "no-store",
        }
        return Response(headers={**_headers(upload), **headers})

    async def go_on(self, core: Core, request: Request) -> Response:
        _check_version(request)
        if request.headers.get("content-type") != CHUNK_TYPE:
            raise StorageError(415, "TusError", f"The content type of a part is {CHUNK_TYPE}")
        offset = _number(request, "upload-offset")
        sender, id = self._sender_of(request), request.path_params["id"]
        upload = await self._uploads.go_on(sender, id, offset, request.stream())
        return Response(status_code=204, headers=_headers(upload))

    async def drop(self, core: Core, request: Request) -> Response:
        _check_version(request)
        await self._uploads.drop(self._sender_of(request), request.path_params["id"])
        return Response(status_code=204, headers={"Tus-Resumable": VERSION})

    def _sender_of(self, request: Request) -> Sender:
        return self._sender(request, None)

    def _sender(self, request: Request, path: str | None) -> Sender:
        """Who sends the request. Raises StorageError.

        Args:
            path: bucket and name of the file; None where the upload that goes on knows it.
        """
        if not path_of(request).startswith(SIGNED):
            identity = self._core.identify(request)
            overwrite = request.headers.get("x-upsert") == "true"
            return Sender(identity, identity.subject or identity.role, overwrite)
        token = request.headers.get("x-signature")
        if not token:
            raise StorageError(400, "InvalidSignature", "Missing x-signature header")
        signed = self._core.signed.verify(token, "upload", path)
        return Sender(service(signed.owner), f"signed {signed.url}", signed.overwrite)


def answer(error: Exception) -> Response:
    """The answer to an error: clients of this protocol go by the status, and show the text."""
    headers = {"Tus-Resumable": VERSION}
    if isinstance(error, Retryable):
        headers["Retry-After"] = str(error.retry_after)
    match error:
        case UploadBusy():
            status, text = error.status, error.detail
        case Conflict():
            status, text = 409, error.detail
        case _:
            told = known(error)
            status, text = told.real_status, told.detail
    if status == 412:
        headers["Tus-Version"] = VERSION
    return Response(text, status, headers, media_type="text/plain; charset=utf-8")


def _headers(upload: Upload) -> dict[str, str]:
    return {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(upload.received),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise StorageError(412, "TusError", f"Tus-Resumable must be {VERSION}")


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit()):
        raise malformed(f"The header {header.title()} must be a number of bytes")
    if len(value) > 18:
        raise too_large()
    return int(value)


def _metadata(header: str) -> dict[str, str]:
    """The header `Upload-Metadata`: names, each with a value in Base64."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise malformed("Upload-Metadata is not names with values in Base64") from None
    return found


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
