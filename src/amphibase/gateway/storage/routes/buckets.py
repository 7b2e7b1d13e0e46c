"""Buckets: make, list, change, empty and delete them."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage import bucket_rows, object_rows, responses
from amphibase.gateway.storage.bucket_rows import SortColumn, SortOrder
from amphibase.gateway.storage.caller import SERVICE_ROLE
from amphibase.gateway.storage.coercion import (
    AS_TEXT,
    OptionalFlag,
    OptionalText,
    OptionalWhole,
    Size,
    Text,
    Texts,
    Whole,
)
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.errors import (
    BucketKindNotEnabled,
    InvalidRole,
    MalformedRequest,
    NoSuchBucket,
    json_response,
)
from amphibase.gateway.storage.limits import (
    check_allowed_types,
    check_bucket_name,
    check_new_bucket,
    parse_size_limit,
)
from amphibase.gateway.storage.schemas import (
    StorageModel,
    read_body,
    read_query,
    read_unused_body,
)

NOTHING_TO_CHANGE = ", ".join(
    (
        *(
            f"body must have required property '{name}'"
            for name in ("public", "file_size_limit", "allowed_mime_types")
        ),
        "body must match a schema in anyOf",
    )
)
MAX_LISTED = 2**31
AT_ONCE = 1000
"""Files that are deleted in one transaction."""


_KNOWS_TYPES = (
    ("x-client-info", re.compile(r"supabase-py/(\d{1,9})\.(\d{1,9})\.(\d{1,9})", re.I), (2, 18, 0)),
    ("user-agent", re.compile(r"storage3 v(\d{1,9})\.(\d{1,9})\.(\d{1,9})", re.I), (0, 12, 1)),
)
"""The versions of clients for Python from which on they take the type of a bucket."""


def _not_empty(kinds: list[str] | None) -> list[str] | None:
    return None if kinds is None else [kind for kind in kinds if kind]


AllowedTypes = Annotated[Texts | None, AfterValidator(_not_empty)]


class NewBucket(StorageModel):
    name: Text
    id: OptionalText = None
    public: OptionalFlag = None
    type: Annotated[Literal["STANDARD", "ANALYTICS"] | None, AS_TEXT] = None
    file_size_limit: Size = None
    allowed_mime_types: AllowedTypes = None


class BucketChanges(StorageModel):
    public: OptionalFlag = None
    file_size_limit: Size = None
    allowed_mime_types: AllowedTypes = None


class BucketQuery(StorageModel):
    limit: OptionalWhole = Field(None, ge=1)
    offset: Whole = Field(0, ge=0, le=2**31)
    sort_column: Annotated[SortColumn, AS_TEXT] = Field("id", alias="sortColumn")
    sort_order: Annotated[SortOrder, AS_TEXT] = Field("asc", alias="sortOrder")
    search: OptionalText = None


async def create(context: StorageContext, request: Request) -> Response:
    new = await read_body(request, NewBucket)
    caller = context.authenticate(request)
    id = new.id or new.name
    check_new_bucket(new.name)
    check_new_bucket(id)
    if new.type == "ANALYTICS":
        raise BucketKindNotEnabled
    check_allowed_types(new.allowed_mime_types or ())
    values = {
        "id": id,
        "name": new.name,
        "public": bool(new.public),
        "file_size_limit": parse_size_limit(new.file_size_limit, context.settings.max_object_bytes),
        "allowed_mime_types": new.allowed_mime_types,
    }
    await context.buckets.create(caller, values, "storage.bucket.create")
    return json_response({"name": new.name})


async def list_all(context: StorageContext, request: Request) -> Response:
    query = read_query(request, BucketQuery)
    caller = context.authenticate(request)
    async with context.transactions.as_caller(caller, "storage.bucket.list") as connection:
        rows = await bucket_rows.list_all(
            connection,
            limit=None if query.limit is None else min(query.limit, MAX_LISTED),
            offset=query.offset,
            column=query.sort_column,
            order=query.sort_order,
            search=query.search,
        )
    # The kind of a bucket is part of the list alone, as upstream.
    shows_type = _reads_type(request)
    return json_response(
        [
            {**responses.bucket_json(row), **({"type": row["type"]} if shows_type else {})}
            for row in rows
        ]
    )


def _reads_type(request: Request) -> bool:
    """Return whether a client takes the kind of a bucket: older ones for Python raise at it."""
    return not any(
        match is not None and tuple(map(int, match.groups())) < since
        for header, pattern, since in _KNOWS_TYPES
        for match in (pattern.search(request.headers.get(header, "")),)
    )


async def get(context: StorageContext, request: Request) -> Response:
    caller, id = context.authenticate(request), request.path_params["bucket"]
    row = await context.buckets.find(caller, id, "storage.bucket.get")
    return json_response(responses.bucket_json(row))


async def update(context: StorageContext, request: Request) -> Response:
    changes = await read_body(request, BucketChanges)
    if not changes.model_fields_set:
        raise MalformedRequest(NOTHING_TO_CHANGE)
    caller, id = context.authenticate(request), request.path_params["bucket"]
    check_bucket_name(id)
    check_allowed_types(changes.allowed_mime_types or ())
    values = changes.model_dump(include=changes.model_fields_set)
    if values.get("public", False) is None:
        del values["public"]
    if "file_size_limit" in values:
        most = context.settings.max_object_bytes
        values["file_size_limit"] = parse_size_limit(values["file_size_limit"], most)
    async with context.transactions.as_caller(caller, "storage.bucket.update") as connection:
        if not await bucket_rows.change(connection, id, values):
            raise NoSuchBucket
    return json_response({"message": "Successfully updated"})


async def empty(context: StorageContext, request: Request) -> Response:
    """Delete all objects, before the response; for the service alone."""
    await read_unused_body(request, may_be_empty=True)
    caller, id = context.authenticate(request), request.path_params["bucket"]
    if caller.role != SERVICE_ROLE.role:
        raise InvalidRole
    operation = "storage.bucket.empty"
    await context.buckets.find(caller, id, operation)
    last: str | None = None
    while True:
        async with context.transactions.as_caller(caller, operation) as connection:
            names = await object_rows.names(connection, id, AT_ONCE, after=last)
        if not names:
            break
        await context.objects.delete(caller, id, names, operation)
        last = names[-1]
    return json_response(
        {"message": "Empty bucket has been queued. Completion may take up to an hour."}
    )


async def delete(context: StorageContext, request: Request) -> Response:
    await read_unused_body(request, may_be_empty=True)
    caller, id = context.authenticate(request), request.path_params["bucket"]
    await context.buckets.delete(caller, id, "storage.bucket.delete")
    return json_response({"message": "Successfully deleted"})
