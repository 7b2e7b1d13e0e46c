"""List, move, copy and delete objects."""

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage import listing, responses
from amphibase.gateway.storage.coercion import (
    AS_OBJECT,
    AS_TEXT,
    OptionalFlag,
    OptionalText,
    OptionalWhole,
    Text,
    Texts,
)
from amphibase.gateway.storage.context import StorageContext, bucket_of, checked_path, is_upsert
from amphibase.gateway.storage.errors import AccessDenied, InvalidKey, NoSuchKey, json_response
from amphibase.gateway.storage.limits import check_bucket_name, checked_cache_control
from amphibase.gateway.storage.listing import Column, Order, PageColumn
from amphibase.gateway.storage.schemas import StorageModel, read_body, read_unused_body
from amphibase.gateway.storage.upload_body import user_metadata_of


class DeleteObjects(StorageModel):
    prefixes: Texts = Field(min_length=1)


class MoveObject(StorageModel):
    required = ("bucketId", "sourceKey", "destinationKey")
    bucket: Text = Field(alias="bucketId")
    name: Text = Field(alias="sourceKey")
    to_bucket: OptionalText = Field(None, alias="destinationBucket")
    to_name: Text = Field(alias="destinationKey")

    @property
    def path(self) -> tuple[str, str]:
        return self.bucket, self.name

    @property
    def to(self) -> tuple[str, str]:
        return self.to_bucket or self.bucket, self.to_name


class CopiedMetadata(StorageModel):
    cache_control: OptionalText = Field(None, alias="cacheControl")
    mimetype: OptionalText = None


class CopyObject(MoveObject):
    required = ("sourceKey", "bucketId", "destinationKey")
    metadata: Annotated[CopiedMetadata | None, AS_OBJECT] = None
    keeps_metadata: OptionalFlag = Field(None, alias="copyMetadata")


class SortBy(StorageModel):
    column: Annotated[Column, AS_TEXT]
    order: Annotated[Order | None, AS_TEXT] = None


class SortPageBy(StorageModel):
    column: Annotated[PageColumn, AS_TEXT]
    order: Annotated[Order | None, AS_TEXT] = None


class ListObjects(StorageModel):
    prefix: Text
    limit: OptionalWhole = Field(None, ge=1)
    offset: OptionalWhole = Field(None, ge=0, le=2**31)
    sort_by: Annotated[SortBy | None, AS_OBJECT] = Field(None, alias="sortBy")
    search: OptionalText = None


class ListPage(StorageModel):
    prefix: OptionalText = None
    limit: OptionalWhole = Field(None, ge=1)
    cursor: OptionalText = Field(None, max_length=8192)
    by_folder: OptionalFlag = Field(None, alias="with_delimiter")
    sort_by: Annotated[SortPageBy | None, AS_OBJECT] = Field(None, alias="sortBy")


async def delete_one(context: StorageContext, request: Request) -> Response:
    await read_unused_body(request)
    caller, operation = context.authenticate(request), "storage.object.delete"
    bucket, name = checked_path(request)
    if "\0" in name:  # which no text of the database can hold
        raise InvalidKey(name)
    deletion = await context.objects.delete(caller, bucket, [name], operation)
    if deletion.kept:
        raise AccessDenied
    if not deletion.rows:
        raise NoSuchKey
    return json_response({"message": "Successfully deleted"})


async def delete_many(context: StorageContext, request: Request) -> Response:
    names = (await read_body(request, DeleteObjects)).prefixes
    caller = context.authenticate(request)
    bucket = bucket_of(request)
    deletion = await context.objects.delete(caller, bucket, names, "storage.object.delete_many")
    return json_response([responses.object_json(row) for row in deletion.rows])


async def move(context: StorageContext, request: Request) -> Response:
    body = await read_body(request, MoveObject)
    caller = context.authenticate(request)
    check_bucket_name(body.bucket)
    await context.objects.move(caller, body.path, body.to, "storage.object.move")
    return json_response({"message": "Successfully moved"})


async def copy(context: StorageContext, request: Request) -> Response:
    body = await read_body(request, CopyObject)
    caller = context.authenticate(request)
    check_bucket_name(body.bucket)
    keeps_metadata = body.keeps_metadata is not False
    named = None if keeps_metadata else body.metadata
    changes: dict[str, Any] = {}
    if named is not None and named.cache_control is not None:
        changes["cacheControl"] = checked_cache_control(named.cache_control)
    if named is not None and named.mimetype is not None:
        changes["mimetype"] = named.mimetype
    stored = await context.objects.copy(
        caller,
        body.path,
        body.to,
        "storage.object.copy",
        overwrite=is_upsert(request),
        changes=changes,
        user_metadata=None if keeps_metadata else user_metadata_of(request),
        keeps_metadata=keeps_metadata,
    )
    columns = responses.object_json(stored)
    return json_response({"Key": "/".join(body.to), "Id": stored["id"], **columns})


async def list_folder(context: StorageContext, request: Request) -> Response:
    body = await read_body(request, ListObjects)
    caller = context.authenticate(request)
    bucket = bucket_of(request)
    sorting = body.sort_by or SortBy(column="name")
    async with context.transactions.as_caller(caller, "storage.object.list") as connection:
        rows = await listing.list_folder(
            connection,
            bucket,
            body.prefix,
            search=body.search or "",
            column=sorting.column,
            order=sorting.order or "asc",
            limit=body.limit or 100,
            offset=body.offset or 0,
        )
    return json_response([responses.object_json(row) for row in rows])


async def list_page(context: StorageContext, request: Request) -> Response:
    body = await read_body(request, ListPage)
    caller = context.authenticate(request)
    bucket = bucket_of(request)
    after = listing.read_cursor(body.cursor) if body.cursor else None
    by_folder = bool(body.by_folder)
    async with context.transactions.as_caller(caller, "storage.object.list_v2") as connection:
        rows, end = await listing.list_page(
            connection,
            bucket,
            body.prefix or "",
            by_folder=by_folder,
            column=body.sort_by.column if body.sort_by else None,
            order=body.sort_by.order if body.sort_by else None,
            after=after,
            limit=body.limit or listing.MAX_PAGE,
        )
    page: dict[str, Any] = {"hasNext": end is not None}
    if end is not None:
        page |= {"nextCursor": end.text(), "nextCursorKey": end.name.rstrip("/")}
    return json_response(
        page
        | {
            "folders": [_listed(row, by_folder) for row in rows if row["id"] is None],
            "objects": [_listed(row, by_folder) for row in rows if row["id"] is not None],
        }
    )


def _listed(row: RowMapping, by_folder: bool) -> dict[str, Any]:
    columns = {"id": row["id"], **responses.object_json(row)}
    return {"key": row["name"].rstrip("/").rpartition("/")[2], **columns} if by_folder else columns
