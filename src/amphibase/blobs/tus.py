"""Serve resumable uploads by the protocol of tus.io, version 1.0.0, with its extensions creation,
creation-with-upload, creation-defer-length, expiration and termination (https://tus.io/protocols/resumable-upload)."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from types import MappingProxyType
from typing import Generic

from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.resumable import ResumableUploads, Sender, Upload, UploadInfo
from amphibase.errors import (
    InvalidRequest,
    PayloadTooLarge,
    UnsupportedFileType,
    UnsupportedTusVersion,
)

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,expiration"
CHUNK_TYPE = "application/offset+octet-stream"
EXPOSED_HEADERS = (
    "Location",
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Defer-Length",
    "Upload-Expires",
    "Upload-Metadata",
    "Content-Location",
)
"""What scripts of other origins may read of a response."""

MAX_LENGTH_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Creation:
    """A request for a new upload.

    Attributes:
        size: of the whole file, in bytes; None where a later request declares it.
        metadata: names and values of the header `Upload-Metadata`.
        header: the same as it was sent.
    """

    size: int | None
    metadata: dict[str, str]
    header: str


class TusProtocol(Generic[Sender]):
    """The calls of the protocol, for a service that knows the senders and the paths.

    Args:
        max_bytes: of a file, as it is offered.
        content_location: where a file can be read once all of it has come.
        when_complete: headers of the response to the request whose bytes are the last.
    """

    def __init__(
        self,
        uploads: ResumableUploads[Sender],
        max_bytes: int,
        content_location: Callable[[UploadInfo], str] | None = None,
        when_complete: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._uploads = uploads
        self._max_bytes = max_bytes
        self._content_location = content_location
        self._when_complete = when_complete

    def options(self) -> Response:
        """Respond with what the protocol offers here."""
        headers = {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(self._max_bytes),
        }
        return Response(status_code=204, headers=headers)

    async def create(
        self,
        request: Request,
        describe: Callable[[Creation], Awaitable[tuple[Sender, UploadInfo]]],
        location: Callable[[str], str],
    ) -> Response:
        """Create an upload, and append the bytes that come with it.

        Args:
            describe: who sends it, and what is to become of it.
            location: where an upload of this id goes on; without scheme and host, since behind a
                proxy we do not know which ones the client uses.
        """
        _check_version(request)
        size = _size_of_creation(request)
        header = request.headers.get("upload-metadata", "")
        sender, info = await describe(Creation(size, parse_metadata(header), header))
        upload = await self._uploads.create(sender, info)
        if request.headers.get("content-type") == CHUNK_TYPE or size == 0:
            upload = await self._uploads.append(sender, upload.id, 0, request.stream())
        headers = {**self._progress(upload), "Location": location(upload.id)}
        return Response(status_code=201, headers=headers)

    async def head(self, request: Request, sender: Sender, id: str) -> Response:
        """Respond with how much of an upload has come."""
        _check_version(request)
        upload = await self._uploads.resume(sender, id)
        headers = {"Cache-Control": "no-store"}
        if upload.info.size is None:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(upload.info.size)
        if upload.info.metadata:
            headers["Upload-Metadata"] = upload.info.metadata
        return Response(headers={**self._headers(upload), **headers})

    async def patch(self, request: Request, sender: Sender, id: str) -> Response:
        """Append bytes to an upload."""
        _check_version(request)
        if request.headers.get("content-type") != CHUNK_TYPE:
            raise UnsupportedFileType(f"The content type of a part is {CHUNK_TYPE}")
        offset = _bytes_in(request, "upload-offset")
        size = _bytes_in(request, "upload-length") if "upload-length" in request.headers else None
        upload = await self._uploads.append(sender, id, offset, request.stream(), size=size)
        return Response(status_code=204, headers=self._progress(upload))

    async def delete(self, request: Request, sender: Sender, id: str) -> Response:
        """Terminate an upload."""
        _check_version(request)
        await self._uploads.terminate(sender, id)
        return Response(status_code=204, headers={"Tus-Resumable": VERSION})

    def _progress(self, upload: Upload) -> dict[str, str]:
        headers = self._headers(upload)
        return {**headers, **self._when_complete} if upload.info.done else headers

    def _headers(self, upload: Upload) -> dict[str, str]:
        headers = {
            "Tus-Resumable": VERSION,
            "Upload-Offset": str(upload.received),
            "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
        }
        if upload.info.done and self._content_location is not None:
            headers["Content-Location"] = self._content_location(upload.info)
        return headers


def parse_metadata(header: str) -> dict[str, str]:
    """Read the header `Upload-Metadata`: names, each with a value in Base64.

    Raises:
        InvalidRequest: it is written in another way.
    """
    metadata: dict[str, str] = {}
    for pair in header.split(","):
        name, _, value = pair.strip().partition(" ")
        try:
            metadata[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidRequest("Upload-Metadata is not names with values in Base64") from None
    return metadata


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise UnsupportedTusVersion(VERSION)


def _size_of_creation(request: Request) -> int | None:
    """Return the size that an upload is created with. Raises InvalidRequest, PayloadTooLarge."""
    deferred = request.headers.get("upload-defer-length")
    if deferred is None:
        return _bytes_in(request, "upload-length")
    if deferred != "1" or "upload-length" in request.headers:
        raise InvalidRequest("Send either Upload-Length, or Upload-Defer-Length with the value 1")
    return None


def _bytes_in(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit()):
        raise InvalidRequest(f"The header {header.title()} must be a number of bytes")
    if len(value) > MAX_LENGTH_DIGITS:
        raise PayloadTooLarge(f"{header.title()} is too large")
    return int(value)
