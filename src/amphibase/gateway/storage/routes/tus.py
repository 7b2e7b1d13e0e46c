"""Resumable uploads (`blobs/tus`), for access tokens and for signed upload URLs."""

import base64
import re
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.base import parse_uuid
from amphibase.blobs.resumable import (
    InvalidSize,
    OffsetConflict,
    ResumableUploads,
    UploadInfo,
    UploadLimits,
)
from amphibase.blobs.tus import CHUNK_TYPE, VERSION, Creation, TusProtocol, parse_metadata
from amphibase.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Retryable,
    UploadBusy,
)
from amphibase.gateway.storage.caller import MALFORMED, StorageCaller, request_path
from amphibase.gateway.storage.context import StorageContext, is_upsert
from amphibase.gateway.storage.errors import (
    AccessDenied,
    EntityTooLarge,
    InvalidStorageRequest,
    InvalidUrlSignature,
    KeyAlreadyExists,
    StorageError,
    storage_error,
)
from amphibase.gateway.storage.errors import error_response as storage_error_response
from amphibase.gateway.storage.limits import NO_CACHE, check_bucket_name, check_key
from amphibase.gateway.storage.upload_body import (
    ANY_TYPE,
    RawBody,
    declared_metadata,
    readable_metadata,
)
from amphibase.gateway.storage.uploader import NewObject

_HOST = re.compile(r"[\w.-]{1,255}(?::\d{1,5})?|\[[\da-fA-F:.]{2,45}\](?::\d{1,5})?", re.ASCII)

# As JavaScript writes a number that is one exactly, or as long as may be.
_NUMBER = re.compile(r"0|[1-9]\d*", re.ASCII)

_SECONDS = re.compile(r"-?\d+", re.ASCII)
TEXT = "text/plain;charset=UTF-8"
NO_LENGTH = "Upload-Length or Upload-Defer-Length header required\n"
NO_CONCATENATION = (
    "Concatenation extension is not (yet) supported. Disable parallel uploads in the tus client.\n"
)
SIGNED_PATH = "/upload/resumable/sign"
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "POST, HEAD, PATCH, OPTIONS, DELETE",
    "Access-Control-Allow-Headers": ", ".join(
        (
            *("Authorization", "Content-Type", "Location", "Tus-Extension", "Tus-Max-Size"),
            *("Tus-Resumable", "Tus-Version", "Upload-Concat", "Upload-Defer-Length"),
            *("Upload-Length", "Upload-Metadata", "Upload-Offset", "X-HTTP-Method-Override"),
            *("X-Requested-With", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"),
            *("Authorization", "X-Upsert", "Upload-Expires", "ApiKey", "x-signature"),
        )
    ),
    "Access-Control-Max-Age": "86400",
}
"""What upstream's server says of itself where no proxy answers in its place."""

UNFINISHED = "unfinished"
"""The folder of resumable uploads under way, beside that of the bytes."""


@dataclass(frozen=True, slots=True)
class TusSender:
    """Who sends a resumable upload.

    Attributes:
        name: distinguishes them from others; of a signed URL only the URL is known.
        overwrite: whether they may replace an object.
    """

    caller: StorageCaller
    name: str
    overwrite: bool


