"""Find and delete buckets, as policies let the caller."""

from typing import Any

from sqlalchemy import RowMapping

from amphibase.blobs.base import Blobs, parse_uuid
from amphibase.blobs.swap import release
from amphibase.gateway.storage import bucket_rows, multipart_rows, object_rows
from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.errors import (
    BucketAlreadyExists,
    BucketNotEmpty,
    NoSuchBucket,
    ResourceAlreadyExists,
)
from amphibase.gateway.storage.transactions import StorageTransactions, impersonate


class BucketStorage:
    """The buckets of a project.

    Args:
        parts: the bytes of multipart uploads.
    """

    def __init__(self, transactions: StorageTransactions, parts: Blobs) -> None:
        self._transactions = transactions
        self._parts = parts

    async def find(self, caller: StorageCaller, id: str, operation: str) -> RowMapping:
        """Find the row of a bucket. Raises NoSuchBucket: it is missing, or hidden."""
        async with self._transactions.as_caller(caller, operation) as connection:
            row = await bucket_rows.find(connection, id)
        if row is None:
            raise NoSuchBucket
        return row

    async def create(self, caller: StorageCaller, values: dict[str, Any], operation: str) -> None:
        """Make a bucket. Raises BucketAlreadyExists."""
        owner = {"owner": parse_uuid(caller.subject), "owner_id": caller.subject}
        try:
            async with self._transactions.as_caller(caller, operation) as connection:
                await bucket_rows.add(connection, {**values, **owner})
        except ResourceAlreadyExists:
            raise BucketAlreadyExists from None

    async def delete(self, caller: StorageCaller, id: str, operation: str) -> None:
        """Delete a bucket, with what is unfinished in it.

        Raises:
            NoSuchBucket: it is missing, hidden from the caller, or not the caller's to delete.
            BucketNotEmpty: it holds objects, which the caller may not see.
        """
        await self.find(caller, id, operation)

        async def delete_rows() -> tuple[None, list[str]]:
            async with self._transactions.as_admin() as connection:
                if await bucket_rows.find(connection, id, lock=True) is None:
                    raise NoSuchBucket
                if await object_rows.names(connection, id, 1):
                    raise BucketNotEmpty
                versions = await multipart_rows.remove_all(connection, id)
                await impersonate(connection, caller, operation, deletes=True)
                if not await bucket_rows.remove(connection, id):
                    raise NoSuchBucket
            return None, versions

        await release(self._parts, delete_rows)
