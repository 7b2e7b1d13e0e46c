"""/files/tus: resumable uploads (`blobs/tus`)."""

from typing import Any

from fastapi import Request, Response

from amphibase.backend import Caller
from amphibase.blobs.resumable import UploadInfo
from amphibase.blobs.tus import CHUNK_TYPE, Creation, TusProtocol
from amphibase.http.dependencies import Mounted, SignedInCaller
from amphibase.http.routes.route import built_in_router
from amphibase.services.files import UPLOADS, checked_path, default_path

CHUNK: dict[str, Any] = {
    "requestBody": {"content": {CHUNK_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


router = built_in_router("/tus")


@router.options(
    "",
    status_code=204,
    response_class=Response,
    summary="What the protocol offers here",
)
async def offer(request: Request, db: Mounted) -> Response:
    return _protocol(db, request).options()


@router.post("", status_code=201, openapi_extra=CHUNK, summary="Create an upload")
async def create(request: Request, caller: SignedInCaller, db: Mounted) -> Response:
    async def describe(creation: Creation) -> tuple[Caller, UploadInfo]:
        metadata = creation.metadata
        path = metadata.get("path") or default_path(metadata.get("filename", ""))
        return caller, UploadInfo(
            metadata.get("bucket") or UPLOADS,
            checked_path(path),
            creation.size,
            metadata.get("filetype") or None,
            creation.header,
        )

    def location(id: str) -> str:
        return request.url_for("tus_offset", id=id).path

    return await _protocol(db, request).create(request, describe, location)


@router.head("/{id}", name="tus_offset", summary="How much of an upload has come")
async def head(id: str, request: Request, caller: SignedInCaller, db: Mounted) -> Response:
    return await _protocol(db, request).head(request, caller, id)


@router.patch("/{id}", status_code=204, openapi_extra=CHUNK, summary="Append bytes to an upload")
async def patch(id: str, request: Request, caller: SignedInCaller, db: Mounted) -> Response:
    return await _protocol(db, request).patch(request, caller, id)


@router.delete("/{id}", status_code=204, summary="Terminate an upload")
async def delete(id: str, request: Request, caller: SignedInCaller, db: Mounted) -> Response:
    return await _protocol(db, request).delete(request, caller, id)


def _protocol(db: Any, request: Request) -> TusProtocol[Caller]:
    def content_location(info: UploadInfo) -> str:
        return request.url_for("read_file", bucket=info.bucket, path=info.path).path

    state = db.state
    return TusProtocol(state.uploads, state.files.max_bytes, content_location)
