"""Read images in another size or format."""

import hashlib
from dataclasses import replace

from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.download import is_current, not_modified
from amphibase.gateway.storage import responses
from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.context import StorageContext, checked_path, object_path
from amphibase.gateway.storage.errors import EntityTooLarge, NoSuchBucket, NoSuchKey
from amphibase.gateway.storage.images import MAX_SOURCE_BYTES, Transformation
from amphibase.gateway.storage.object_rows import size_of
from amphibase.gateway.storage.routes.sign import token_of
from amphibase.gateway.storage.schemas import read_query


async def public(context: StorageContext, request: Request) -> Response:
    """Read an image of a public bucket."""
    operation = "storage.render.image_public"
    row, _ = await context.objects.find_readable(None, object_path(request), operation)
    wanted = read_query(request, Transformation)
    return await _respond(context, request, row, None, operation, wanted)


async def authenticated(context: StorageContext, request: Request) -> Response:
    """Read an image of a public bucket, or one that the caller may read, by a valid token."""
    operation, caller = "storage.render.image_authenticated", context.authenticate(request)
    try:
        row, reader = await context.objects.find_readable(caller, checked_path(request), operation)
    except NoSuchBucket:
        raise NoSuchKey from None
    wanted = read_query(request, Transformation)
    return await _respond(context, request, row, reader, operation, wanted)


async def by_token(context: StorageContext, request: Request) -> Response:
    """Read the image of a signed URL, in the form that was signed."""
    operation, (bucket, name) = "storage.render.image_sign", checked_path(request)
    signed = context.signed_urls.verify(token_of(request), "image", f"{bucket}/{name}")
    row = await context.objects.find(None, (bucket, name), operation)
    wanted = Transformation.model_validate(signed.transformation or {})
    return await _respond(context, request, row, None, operation, wanted, expires=signed.expires)


async def _respond(
    context: StorageContext,
    request: Request,
    row: RowMapping,
    reader: StorageCaller | None,
    operation: str,
    wanted: Transformation,
    *,
    expires: int | None = None,
) -> Response:
    context.images.check_available()
    if size_of(row) > MAX_SOURCE_BYTES:
        raise EntityTooLarge(f"The image has over {MAX_SOURCE_BYTES // 1024**2} MB")
    takes_webp = "image/webp" in request.headers.get("accept", "")
    download = request.query_params.get("download")
    headers = responses.headers_of(row, download=download, expires=expires)
    headers["Vary"] = "Accept"
    if wanted.description:
        headers["X-Transformations"] = wanted.description
    # Another form has other bytes: its tag says of which ones they are made, and how.
    form = f"{headers['ETag']} {wanted.model_dump_json()} {takes_webp}"
    headers["ETag"] = f'"{hashlib.sha256(form.encode()).hexdigest()[:32]}"'
    file = replace(responses.file_of(row), etag=headers["ETag"].strip('"'))
    if is_current(request, file, None):
        return not_modified(headers)

    async def read() -> bytes:
        _, _, _, chunks = await context.objects.open(reader, row, None, operation)
        return b"".join([chunk async for chunk in chunks])

    content, headers["Content-Type"] = await context.images.render(read, wanted, takes_webp)
    return Response(content, headers=headers)
