"""Store objects: what the caller declares is held against policies, then the bytes come, then the
row.

Policies for INSERT and UPDATE see the row as it is before any byte has come, as on Supabase: its
type and announced length, and not yet its size. The row that is stored is written as
`service_role`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping

from amphibase.blobs.base import Blobs, parse_uuid
from amphibase.blobs.swap import swap
from amphibase.database.pipeline_connection import PipelineTransaction
from amphibase.gateway.storage import bucket_rows, object_rows
from amphibase.gateway.storage.caller import StorageCaller, service_caller
from amphibase.gateway.storage.errors import (
    EntityTooLarge,
    InvalidKey,
    KeyAlreadyExists,
    NoSuchBucket,
    ResourceAlreadyExists,
)
from amphibase.gateway.storage.limits import check_type
from amphibase.gateway.storage.object_rows import ObjectPath
from amphibase.gateway.storage.transactions import StorageTransactions, impersonate
from amphibase.gateway.storage.upload_body import MeasuredBody, UploadBody

FOLDER_PLACEHOLDER = ".emptyFolderPlaceholder"
"""The name of an empty object by which the dashboard keeps a folder."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """What a caller declares of an object before its bytes come.

    Args:
        operation: what policies see by `storage.operation()`.
        overwrite: whether it may replace an object.
        metadata: what is known of the column `metadata`.
        user_metadata: the caller's own.
    """

    caller: StorageCaller
    path: ObjectPath
    operation: str
    overwrite: bool
    metadata: dict[str, Any] | None = None
    user_metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Permission:
    """The values that policies have checked.

    Attributes:
        max_bytes: the most that the object may have.
        replaces: id and version of the row that the object would replace.
    """

    max_bytes: int
    replaces: tuple[UUID, str | None] | None


class Uploader:
    """Stores the objects of a project.

    Args:
        max_bytes: the most bytes of an object, whatever its bucket allows.
    """

    def __init__(self, transactions: StorageTransactions, blobs: Blobs, max_bytes: int) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._max_bytes = max_bytes

    async def check(
        self, new: NewObject, *, content_type: str | None = None, size: int | None = None
    ) -> Permission:
        """Check that the caller may store such an object, before its bytes are read.

        Args:
            content_type: to be held against what the bucket takes, which has to be there; without
                it the database says whether it is.
            size: how many bytes will come at least.

        Raises:
            StorageError: the caller may not, or an object is in the way.
        """
        if "\0" in new.path[1]:  # which no text of the database can hold
            raise InvalidKey(new.path[1])
        limit = self._max_bytes
        with _taken_names():
            async with self._transactions.as_admin() as connection, connection.undone():
                bucket = await bucket_rows.find(connection, new.path[0])
                if bucket is None and content_type is not None:
                    raise NoSuchBucket
                if bucket is not None and bucket["file_size_limit"] is not None:
                    limit = min(limit, bucket["file_size_limit"])
                is_placeholder = new.path[1].endswith(FOLDER_PLACEHOLDER)
                if is_placeholder:
                    limit = 0
                if size is not None and size > limit:
                    raise EntityTooLarge
                if content_type and bucket is not None and not is_placeholder:
                    check_type(content_type, bucket["allowed_mime_types"])
                row = await object_rows.find(connection, *new.path)
                await _try_row(connection, new)
        return Permission(limit, _identity(row))

    async def upload(
        self, new: NewObject, body: UploadBody, stored_as: str, *, size: int | None = None
    ) -> UUID:
        """Store an object; return the id of its row.

        Args:
            stored_as: the operation that triggers see when the row is written.
            size: how many bytes have to come, where that is known.

        Raises:
            StorageError: it may not be stored; nothing of it is stored.
            IncompleteUpload: another number of bytes came.
        """
        permission = await self.check(
            new, content_type=body.content_type, size=body.minimum_bytes if size is None else size
        )
        version = uuid4()
        measured = MeasuredBody(body.chunks(), permission.max_bytes, size)
        await self._blobs.write(version, measured.chunks())
        metadata = measured.metadata(body.content_type, body.cache_control)
        if body.robots_tag is not None:
            metadata["xRobotsTag"] = body.robots_tag
        return await self.write(
            new, permission, version, metadata, body.user_metadata, stored_as=stored_as
        )

    async def write(
        self,
        new: NewObject,
        permission: Permission,
        version: UUID,
        metadata: dict[str, Any],
        user_metadata: dict[str, Any] | None,
        *,
        stored_as: str,
    ) -> UUID:
        """Let the object's row name bytes that are stored; return the id of the row.

        Raises:
            StorageError: it may not be stored; the bytes are deleted.
        """
        values = _values(new, version, metadata, user_metadata)

        async def write_row() -> tuple[UUID, str | None]:
            with _taken_names():
                return await replace_row()

        async def replace_row() -> tuple[UUID, str | None]:
            async with self._transactions.as_admin() as connection:
                # As the owner: the caller may not see the row that is in the way.
                object_rows.reserve(connection, new.path)
                row = await object_rows.find(connection, *new.path, lock=True)
                if _identity(row) != permission.replaces:
                    # It came or changed after the check, and may not be the caller's to replace.
                    async with connection.undone():
                        await _try_row(connection, new)
                await impersonate(connection, service_caller(new.caller), stored_as)
                await object_rows.add(connection, values, overwrite=new.overwrite)
            return (values["id"], None) if row is None else (row["id"], row["version"])

        return await swap(self._blobs, version, write_row)


@contextmanager
def _taken_names() -> Iterator[None]:
    try:
        yield
    except ResourceAlreadyExists:
        raise KeyAlreadyExists from None


async def _try_row(connection: PipelineTransaction, new: NewObject) -> None:
    """Write the row that the caller declares, as the caller; to be undone."""
    await impersonate(connection, new.caller, new.operation)
    values = _values(new, uuid4(), new.metadata, new.user_metadata)
    await object_rows.add(connection, values, overwrite=new.overwrite)


def _identity(row: RowMapping | None) -> tuple[UUID, str | None] | None:
    return None if row is None else (row["id"], row["version"])


def _values(
    new: NewObject,
    version: UUID,
    metadata: dict[str, Any] | None,
    user_metadata: dict[str, Any] | None,
) -> dict[str, Any]:
    bucket, name = new.path
    return {
        "id": uuid4(),  # as the column's default
        "bucket_id": bucket,
        "name": name,
        "owner": parse_uuid(new.caller.subject),
        "owner_id": new.caller.subject,
        "version": str(version),
        "metadata": metadata,
        "user_metadata": user_metadata,
    }
