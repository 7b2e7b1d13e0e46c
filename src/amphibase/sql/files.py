"""Files in an SQL home: rows in `storage.objects`, bytes in a store of blobs beside the database.

Bytes first, row second: a blob is durable before the row that names it commits, and a row is gone
before its blob is deleted. Whatever fails between leaves a blob without a row, for the sweep.
"""

import contextlib
import logging
from collections.abc import AsyncIterable, Coroutine
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import Caller, Page
from amphibase.backend.files import ByteRange, File, OpenFile, SignedUrl
from amphibase.background import uninterrupted
from amphibase.blobs.base import BlobMissing, bounds, build_blobs, key_of
from amphibase.blobs.rows import (
    FileRow,
    FileRows,
    columns_of,
    facts_of,
    file_of,
    may_change,
    may_read,
    uuid_of,
)
from amphibase.blobs.signatures import Signatures
from amphibase.database.engine import Database
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
)
from amphibase.models import utc_now, uuid7
from amphibase.records.cursors import Cursors
from amphibase.settings import Settings
from amphibase.sql.buckets import SqlBuckets

logger = logging.getLogger("amphibase.backend.files")

MISSING = "There is no such file"
TAKEN = "There is a file with this path already"

LOOKS = 3
"""How often to look again when a file is replaced between finding its row and opening its bytes."""


