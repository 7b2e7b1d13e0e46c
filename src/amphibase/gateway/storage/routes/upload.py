"""Upload an object in one request."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.context import (
    StorageContext,
    checked_path,
    is_upsert,
    object_path,
)
from amphibase.gateway.storage.errors import json_response
from amphibase.gateway.storage.limits import check_key
from amphibase.gateway.storage.routes.sign import token_of
from amphibase.gateway.storage.upload_body import declared_metadata, read_upload
from amphibase.gateway.storage.uploader import NewObject


async def create(context: StorageContext, request: Request) -> Response:
    """Store an object, or replace one where `x-upsert` allows it."""
    caller, overwrite = context.authenticate(request), is_upsert(request)
    id = await _upload(context, request, caller, "storage.object.upload", overwrite=overwrite)
    return json_response({"Key": "/".join(object_path(request)), "Id": id})


async def update(context: StorageContext, request: Request) -> Response:
    """Replace an object."""
    caller, operation = context.authenticate(request), "storage.object.upload_update"
    id = await _upload(context, request, caller, operation, overwrite=True)
    return json_response({"Key": "/".join(object_path(request)), "Id": id})


async def by_token(context: StorageContext, request: Request) -> Response:
    """Store an object by a signed upload URL; permission was checked when it was signed."""
    bucket, name = checked_path(request)
    signed = context.signed_urls.verify(token_of(request), "upload", f"{bucket}/{name}")
    caller, operation = await context.caller_of(signed), "storage.object.upload_signed"
    await _upload(context, request, caller, operation, overwrite=signed.overwrite)
    return json_response({"Key": f"{bucket}/{name}"})


async def _upload(
    context: StorageContext,
    request: Request,
    caller: StorageCaller,
    operation: str,
    *,
    overwrite: bool,
) -> UUID:
    bucket, name = checked_path(request)
    check_key(name)
    body = await read_upload(request)
    metadata = declared_metadata(body.content_type, body.content_length)
    new = NewObject(caller, (bucket, name), operation, overwrite, metadata, body.user_metadata)
    return await context.uploader.upload(new, body, operation)
