"""Find, open, move, copy and delete objects, as policies let the caller."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import RowMapping

from amphibase.backend.files import ByteRange
from amphibase.blobs.base import BlobMissing, Blobs
from amphibase.blobs.swap import copy_blob, open_blob, release
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.storage import bucket_rows, object_rows
from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.errors import NoSuchBucket, NoSuchKey
from amphibase.gateway.storage.limits import check_key
from amphibase.gateway.storage.object_rows import ObjectPath, metadata_of, size_of
from amphibase.gateway.storage.responses import timestamp
from amphibase.gateway.storage.transactions import StorageTransactions, impersonate
from amphibase.gateway.storage.uploader import NewObject, Permission, Uploader
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.storage")


class Deletion(NamedTuple):
    """What became of objects that were to be deleted.

    Attributes:
        rows: of those that were deleted.
        kept: the names of those that are there still, since the caller may not delete them.
    """

    rows: list[RowMapping]
    kept: set[str]


class _Copy(NamedTuple):
    """An object that is to be copied.

    Attributes:
        version: of its bytes.
        metadata: of the copy.
        new: the copy.
        permission: what policies have said of the copy.
    """

    version: str | None
    metadata: dict[str, Any]
    new: NewObject
    permission: Permission


class ObjectStorage:
    """The objects of a project."""

    def __init__(self, transactions: StorageTransactions, blobs: Blobs, uploader: Uploader) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._uploader = uploader

    async def find(
        self, caller: StorageCaller | None, path: ObjectPath, operation: str
    ) -> RowMapping:
        """Find the row of an object.

        Args:
            caller: who reads; None where that has been decided.

        Raises:
            InvalidKey: no object has such a name.
            NoSuchKey: it is missing, or hidden from the caller.
        """
        check_key(path[1])
        return await self._find(caller, path, operation)

    async def _find(
        self, caller: StorageCaller | None, path: ObjectPath, operation: str
    ) -> RowMapping:
        async with self._reading(caller, operation) as connection:
            row = await object_rows.find(connection, *path)
        if row is None:
            raise NoSuchKey
        return row

    async def find_readable(
        self, caller: StorageCaller | None, path: ObjectPath, operation: str
    ) -> tuple[RowMapping, StorageCaller | None]:
        """Find an object of a public bucket, or one that the caller may read.

        Args:
            caller: None for one without a valid token.

        Returns:
            The row, and as whom it is read: None where everybody may.

        Raises:
            NoSuchBucket, InvalidKey, NoSuchKey: it is missing, or hidden from the caller.
        """
        async with self._transactions.as_admin() as connection:
            bucket = await bucket_rows.find(connection, path[0])
            if bucket is None or not (bucket["public"] or caller):
                raise NoSuchBucket
            check_key(path[1])
            reader = None if bucket["public"] else caller
            if reader is not None:
                await impersonate(connection, reader, operation)
            row = await object_rows.find(connection, *path)
        if row is None:
            raise NoSuchKey
        return row, reader

    async def readable_names(
        self, caller: StorageCaller, bucket: str, names: Sequence[str], operation: str
    ) -> set[str]:
        """Return the names of those objects that the caller may read."""
        async with self._transactions.as_caller(caller, operation) as connection:
            rows = await object_rows.find_many(connection, bucket, names)
        return {row["name"] for row in rows}

    async def open(
        self, caller: StorageCaller | None, row: RowMapping, part: ByteRange | None, operation: str
    ) -> tuple[RowMapping, int, int, AsyncIterator[bytes]]:
        """Open an object's bytes, or a part of them; see `open_blob`.

        Raises:
            NoSuchKey: the object was deleted, or its bytes are lost.
            RangeNotSatisfiable: the object has no such part.
        """

        async def find_again() -> RowMapping:
            return await self.find(caller, (row["bucket_id"], row["name"]), operation)

        def describe(row: RowMapping) -> tuple[str | None, int]:
            return row["version"], size_of(row)

        try:
            return await open_blob(self._blobs, row, find_again, describe, part)
        except BlobMissing:
            logger.error("The bytes of %s/%s are missing", row["bucket_id"], row["name"])
            raise NoSuchKey from None

    async def move(
        self, caller: StorageCaller, path: ObjectPath, to: ObjectPath, operation: str
    ) -> UUID:
        """Give an object another path; return the id of its row. Raises StorageError."""
        check_key(to[1])
        async with self._transactions.as_admin() as connection:
            object_rows.reserve(connection, path, to)
            await impersonate(connection, caller, operation)
            id = await object_rows.move(connection, path, to, caller.subject)
        if id is None:
            raise NoSuchKey
        return id

    async def copy(
        self,
        caller: StorageCaller,
        path: ObjectPath,
        to: ObjectPath,
        operation: str,
        *,
        overwrite: bool,
        changes: dict[str, Any],
        user_metadata: dict[str, Any] | None,
        keeps_metadata: bool,
    ) -> RowMapping:
        """Copy an object; return its new row.

        Args:
            changes: of the column `metadata`.
            user_metadata: in place of the one that the object has.
            keeps_metadata: whether what is not changed is copied.

        Raises:
            StorageError: it cannot be read, or not be written there.
        """
        check_key(to[1])

        async def find() -> _Copy:
            row = await self._find(caller, path, operation)
            metadata = {**metadata_of(row), **changes, "lastModified": timestamp(utc_now())}
            keeps_own = keeps_metadata and user_metadata is None
            own = row["user_metadata"] if keeps_own else user_metadata
            new = NewObject(caller, to, operation, overwrite, metadata, own)
            return _Copy(row["version"], metadata, new, await self._uploader.check(new))

        version = uuid4()
        try:
            source = await copy_blob(
                self._blobs, await find(), find, lambda source: source.version, version
            )
        except BlobMissing:
            raise NoSuchKey from None
        id = await self._uploader.write(
            source.new,
            source.permission,
            version,
            source.metadata,
            source.new.user_metadata,
            stored_as=operation,
        )
        async with self._transactions.as_admin() as connection:
            stored = await object_rows.find(connection, *to)
        if stored is None or stored["id"] != id:
            raise NoSuchKey
        return stored

    async def delete(
        self, caller: StorageCaller, bucket: str, names: Sequence[str], operation: str
    ) -> Deletion:
        """Delete those objects that the caller may delete."""

        async def delete_rows() -> tuple[Deletion, list[str | None]]:
            async with self._transactions.as_admin() as connection:
                # Held, so that nobody deletes or stores one of them before policies decide.
                there = await object_rows.find_many(connection, bucket, names, lock=True)
                await impersonate(connection, caller, operation, deletes=True)
                rows = await object_rows.remove(connection, bucket, [row["name"] for row in there])
            kept = {row["name"] for row in there} - {row["name"] for row in rows}
            return Deletion(rows, kept), [row["version"] for row in rows]

        return await release(self._blobs, delete_rows)

    @asynccontextmanager
    async def _reading(
        self, caller: StorageCaller | None, operation: str
    ) -> AsyncIterator[SqlConnection]:
        if caller is None:
            async with self._transactions.as_admin() as connection:
                yield connection
        else:
            async with self._transactions.as_caller(caller, operation) as connection:
                yield connection