class TusRejected(StorageError):
    """Raised with a text that clients of the protocol know, for what it does not allow."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class NotAuthenticated(StorageError):
    """Raised before the protocol begins: Storage itself responds, in JSON."""

    def __init__(self, cause: StorageError) -> None:
        self.cause = cause
        super().__init__(cause.detail)


class TusRoutes:
    """The calls of the protocol."""

    def __init__(self, context: StorageContext) -> None:
        self._context = context
        settings = context.settings
        self._uploads = ResumableUploads[TusSender](
            settings.file_storage_backend_path / UNFINISHED,
            _ObjectDestination(context),
            UploadLimits(
                settings.max_unfinished_uploads_per_user,
                settings.max_unfinished_uploads,
                settings.max_object_bytes,
                timedelta(milliseconds=settings.tus_url_expiry_ms),
            ),
        )
        self._tus = TusProtocol(
            self._uploads, settings.max_object_bytes, when_complete={"Tus-Complete": "1"}
        )

    async def options(self, context: StorageContext, request: Request) -> Response:
        response = self._tus.options()
        response.headers.update(PREFLIGHT_HEADERS)
        return response

    async def create(self, context: StorageContext, request: Request) -> Response:
        self._authenticate(request)
        _check_headers(request)
        if "upload-concat" in request.headers:
            raise TusRejected(501, NO_CONCATENATION)
        if ("upload-length" in request.headers) == ("upload-defer-length" in request.headers):
            raise TusRejected(400, NO_LENGTH)
        if "upload-metadata" not in request.headers:
            raise InvalidStorageRequest("Metadata header is required")

        async def describe(creation: Creation) -> tuple[TusSender, UploadInfo]:
            metadata = creation.metadata
            bucket, name = metadata.get("bucketName", ""), metadata.get("objectName", "")
            check_bucket_name(bucket)
            check_key(name)
            readable_metadata(metadata.get("metadata"))
            sender = await self._sender(request, f"{bucket}/{name}")
            content_type = metadata.get("contentType") or None
            header, overwrite = creation.header, sender.overwrite
            return sender, UploadInfo(bucket, name, creation.size, content_type, header, overwrite)

        def location(id: str) -> str:
            path: str = request.scope["path"]
            return f"{public_origin(request)}{path.rstrip('/')}/{id}"

        response = await self._tus.create(request, describe, location)
        if request.headers.get("content-type") != CHUNK_TYPE:  # no bytes came with it
            del response.headers["upload-offset"]
        return _finished(response, TEXT)

    async def head(self, context: StorageContext, request: Request) -> Response:
        sender = await self._sender(request)
        _check_headers(request)
        _check_id(request)
        response = await self._tus.head(request, sender, request.path_params["id"])
        del response.headers["upload-expires"]
        response.headers["upload-metadata"] = _stored(response.headers["upload-metadata"])
        response.headers["content-type"] = TEXT
        return response

    async def patch(self, context: StorageContext, request: Request) -> Response:
        self._authenticate(request)
        _check_headers(request)
        for header in ("Upload-Offset", "Content-Type"):
            if header not in request.headers:
                raise TusRejected(403, f"{header} header required\n")
        _check_id(request)
        sender, id = await self._sender(request), request.path_params["id"]
        if (await self._uploads.find(sender, id)).info.done:
            raise KeyAlreadyExists
        return _finished(await self._tus.patch(request, sender, id))

    async def delete(self, context: StorageContext, request: Request) -> Response:
        sender, id = await self._sender(request), request.path_params["id"]
        _check_headers(request)
        _check_id(request)
        if (await self._uploads.find(sender, id)).info.done:
            raise TusRejected(400, "Cannot terminate an already completed upload")
        return await self._tus.delete(request, sender, id)

    def _authenticate(self, request: Request) -> StorageCaller | None:
        """Return the caller; None where a signed URL stands for one. Raises NotAuthenticated."""
        if request_path(request).startswith(SIGNED_PATH):
            return None
        try:
            if "authorization" not in request.headers:
                raise AccessDenied(MALFORMED)
            return self._context.authenticate(request)
        except StorageError as error:
            raise NotAuthenticated(error) from None

    async def _sender(self, request: Request, url: str | None = None) -> TusSender:
        """Return who sends the request. Raises StorageError.

        Args:
            url: bucket and name of the object; None where the upload under way knows them.
        """
        if (caller := self._authenticate(request)) is not None:
            return TusSender(caller, caller.subject or caller.role, is_upsert(request))
        token = request.headers.get("x-signature")
        if not token:
            raise InvalidUrlSignature("Missing x-signature header")
        signed = self._context.signed_urls.verify(token, "upload", url)
        caller = await self._context.caller_of(signed)
        return TusSender(caller, f"signed {signed.url}", signed.overwrite)


class _ObjectDestination:
    """Where complete uploads are stored (`UploadDestination`)."""

    def __init__(self, context: StorageContext) -> None:
        self._context = context

    def name_of(self, sender: TusSender) -> str:
        return sender.name

    async def admit(self, sender: TusSender, info: UploadInfo) -> None:
        new, content_type = _new_object(sender, info), info.content_type or ANY_TYPE
        await self._context.uploader.check(new, content_type=content_type, size=info.size)

    async def store(
        self, sender: TusSender, info: UploadInfo, content: AsyncIterable[bytes]
    ) -> None:
        new = _new_object(sender, info)
        body = RawBody(
            content,
            info.content_type or ANY_TYPE,
            _cache_control(parse_metadata(info.metadata)),
            new.user_metadata,
            info.size,
        )
        await self._context.uploader.upload(
            new, body, stored_as="storage.tus.upload.part", size=info.size
        )


def _new_object(sender: TusSender, info: UploadInfo) -> NewObject:
    return NewObject(
        sender.caller,
        (info.bucket, info.path),
        "storage.tus.upload.create",
        info.overwrite,
        declared_metadata(info.content_type or ANY_TYPE, info.size),
        readable_metadata(parse_metadata(info.metadata).get("metadata")) or {},
    )


def _check_id(request: Request) -> None:
    """Raise TusRejected for what is no id of an upload, here or at upstream."""
    id: str = request.path_params["id"]
    if parse_uuid(id) is not None:
        return
    try:
        path = base64.urlsafe_b64decode(id + "=" * (-len(id) % 4)).decode()
    except ValueError:
        path = ""
    if path.count("/") < 3:
        raise TusRejected(400, "Invalid upload id")


def _finished(response: Response, kind: str | None = None) -> Response:
    """Return a response that says when an upload expires as long as it is not complete."""
    if "tus-complete" in response.headers:
        del response.headers["upload-expires"]
    if kind is not None:
        response.headers["content-type"] = kind
    return response


def _stored(header: str) -> str:
    """Return the metadata of an upload as they are stored, with the rule of caches."""
    metadata = parse_metadata(header)
    metadata["cacheControl"] = _cache_control(metadata)
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items()
    )


def _cache_control(metadata: Mapping[str, str]) -> str:
    seconds = metadata.get("cacheControl", "")
    return f"max-age={seconds}" if _SECONDS.fullmatch(seconds) else NO_CACHE


def _check_headers(request: Request) -> None:
    """Raise TusRejected for headers that the protocol does not know so."""
    headers = request.headers
    if "tus-resumable" not in headers:
        raise TusRejected(412, "Tus-Resumable Required\n")
    invalid = [
        name
        for name, is_valid in _VALID.items()
        if name in headers and not is_valid(headers[name])
        if name != "content-type" or request.method == "PATCH"
    ]
    if invalid:
        raise TusRejected(400, f"Invalid {' '.join(invalid)}\n")


def _is_metadata(header: str) -> bool:
    try:
        return bool(parse_metadata(header))
    except InvalidRequest:
        return False


_VALID: dict[str, Callable[[str], bool]] = {
    "tus-resumable": lambda value: value == VERSION,
    "upload-offset": lambda value: _NUMBER.fullmatch(value) is not None,
    "upload-length": lambda value: _NUMBER.fullmatch(value) is not None,
    "upload-defer-length": lambda value: value == "1",
    "upload-metadata": _is_metadata,
    "upload-concat": lambda value: value.startswith(("partial", "final;")),
    "content-type": lambda value: value == CHUNK_TYPE,
}
"""What the headers of the protocol may be."""


def public_origin(request: Request) -> str:
    """Return scheme and host as the client sees them, as upstream's tus server does.

    The headers of a proxy are taken from anyone: what they change, only their sender reads.
    """
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    host = headers.get("x-forwarded-host", "").partition(",")[0].strip() or headers.get("host", "")
    if not _HOST.fullmatch(host):
        return ""
    return f"{scheme if scheme in ('http', 'https') else request.scope['scheme']}://{host}"


def error_response(error: Exception) -> Response:
    """Respond to an error: clients of this protocol go by the status, and show the text."""
    headers = {"Tus-Resumable": VERSION}
    if isinstance(error, Retryable):
        headers["Retry-After"] = str(error.retry_after)
    match error:
        case NotAuthenticated():
            return storage_error_response(error.cause)
        case NotFound():
            status, text = error.status, "The file for this url was not found\n"
        case InvalidSize():
            status, text = error.status, NO_LENGTH
        case OffsetConflict():
            status, text = error.status, "Upload-Offset conflict\n"
        case PayloadTooLarge() | EntityTooLarge():
            status, text = error.status, "Maximum size exceeded\n"
        case UploadBusy() | Conflict():
            status, text = error.status, error.detail
        case _:
            known = storage_error(error)
            status, text = known.status, known.detail
    return Response(text, status, {**headers, "content-type": TEXT})
