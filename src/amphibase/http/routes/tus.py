"""/files/tus: uploads that go on after a cut connection, by the protocol of tus.io, version 1.0.0,
with its extensions creation, creation-with-upload, expiration and termination."""

import base64
import binascii
from collections.abc import AsyncIterator
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request, Response

from amphibase.blobs.resumable import Plan, Upload
from amphibase.errors import InvalidRequest, PayloadTooLarge, UnsupportedFileType
from amphibase.http.dependencies import Mounted, SignedInCaller
from amphibase.http.routes.route import router
from amphibase.services.files import UPLOADS, checked_path, default_path

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination"
CHUNK_TYPE = "application/offset+octet-stream"
EXPOSED_HEADERS = (
    "Location",
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Expires",
    "Upload-Metadata",
    "Content-Location",
)
CHUNK: dict[str, Any] = {
    "requestBody": {"content": {CHUNK_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


def routes() -> APIRouter:
    """The routes."""
    tus = router("/tus", "files")

    @tus.options("", status_code=204, summary="What the protocol offers here")
    async def offer(response: Response, db: Mounted) -> None:
        response.headers.update(
            {
                "Tus-Resumable": VERSION,
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(db.running.files.max_bytes),
            }
        )

    @tus.post("", status_code=201, openapi_extra=CHUNK, summary="Begin an upload")
    async def begin(request: Request, caller: SignedInCaller, db: Mounted) -> Response:
        _check_version(request)
        size = _number(request, "upload-length")
        about = _metadata(request)
        uploads = db.running.uploads
        upload = await uploads.begin(
            caller,
            Plan(
                about.get("bucket") or UPLOADS,
                checked_path(about.get("path") or default_path(about.get("filename", ""))),
                size,
                about.get("filetype") or None,
                request.headers.get("upload-metadata", ""),
            ),
        )
        if request.headers.get("content-type") == CHUNK_TYPE or size == 0:
            upload = await uploads.go_on(caller, upload.id, 0, request.stream())
        # Without scheme and host: behind a proxy we do not know which ones the client uses.
        location = {"Location": request.url_for("tus_offset", id=upload.id).path}
        return Response(status_code=201, headers={**_headers(upload), **location})

    @tus.head("/{id}", name="tus_offset", summary="How much of an upload has come")
    async def offset(id: str, request: Request, caller: SignedInCaller, db: Mounted) -> Response:
        _check_version(request)
        upload = await db.running.uploads.find(caller, id)
        if upload.received == upload.plan.size and not upload.plan.done:
            # All came, and then the store could not take it: this is the time to try again.
            upload = await db.running.uploads.go_on(caller, id, upload.received, _nothing())
        headers = {"Upload-Length": str(upload.plan.size), "Cache-Control": "no-store"}
        if upload.plan.metadata:
            headers["Upload-Metadata"] = upload.plan.metadata
        return Response(headers={**_headers(upload), **headers})

    @tus.patch("/{id}", status_code=204, openapi_extra=CHUNK, summary="Go on with an upload")
    async def go_on(id: str, request: Request, caller: SignedInCaller, db: Mounted) -> Response:
        _check_version(request)
        if request.headers.get("content-type") != CHUNK_TYPE:
            raise UnsupportedFileType(f"The content type of a part is {CHUNK_TYPE}")
        at = _number(request, "upload-offset")
        upload = await db.running.uploads.go_on(caller, id, at, request.stream())
        return Response(status_code=204, headers=_headers(upload))

    @tus.delete("/{id}", status_code=204, summary="Give an upload up")
    async def drop(id: str, request: Request, caller: SignedInCaller, db: Mounted) -> Response:
        _check_version(request)
        await db.running.uploads.drop(caller, id)
        return Response(status_code=204, headers={"Tus-Resumable": VERSION})

    return tus


def _headers(upload: Upload) -> dict[str, str]:
    headers = {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(upload.received),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }
    if upload.plan.done:
        plan = upload.plan
        headers["Content-Location"] = f"/files/{quote(plan.bucket)}/{quote(plan.path)}"
    return headers


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        versions = {"Tus-Version": VERSION, "Tus-Resumable": VERSION}
        raise HTTPException(412, f"Tus-Resumable must be {VERSION}", headers=versions)


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit()):
        raise InvalidRequest(f"The header {header.title()} must be a number of bytes")
    if len(value) > 18:
        raise PayloadTooLarge(f"{header.title()} is too large")
    return int(value)


def _metadata(request: Request) -> dict[str, str]:
    """The header `Upload-Metadata`: names, each with a value in Base64."""
    found: dict[str, str] = {}
    for pair in request.headers.get("upload-metadata", "").split(","):
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidRequest("Upload-Metadata is not names with values in Base64") from None
    return found


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
