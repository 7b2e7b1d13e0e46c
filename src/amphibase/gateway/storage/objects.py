"""Files that are there: list, move, copy and delete them."""

from typing import Any

from pydantic import Field
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage import answers, listing
from amphibase.gateway.storage.bodies import Body, read
from amphibase.gateway.storage.core import Core, place_of
from amphibase.gateway.storage.errors import json_answer, no_object
from amphibase.gateway.storage.incoming import user_metadata_of
from amphibase.gateway.storage.listing import Column, Order
from amphibase.gateway.storage.rules import checked_cache_control

MAX_AT_ONCE = 1000


class Names(Body):
    prefixes: list[str] = Field(min_length=1, max_length=MAX_AT_ONCE)


class Moved(Body):
    bucket: str = Field(alias="bucketId")
    name: str = Field(alias="sourceKey")
    to_name: str = Field(alias="destinationKey")
    to_bucket: str | None = Field(None, alias="destinationBucket")

    @property
    def place(self) -> tuple[str, str]:
        return self.bucket, self.name

    @property
    def to(self) -> tuple[str, str]:
        return self.to_bucket or self.bucket, self.to_name


class Facts(Body):
    cache_control: str | None = Field(None, alias="cacheControl")
    mimetype: str | None = None


class Copied(Moved):
    metadata: Facts | None = None
    keeps_metadata: bool | None = Field(None, alias="copyMetadata")


class SortedBy(Body):
    column: Column | None = None
    order: Order | None = None


class Listed(Body):
    prefix: str
    limit: int | None = Field(None, ge=1, le=2**31)
    offset: int | None = Field(None, ge=0, le=2**31)
    sort_by: SortedBy | None = Field(None, alias="sortBy")
    search: str | None = None


class Paged(Body):
    prefix: str | None = None
    limit: int | None = Field(None, ge=1, le=2**31)
    cursor: str | None = Field(None, max_length=8192)
    by_folder: bool | None = Field(None, alias="with_delimiter")
    sort_by: SortedBy | None = Field(None, alias="sortBy")


async def delete_one(core: Core, request: Request) -> Response:
    bucket, name = place_of(request)
    identity, operation = core.identify(request), "storage.object.delete"
    if not await core.store.remove(identity, bucket, [name], operation):
        raise no_object()
    return json_answer({"message": "Successfully deleted"})


async def delete_many(core: Core, request: Request) -> Response:
    identity, bucket = core.identify(request), request.path_params["bucket"]
    names = (await read(request, Names)).prefixes
    removed = await core.store.remove(identity, bucket, names, "storage.object.delete_many")
    return json_answer([answers.whole_object(row) for row in removed])


async def move(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    asked = await read(request, Moved)
    id = await core.store.move(identity, asked.place, asked.to, "storage.object.move")
    return json_answer({"message": "Successfully moved", "Id": id, "Key": "/".join(asked.to)})


async def copy(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    asked = await read(request, Copied)
    changes: dict[str, Any] = {}
    if asked.metadata is not None and asked.metadata.cache_control is not None:
        changes["cacheControl"] = checked_cache_control(asked.metadata.cache_control)
    if asked.metadata is not None and asked.metadata.mimetype is not None:
        changes["mimetype"] = asked.metadata.mimetype
    stored = await core.store.copy(
        identity,
        asked.place,
        asked.to,
        "storage.object.copy",
        overwrite=request.headers.get("x-upsert") == "true",
        changes=changes,
        user_metadata=user_metadata_of(request),
        keeps_metadata=asked.keeps_metadata is not False,
    )
    whole = answers.whole_object(stored)
    return json_answer({"Id": stored["id"], "Key": "/".join(asked.to), **whole})


async def list_folder(core: Core, request: Request) -> Response:
    identity, bucket = core.identify(request), request.path_params["bucket"]
    asked = await read(request, Listed)
    sorting = asked.sort_by or SortedBy()
    async with core.acting.sender(identity, "storage.object.list") as connection:
        found = await listing.listed(
            connection,
            bucket,
            asked.prefix,
            search=asked.search or "",
            column=sorting.column or "name",
            order=sorting.order or "asc",
            limit=asked.limit or 100,
            offset=asked.offset or 0,
        )
    return json_answer([answers.whole_object(row) for row in found])


async def list_page(core: Core, request: Request) -> Response:
    identity, bucket = core.identify(request), request.path_params["bucket"]
    asked = await read(request, Paged)
    sorting = asked.sort_by or SortedBy()
    prefix = asked.prefix or ""
    by_folder = bool(asked.by_folder)
    async with core.acting.sender(identity, "storage.object.list_v2") as connection:
        found, cursor = await listing.page(
            connection,
            bucket,
            prefix,
            by_folder=by_folder,
            column=sorting.column or "name",
            order=sorting.order or "asc",
            cursor=asked.cursor,
            limit=asked.limit or listing.MAX_PAGE,
        )
    page: dict[str, Any] = {
        "hasNext": cursor is not None,
        "folders": [_folder(row) for row in found if row["id"] is None],
        "objects": [_listed(row, by_folder) for row in found if row["id"] is not None],
    }
    if cursor is not None:
        page["nextCursor"] = cursor
    return json_answer(page)


def _folder(row: RowMapping) -> dict[str, Any]:
    name: str = row["name"]
    return {"key": name.rstrip("/").rpartition("/")[2], "name": name}


def _listed(row: RowMapping, by_folder: bool) -> dict[str, Any]:
    shown = answers.whole_object(row)
    return {"key": row["name"].rpartition("/")[2], **shown} if by_folder else shown
