"""/files: sending, reading, listing, moving and signing; streamed both ways."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Query, Request, Response

from amphibase.backend.files import ByteRange, File, OpenFile
from amphibase.blobs import tus as protocol
from amphibase.blobs.download import headers_of, respond
from amphibase.blobs.multipart import UploadForm
from amphibase.errors import Conflict, PayloadTooLarge, PreconditionFailed
from amphibase.http.dependencies import CurrentCaller, Mounted, SignedInCaller
from amphibase.http.routes import buckets, tus
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import (
    Cursor,
    FileRead,
    ListOf,
    MoveFile,
    SignedUrlRead,
    SignFile,
)
from amphibase.records.input import PLAIN
from amphibase.services.files import UPLOADS, FileService, default_path

EXPOSED_HEADERS = ("ETag", "Content-Range", "Content-Disposition", *protocol.EXPOSED_HEADERS)
"""What scripts of other origins may read of a response."""

FORM_OVERHEAD_BYTES = 64 * 1024
UNDECLARED = ("", "application/x-www-form-urlencoded")
"""What tools send by default, when the user declared no type."""

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "bucket": {"type": "string", "default": UPLOADS},
                        "path": {"type": "string", "description": "A free one, if left out"},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
RAW: dict[str, Any] = {"requestBody": {"required": True, "content": BYTES}}
DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes", "content": BYTES},
    206: {"description": "A part of them (`Range`)"},
    304: {"description": "They are as the client has them (`If-None-Match`)"},
}
Signature = Annotated[str | None, Query(max_length=200, description="Of a signed URL")]


router = built_in_router("/files", "files")
router.include_router(buckets.router)
router.include_router(tus.router)


@router.post(
    "",
    status_code=201,
    response_model=FileRead,
    openapi_extra=FORM,
    summary="Send a file in a form",
)
async def upload(request: Request, caller: SignedInCaller, db: Mounted) -> Any:
    service = db.state.files
    announced = _announced(request)
    if announced is not None and announced > service.max_bytes + FORM_OVERHEAD_BYTES:
        raise PayloadTooLarge(f"The file must have at most {service.max_bytes} bytes")
    form = UploadForm(request, ("bucket", "path"))
    await form.find_file()
    before = dict(form.values)
    bucket = before.get("bucket", UPLOADS)
    path = before.get("path") or default_path(form.file_name)
    try:
        file = await service.put(
            caller, bucket, path, form.file(), content_type=form.content_type, overwrite=False
        )
    except PreconditionFailed as error:
        raise Conflict(error.detail) from None
    if form.values != before:  # its bucket or path came after its bytes
        try:
            file = await service.move(
                caller,
                bucket,
                file.path,
                form.values.get("path") or file.path,
                to_bucket=form.values.get("bucket"),
            )
        except BaseException:
            await service.delete(caller, bucket, file.path)
            raise
    return _shown(service, file)


@router.get("", response_model=ListOf[FileRead], summary="Files, in the order of their paths")
async def list_files(
    caller: CurrentCaller,
    db: Mounted,
    bucket: Annotated[str, Query(max_length=100), PLAIN] = UPLOADS,
    prefix: Annotated[str, Query(max_length=1024), PLAIN] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor | None = None,
) -> Any:
    service = db.state.files
    page = await service.list(caller, bucket, prefix, cursor=cursor, limit=limit)
    return ListOf[FileRead](
        items=[_shown(service, file) for file in page.items], next_cursor=page.next_cursor
    )


@router.post("/sign", response_model=SignedUrlRead, summary="A URL that opens one file")
async def sign(body: SignFile, caller: CurrentCaller, db: Mounted) -> Any:
    signed = await db.state.files.signed_url(
        caller, body.bucket, body.path, timedelta(seconds=body.expires_in)
    )
    return SignedUrlRead(url=signed.url, expires_at=signed.expires_at)


@router.post("/move", response_model=FileRead, summary="Give a file another path")
async def move(body: MoveFile, caller: SignedInCaller, db: Mounted) -> Any:
    service = db.state.files
    file = await service.move(
        caller, body.bucket, body.path, body.to_path, to_bucket=body.to_bucket
    )
    return _shown(service, file)


@router.post("/copy", status_code=201, response_model=FileRead, summary="Copy a file")
async def copy(body: MoveFile, caller: SignedInCaller, db: Mounted) -> Any:
    service = db.state.files
    file = await service.copy(
        caller, body.bucket, body.path, body.to_path, to_bucket=body.to_bucket
    )
    return _shown(service, file)


@router.put(
    "/{bucket}/{path:path}",
    response_model=FileRead,
    responses={201: {"model": FileRead, "description": "A new file"}},
    openapi_extra=RAW,
    summary="Send a file as it is; `If-None-Match: *` replaces none",
)
async def put(
    bucket: str,
    path: str,
    request: Request,
    response: Response,
    caller: SignedInCaller,
    db: Mounted,
) -> Any:
    service = db.state.files
    declared = request.headers.get("content-type", "")
    file = await service.put(
        caller,
        bucket,
        path,
        request.stream(),
        content_type=None if declared in UNDECLARED else declared,
        size=_announced(request),
        overwrite=request.headers.get("if-none-match", "").strip() != "*",
    )
    response.status_code = 201 if file.created_at == file.updated_at else 200
    response.headers["ETag"] = f'"{file.etag}"'
    return _shown(service, file)


@router.get(
    "/{bucket}/{path:path}",
    name="read_file",
    response_class=Response,
    responses=DOWNLOAD,
    summary="Read a file, or a part of it",
)
async def read(
    bucket: str,
    path: str,
    request: Request,
    caller: CurrentCaller,
    db: Mounted,
    token: Signature = None,
    download: bool = False,
) -> Response:
    service = db.state.files
    reader = caller if token is None else service.admitted_by(token, bucket, path)

    async def open(part: ByteRange | None) -> tuple[OpenFile, Mapping[str, str]]:
        opened = await service.open(reader, bucket, path, part)
        return opened, headers_of(opened.file, download=download)

    file = await service.stat(reader, bucket, path)
    return await respond(request, file, headers_of(file, download=download), open)


router.head(
    "/{bucket}/{path:path}",
    name="head",
    response_class=Response,
    summary="What is known of a file, in headers",
)(read)


@router.delete("/{bucket}/{path:path}", status_code=204, summary="Delete a file")
async def delete(bucket: str, path: str, caller: CurrentCaller, db: Mounted) -> None:
    await db.state.files.delete(caller, bucket, path)


def _announced(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None


def _shown(service: FileService, file: File) -> FileRead:
    return FileRead(
        bucket=file.bucket,
        path=file.path,
        file_name=file.path.rpartition("/")[2],
        size=file.size,
        content_type=file.content_type,
        etag=file.etag,
        owner_id=file.owner_id,
        public_url=service.public_url(file),
        created_at=file.created_at,
        updated_at=file.updated_at,
    )