class SqlFiles(SqlBuckets):
    """The files of an SQL home; `SqlBuckets` has their buckets."""

    def __init__(
        self, database: Database, cursors: Cursors, keys: KeyRing, settings: Settings
    ) -> None:
        super().__init__(database)
        self.blobs = build_blobs(settings.file_store)
        self.rows = FileRows(database.dialect)
        self._cursors = cursors
        self._signatures = Signatures(keys.derive("signed url"))
        self._url = f"{settings.public_url}/files"

    async def put(
        self,
        caller: Caller,
        bucket: str,
        path: str,
        content: AsyncIterable[bytes],
        *,
        content_type: str,
        overwrite: bool = True,
    ) -> File:
        _must_be_known(caller)
        # Before the bytes are read, so that what will be refused is not sent first.
        await self._must_exist(bucket)
        async with self._database.read() as connection:
            _must_be_free(caller, await self.rows.find(connection, bucket, path), overwrite)
        version = uuid7()
        size = await self.blobs.write(version, content)
        facts = facts_of(version, size, content_type)
        columns = columns_of(version, size, content_type, caller.user_id)

        async def name() -> tuple[File, str | None]:
            async with self._database.write() as connection:
                row = await self.rows.find(connection, bucket, path, lock=True)
                if row is None and not await self.rows.add(connection, bucket, path, columns):
                    row = await self.rows.find(connection, bucket, path, lock=True)
                    if row is None:
                        raise Unavailable("Others change this file just now; try again")
                _must_be_free(caller, row, overwrite)
                if row is not None:
                    changes = {"version": str(version), "metadata": facts}
                    await self.rows.change(connection, row.id, **changes)
                stored = await self.rows.find(connection, bucket, path)
                assert stored is not None
                return file_of(stored), row.version if row is not None else None

        return await uninterrupted(self._named(version, name()))

    async def stat(self, caller: Caller, bucket: str, path: str) -> File | None:
        row = await self._find(bucket, path)
        return file_of(row) if row is not None and may_read(caller, row) else None

    async def open(
        self, caller: Caller, bucket: str, path: str, part: ByteRange | None = None
    ) -> OpenFile:
        for _ in range(LOOKS):
            row = await self._readable(caller, bucket, path)
            file, version = file_of(row), uuid_of(row.version)
            start, stop = bounds(part, file.size)
            if version is None:  # a row that was not written here, and has no bytes
                break
            with contextlib.suppress(BlobMissing):  # replaced a moment ago, or lost
                return OpenFile(file, start, stop, await self.blobs.read(version, start, stop))
        logger.error("The bytes of %s/%s are missing; `amphibase files sweep` tells", bucket, path)
        raise Unavailable("The bytes of this file are missing")

    async def list(
        self,
        caller: Caller,
        bucket: str,
        prefix: str = "",
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[File]:
        query = f"files {bucket!r} {prefix!r} {caller.role} {caller.user_id}"
        after = None if cursor is None else self._cursors.read(query, cursor)[0]
        async with self._database.read() as connection:
            rows = await self.rows.listed(
                connection, caller, bucket, prefix, after=after, limit=limit + 1
            )
        items = [file_of(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(items, self._cursors.write(query, [items[-1].path]) if more else None)

    async def move(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        to_bucket = to_bucket or bucket
        await self._must_exist(to_bucket)
        try:
            async with self._database.write() as connection:
                row = await self.rows.find(connection, bucket, path, lock=True)
                row = _must_change(caller, row)
                await self.rows.change(connection, row.id, bucket_id=to_bucket, name=to_path)
                moved = await self.rows.find(connection, to_bucket, to_path)
                assert moved is not None
                return file_of(moved)
        except Conflict:
            raise Conflict(TAKEN) from None

    async def copy(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        _must_be_known(caller)
        to_bucket = to_bucket or bucket
        row = await self._readable(caller, bucket, path)
        await self._must_exist(to_bucket)
        if await self._find(to_bucket, to_path) is not None:
            raise Conflict(TAKEN)
        source, version = uuid_of(row.version), uuid7()
        if source is None:
            raise Unavailable("The bytes of this file are missing")
        try:
            await self.blobs.copy(source, version)
        except BlobMissing:
            raise NotFound("The file was changed meanwhile; try again") from None
        file = file_of(row)
        columns = columns_of(version, file.size, file.content_type, caller.user_id)

        async def name() -> tuple[File, str | None]:
            async with self._database.write() as connection:
                if not await self.rows.add(connection, to_bucket, to_path, columns):
                    raise Conflict(TAKEN)
                stored = await self.rows.find(connection, to_bucket, to_path)
                assert stored is not None
                return file_of(stored), None

        return await uninterrupted(self._named(version, name()))

    async def delete(self, caller: Caller, bucket: str, path: str) -> bool:
        async def work() -> bool:
            async with self._database.write() as connection:
                row = await self.rows.find(connection, bucket, path, lock=True)
                if row is None or not may_read(caller, row):
                    return False
                _must_change(caller, row)
                await self.rows.remove(connection, row.id)
            await self._forget(row.version)
            return True

        return await uninterrupted(work())

    async def signed_url(
        self, caller: Caller, bucket: str, path: str, expires_in: timedelta
    ) -> SignedUrl:
        await self._readable(caller, bucket, path)
        expires_at = (utc_now() + expires_in).replace(microsecond=0)
        signature = self._signatures.sign(caller, bucket, path, expires_at)
        return SignedUrl(f"{self.public_url(bucket, path)}?token={signature}", expires_at)

    def signer(self, bucket: str, path: str, signature: str) -> Caller:
        return self._signatures.signer(bucket, path, signature)

    def public_url(self, bucket: str, path: str) -> str:
        return f"{self._url}/{quote(bucket, safe='')}/{quote(path)}"

    async def check(self) -> None:
        """Reach the store of the bytes. Raises Unavailable."""
        await self.blobs.check()

    async def _find(self, bucket: str, path: str) -> FileRow | None:
        async with self._database.read() as connection:
            return await self.rows.find(connection, bucket, path)

    async def _readable(self, caller: Caller, bucket: str, path: str) -> FileRow:
        row = await self._find(bucket, path)
        if row is None or not may_read(caller, row):
            raise NotFound(MISSING)
        return row

    async def _must_exist(self, bucket: str) -> None:
        if await self.bucket(bucket) is None:
            raise NotFound("There is no such bucket")

    async def _named(
        self, version: UUID, work: Coroutine[Any, Any, tuple[File, str | None]]
    ) -> File:
        """Let a row name the blob, and forget the blob that it replaces, or this one where the row
        is refused."""
        try:
            file, replaced = await work
        except Unavailable:
            # Perhaps the row was committed and only the answer was lost: the sweep will know.
            raise
        except AmphibaseError:
            await self._forget(str(version))
            raise
        if replaced is not None:
            await self._forget(replaced)
        return file

    async def _forget(self, version: str | None) -> None:
        id = uuid_of(version)
        if id is None:
            return
        try:
            await self.blobs.delete(key_of(id))
        except AmphibaseError:
            logger.warning("A blob without a row is left for `amphibase files sweep`")


def _must_be_known(caller: Caller) -> None:
    if caller.role != "service_role" and caller.user_id is None:
        raise Unauthenticated


def _must_be_free(caller: Caller, row: FileRow | None, overwrite: bool) -> None:
    if row is None:
        return
    _must_change(caller, row)
    if not overwrite:
        raise PreconditionFailed


def _must_change(caller: Caller, row: FileRow | None) -> FileRow:
    if row is None or not may_read(caller, row):
        raise NotFound(MISSING)
    if not may_change(caller, row):
        _must_be_known(caller)
        raise Forbidden("Only its owner may change this file")
    return row
