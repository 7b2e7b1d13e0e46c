"""Buckets: make, list, change, empty and delete them."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.rows import uuid_of
from amphibase.gateway.storage import answers, bucket_rows, rows
from amphibase.gateway.storage.acting import become
from amphibase.gateway.storage.bodies import Body, query, read
from amphibase.gateway.storage.bucket_rows import SortColumn, SortOrder
from amphibase.gateway.storage.core import Core
from amphibase.gateway.storage.errors import StorageError, json_answer, no_bucket
from amphibase.gateway.storage.rules import check_allowed_types, check_bucket_name, limit_of

AT_ONCE = 1000
"""Files that are deleted in one transaction."""


class NewBucket(Body):
    name: str
    id: str | None = None
    public: bool | None = None
    type: str | None = None
    file_size_limit: int | str | None = None
    allowed_mime_types: list[str] | None = None


class ChangedBucket(Body):
    public: bool | None = None
    file_size_limit: int | str | None = None
    allowed_mime_types: list[str] | None = None


class WhichBuckets(Body):
    limit: int | None = Field(None, ge=1, le=2**31)
    offset: int = Field(0, ge=0, le=2**31)
    sort_column: SortColumn = Field("id", alias="sortColumn")
    sort_order: SortOrder = Field("asc", alias="sortOrder")
    search: str | None = None


async def create(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    new = await read(request, NewBucket)
    if (new.type or "STANDARD").upper() != "STANDARD":
        raise StorageError(
            409, "NotSupported", f"The feature {new.type} is not enabled for this resource"
        )
    id = new.id or new.name
    check_bucket_name(id)
    check_bucket_name(new.name)
    check_allowed_types(new.allowed_mime_types or ())
    values = {
        "id": id,
        "name": new.name,
        "owner": uuid_of(identity.subject),
        "owner_id": identity.subject,
        "public": bool(new.public),
        "file_size_limit": limit_of(new.file_size_limit, core.settings.file_size_limit),
        "allowed_mime_types": new.allowed_mime_types,
    }
    async with core.acting.sender(identity, "storage.bucket.create") as connection:
        await bucket_rows.add(connection, values)
    return json_answer({"name": id})


async def list_all(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    which = query(request, WhichBuckets)
    async with core.acting.sender(identity, "storage.bucket.list") as connection:
        found = await bucket_rows.listed(
            connection,
            limit=which.limit,
            offset=which.offset,
            column=which.sort_column,
            order=which.sort_order,
            search=which.search,
        )
    return json_answer([answers.bucket(row) for row in found])


async def get(core: Core, request: Request) -> Response:
    identity, id = core.identify(request), request.path_params["bucket"]
    async with core.acting.sender(identity, "storage.bucket.get") as connection:
        found = await bucket_rows.find(connection, id)
    if found is None:
        raise no_bucket()
    return json_answer(answers.bucket(found))


async def update(core: Core, request: Request) -> Response:
    identity, id = core.identify(request), request.path_params["bucket"]
    changed = await read(request, ChangedBucket)
    check_allowed_types(changed.allowed_mime_types or ())
    values = changed.model_dump(include=changed.model_fields_set)
    if values.get("public", False) is None:
        del values["public"]
    if "file_size_limit" in values:
        most = core.settings.file_size_limit
        values["file_size_limit"] = limit_of(values["file_size_limit"], most)
    async with core.acting.sender(identity, "storage.bucket.update") as connection:
        if not await bucket_rows.change(connection, id, values):
            raise no_bucket()
    return json_answer({"message": "Successfully updated"})


async def empty(core: Core, request: Request) -> Response:
    """Delete all files that the sender may see, at once: those who wait need not be told later."""
    identity, id = core.identify(request), request.path_params["bucket"]
    operation = "storage.bucket.empty"
    async with core.acting.sender(identity, operation) as connection:
        if await bucket_rows.find(connection, id) is None:
            raise no_bucket()
    last: str | None = None
    left = False
    while True:
        async with core.acting.sender(identity, operation) as connection:
            names = await rows.some_names(connection, id, AT_ONCE, after=last)
        if not names:
            break
        removed = await core.store.remove(identity, id, names, operation)
        refused = {*names} - {row["name"] for row in removed}
        if refused:  # unless somebody else has just deleted them
            left = left or bool(await core.store.find_many(identity, id, [*refused], operation))
        last = names[-1]
    if left:
        raise StorageError(
            409,
            "InvalidRequest",
            "Unable to empty the bucket because some of the objects could not be deleted",
        )
    return json_answer(
        {"message": "Empty bucket has been queued. Completion may take up to an hour."}
    )


async def delete(core: Core, request: Request) -> Response:
    identity, id = core.identify(request), request.path_params["bucket"]
    operation = "storage.bucket.delete"
    async with core.acting.sender(identity, operation) as connection:
        if await bucket_rows.find(connection, id) is None:
            raise no_bucket()
    async with core.acting.owner() as connection:
        if await bucket_rows.find(connection, id, lock=True) is None:
            raise no_bucket()
        if await rows.some_names(connection, id, 1):
            raise StorageError(
                409, "ResourceNotEmpty", "The bucket you tried to delete is not empty"
            )
        await become(connection, identity, operation)
        if not await bucket_rows.remove(connection, id):
            raise no_bucket()
    return json_answer({"message": "Successfully deleted"})
