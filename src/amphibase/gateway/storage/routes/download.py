"""Read objects, and what is known of them."""

from collections.abc import Mapping

from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from amphibase.backend.files import ByteRange, OpenFile
from amphibase.blobs.download import respond
from amphibase.gateway.storage import responses
from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.context import StorageContext, checked_path, object_path
from amphibase.gateway.storage.errors import json_response
from amphibase.gateway.storage.routes.sign import token_of

GET_OPERATIONS = {
    "GET": "storage.object.get_authenticated",
    "HEAD": "object.head_authenticated_info",
}
INFO_OPERATION = "object.get_authenticated_info"
"""What policies see by `storage.operation()`; upstream writes some without `storage.`."""


async def get(context: StorageContext, request: Request) -> Response:
    """Read an object of a public bucket, or one that the caller may read."""
    operation = GET_OPERATIONS[request.method]
    caller = context.authenticate_if_valid(request)
    row, reader = await context.objects.find_readable(caller, object_path(request), operation)
    return await _respond(context, request, row, reader, operation)


async def authenticated(context: StorageContext, request: Request) -> Response:
    """Read an object of a public bucket, or one that the caller may read, by a valid token."""
    operation = GET_OPERATIONS[request.method]
    caller = context.authenticate(request)
    row, reader = await context.objects.find_readable(caller, object_path(request), operation)
    return await _respond(context, request, row, reader, operation)


async def public(context: StorageContext, request: Request) -> Response:
    """Read an object of a public bucket."""
    operation = "storage.object.get_public"
    row, _ = await context.objects.find_readable(None, object_path(request), operation)
    return await _respond(context, request, row, None, operation)


async def by_token(context: StorageContext, request: Request) -> Response:
    """Read the object of a signed URL."""
    operation = "storage.object.get_signed"
    bucket, name = checked_path(request)
    signed = context.signed_urls.verify(token_of(request), "download", f"{bucket}/{name}")
    row = await context.objects.find(None, (bucket, name), operation)
    return await _respond(context, request, row, None, operation, expires=signed.expires)


async def info(context: StorageContext, request: Request) -> Response:
    """Return what is known of an object that the caller may read."""
    caller = context.authenticate_if_valid(request)
    row, _ = await context.objects.find_readable(caller, object_path(request), INFO_OPERATION)
    return _info(request, row)


async def info_authenticated(context: StorageContext, request: Request) -> Response:
    """Return what is known of an object, for a valid token alone."""
    caller = context.authenticate(request)
    row, _ = await context.objects.find_readable(caller, object_path(request), INFO_OPERATION)
    return _info(request, row)


async def info_public(context: StorageContext, request: Request) -> Response:
    """Return what is known of an object of a public bucket."""
    operation = "storage.object.info_public"
    row, _ = await context.objects.find_readable(None, object_path(request), operation)
    return _info(request, row)


def _info(request: Request, row: RowMapping) -> Response:
    headers = {**responses.headers_of(row), "Cache-Control": "no-cache"}
    if request.method == "HEAD":
        size = responses.file_of(row).size
        return Response(headers={**headers, "Content-Length": str(size)})
    info_headers = {name: headers[name] for name in ("ETag", "Last-Modified", "Cache-Control")}
    return json_response(responses.info_json(row), headers=info_headers)


async def _respond(
    context: StorageContext,
    request: Request,
    row: RowMapping,
    reader: StorageCaller | None,
    operation: str,
    *,
    expires: int | None = None,
) -> Response:
    download = request.query_params.get("download")

    tag = request.headers.get("if-none-match")

    def headers(row: RowMapping) -> dict[str, str]:
        headers = responses.headers_of(row, download=download, expires=expires)
        if expires is None and tag is not None and tag != headers["ETag"]:
            headers["Cache-Control"] += ", stale-while-revalidate=30"
        return headers

    async def open(part: ByteRange | None) -> tuple[OpenFile, Mapping[str, str]]:
        current, start, stop, chunks = await context.objects.open(reader, row, part, operation)
        return OpenFile(responses.file_of(current), start, stop, chunks), headers(current)

    file, modified_at = responses.file_of(row), responses.modified_at(row)
    return await respond(request, file, headers(row), open, modified_at=modified_at)
