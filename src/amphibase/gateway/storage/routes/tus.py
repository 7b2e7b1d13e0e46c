"""Resumable uploads (`blobs/tus`), for access tokens and for signed upload URLs."""

import re
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.resumable import (
    OffsetConflict,
    ResumableUploads,
    UploadInfo,
    UploadLimits,
)
from amphibase.blobs.tus import VERSION, Creation, TusProtocol, parse_metadata
from amphibase.errors import (
    Conflict,
    PayloadTooLarge,
    Retryable,
    UnsupportedFileType,
    UnsupportedTusVersion,
    UploadBusy,
)
from amphibase.gateway.storage.caller import StorageCaller, request_path
from amphibase.gateway.storage.context import StorageContext, is_upsert
from amphibase.gateway.storage.errors import (
    EntityTooLarge,
    InvalidStorageRequest,
    InvalidUrlSignature,
    storage_error,
)
from amphibase.gateway.storage.limits import cache_control_of
from amphibase.gateway.storage.upload_body import (
    ANY_TYPE,
    RawBody,
    declared_metadata,
    parse_user_metadata,
)
from amphibase.gateway.storage.uploader import NewObject

_HOST = re.compile(r"[\w.-]{1,255}(?::\d{1,5})?|\[[\da-fA-F:.]{2,45}\](?::\d{1,5})?", re.ASCII)

SIGNED_PATH = "/upload/resumable/sign"
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


class TusRoutes:
    """The calls of the protocol."""

    def __init__(self, context: StorageContext) -> None:
        self._context = context
        settings = context.settings
        uploads = ResumableUploads[TusSender](
            settings.file_storage_backend_path / UNFINISHED,
            _ObjectDestination(context),
            UploadLimits(
                settings.max_unfinished_uploads_per_user,
                settings.max_unfinished_uploads,
                settings.max_object_bytes,
                timedelta(milliseconds=settings.tus_url_expiry_ms),
            ),
        )
        self._tus = TusProtocol(uploads, settings.max_object_bytes)

    async def options(self, context: StorageContext, request: Request) -> Response:
        return self._tus.options()

    async def create(self, context: StorageContext, request: Request) -> Response:
        async def describe(creation: Creation) -> tuple[TusSender, UploadInfo]:
            metadata = creation.metadata
            bucket, name = metadata.get("bucketName"), metadata.get("objectName")
            if not bucket or not name:
                raise InvalidStorageRequest("Metadata header is required")
            parse_user_metadata(metadata.get("metadata"))
            sender = await self._sender(request, f"{bucket}/{name}")
            content_type = metadata.get("contentType") or None
            header, overwrite = creation.header, sender.overwrite
            return sender, UploadInfo(bucket, name, creation.size, content_type, header, overwrite)

        def location(id: str) -> str:
            path: str = request.scope["path"]
            return f"{public_origin(request)}{path.rstrip('/')}/{id}"

        return await self._tus.create(request, describe, location)

    async def head(self, context: StorageContext, request: Request) -> Response:
        sender = await self._sender(request)
        return await self._tus.head(request, sender, request.path_params["id"])

    async def patch(self, context: StorageContext, request: Request) -> Response:
        sender = await self._sender(request)
        return await self._tus.patch(request, sender, request.path_params["id"])

    async def delete(self, context: StorageContext, request: Request) -> Response:
        sender = await self._sender(request)
        return await self._tus.delete(request, sender, request.path_params["id"])

    async def _sender(self, request: Request, url: str | None = None) -> TusSender:
        """Return who sends the request. Raises StorageError.

        Args:
            url: bucket and name of the object; None where the upload under way knows them.
        """
        if not request_path(request).startswith(SIGNED_PATH):
            caller = self._context.authenticate(request)
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
            cache_control_of(parse_metadata(info.metadata).get("cacheControl")),
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
        parse_user_metadata(parse_metadata(info.metadata).get("metadata")) or {},
    )


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
        case UnsupportedTusVersion():
            headers["Tus-Version"] = error.supported
            status, text = error.status, error.detail
        case OffsetConflict():
            status, text = error.status, "Upload-Offset conflict\n"
        case PayloadTooLarge() | EntityTooLarge():
            status, text = error.status, "Maximum size exceeded\n"
        case UploadBusy() | Conflict() | UnsupportedFileType():
            status, text = error.status, error.detail
        case _:
            known = storage_error(error)
            status, text = known.status, known.detail
    return Response(text, status, headers, media_type="text/plain; charset=utf-8")
