"""Files of the SQL backend: rows in `storage.objects`, bytes in a store of blobs (`blobs/swap`)."""

from collections.abc import AsyncIterable
from datetime import timedelta
from urllib.parse import quote

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import Caller, Page
from amphibase.backend.files import GRACE, ByteRange, File, OpenFile, SignedUrl
from amphibase.blobs.access import MISSING, may_read, require_change, require_known
from amphibase.blobs.base import BlobMissing
from amphibase.blobs.build import build_blobs
from amphibase.blobs.rows import (
    FileRow,
    FileRows,
    columns_of,
    file_of,
    version_and_size,
)
from amphibase.blobs.signatures import Signatures
from amphibase.blobs.swap import copy_blob, open_blob, release, swap
from amphibase.blobs.sweep import BlobSweep
from amphibase.database.engine import Database
from amphibase.errors import (
    Conflict,
    Contention,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from amphibase.models import utc_now, uuid7
from amphibase.records.cursors import Cursors
from amphibase.redaction import redacted_logger
from amphibase.settings.application import Settings
from amphibase.sql.buckets import SqlBuckets

logger = redacted_logger("amphibase.backend.files")

TAKEN = "There is a file with this path already"


class SqlFiles(SqlBuckets):
    """The files of the SQL backend; `SqlBuckets` has their buckets."""

    def __init__(
        self, database: Database, cursors: Cursors, keys: KeyRing, settings: Settings
    ) -> None:
        super().__init__(database)
        self.blobs = build_blobs(settings.file_store)
        self.rows = FileRows(database.dialect)
        self._cursors = cursors
        self._signatures = Signatures(keys.derive("signed url"))
        self._url = f"{settings.routes_url}/files"

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
        require_known(caller)
        # Before the bytes are read, so that a client does not send a body in vain.
        await self._must_exist(bucket)
        async with self._database.read() as connection:
            _must_be_free(caller, await self.rows.find(connection, bucket, path), overwrite)
        version = uuid7()
        size = await self.blobs.write(version, content)
        columns = columns_of(version, size, content_type, caller.user_id)
        changes = {"version": str(version), "metadata": columns["metadata"]}

        async def write_row() -> tuple[File, str | None]:
            async with self._database.write() as connection:
                row = await self.rows.find(connection, bucket, path, lock=True)
                if row is None and not await self.rows.add(connection, bucket, path, columns):
                    row = await self.rows.find(connection, bucket, path, lock=True)
                    if row is None:
                        raise Contention("The file is being changed; try again")
                _must_be_free(caller, row, overwrite)
                if row is not None:
                    await self.rows.change(connection, row.id, **changes)
                stored = await self.rows.find(connection, bucket, path)
                assert stored is not None
                return file_of(stored), row.version if row is not None else None

        return await swap(self.blobs, version, write_row)

    async def stat(self, caller: Caller, bucket: str, path: str) -> File | None:
        row = await self._find(bucket, path)
        return file_of(row) if row is not None and may_read(caller, row) else None

    async def open(
        self, caller: Caller, bucket: str, path: str, part: ByteRange | None = None
    ) -> OpenFile:
        async def find() -> FileRow:
            return await self._readable(caller, bucket, path)

        try:
            row, start, stop, chunks = await open_blob(
                self.blobs, await find(), find, version_and_size, part
            )
        except BlobMissing:
            raise _bytes_missing(bucket, path) from None
        return OpenFile(file_of(row), start, stop, chunks)

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
                row = require_change(caller, row)
                await self.rows.change(connection, row.id, bucket_id=to_bucket, name=to_path)
                moved = await self.rows.find(connection, to_bucket, to_path)
                assert moved is not None
                return file_of(moved)
        except Conflict:
            raise Conflict(TAKEN) from None

    async def copy(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        require_known(caller)
        to_bucket = to_bucket or bucket

        async def find() -> FileRow:
            return await self._readable(caller, bucket, path)

        row = await find()
        await self._must_exist(to_bucket)
        if await self._find(to_bucket, to_path) is not None:
            raise Conflict(TAKEN)
        version = uuid7()
        try:
            row = await copy_blob(self.blobs, row, find, lambda row: row.version, version)
        except BlobMissing:
            raise _bytes_missing(bucket, path) from None
        file = file_of(row)
        columns = columns_of(version, file.size, file.content_type, caller.user_id)

        async def write_row() -> tuple[File, str | None]:
            async with self._database.write() as connection:
                if not await self.rows.add(connection, to_bucket, to_path, columns):
                    raise Conflict(TAKEN)
                stored = await self.rows.find(connection, to_bucket, to_path)
                assert stored is not None
                return file_of(stored), None

        return await swap(self.blobs, version, write_row)

    async def delete(self, caller: Caller, bucket: str, path: str) -> bool:
        async def delete_row() -> tuple[bool, list[str | None]]:
            async with self._database.write() as connection:
                row = await self.rows.find(connection, bucket, path, lock=True)
                if row is None or not may_read(caller, row):
                    return False, []
                require_change(caller, row)
                await self.rows.remove(connection, row.id)
            return True, [row.version]

        return await release(self.blobs, delete_row)

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

    def sweep(
        self,
        *,
        grace: timedelta = GRACE,
        delete_orphans: bool = False,
        delete_lost: bool = False,
    ) -> BlobSweep:
        return BlobSweep(
            self._database,
            self.rows,
            self.blobs,
            grace=grace,
            delete_orphans=delete_orphans,
            delete_lost=delete_lost,
        )

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


def _bytes_missing(bucket: str, path: str) -> Unavailable:
    """Log that the bytes of a row are lost, and return the error of whoever wants them."""
    logger.error(
        "The bytes of %s/%s are missing; `amphibase files sweep` reports them", bucket, path
    )
    return Unavailable("The bytes of this file are missing")


def _must_be_free(caller: Caller, row: FileRow | None, overwrite: bool) -> None:
    if row is None:
        return
    require_change(caller, row)
    if not overwrite:
        raise PreconditionFailed
