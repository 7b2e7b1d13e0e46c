"""The sweep: blobs that no row names, and rows whose blob is gone."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from amphibase.backend.files import GRACE, File, Finding
from amphibase.blobs.base import Blob, Blobs, parse_uuid
from amphibase.blobs.rows import FileRow, FileRows, file_of
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlDatabase

BATCH = 1000


class BlobSweep:
    """Goes through all blobs, then through all rows, a batch at a time: `backend.Sweep`."""

    def __init__(
        self,
        database: SqlDatabase,
        rows: FileRows,
        blobs: Blobs,
        *,
        grace: timedelta = GRACE,
        delete_orphans: bool = False,
        delete_lost: bool = False,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._rows = rows
        self._grace = grace
        self._delete_orphans = delete_orphans
        self._delete_lost = delete_lost
        self.examined = 0

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield each row or blob without the other, and delete it. Raises Unavailable."""
        async for finding in self._orphans():
            yield finding
        async for finding in self._lost():
            yield finding

    async def _orphans(self) -> AsyncIterator[Finding]:
        newest = utc_now() - self._grace
        batch: list[Blob] = []
        async for blob in self._blobs.all():
            self.examined += 1
            if blob.modified_at > newest:
                continue
            batch.append(blob)
            if len(batch) == BATCH:
                async for finding in self._unnamed(batch):
                    yield finding
                batch = []
        async for finding in self._unnamed(batch):
            yield finding

    async def _unnamed(self, batch: list[Blob]) -> AsyncIterator[Finding]:
        versions = [blob.version for blob in batch if blob.version is not None]
        async with self._database.read() as connection:
            named = await self._rows.named(connection, versions)
        for blob in batch:
            if str(blob.version) not in named:
                if self._delete_orphans:
                    await self._blobs.delete(blob.key)
                yield Finding("orphan", blob.key, blob.size)

    async def _lost(self) -> AsyncIterator[Finding]:
        last: UUID | None = None
        while True:
            async with self._database.read() as connection:
                rows = await self._rows.following(connection, last, BATCH)
            for row in rows:
                self.examined += 1
                version = parse_uuid(row.version)
                is_there = version is not None and await self._blobs.exists(version)
                if not is_there and await self._is_lost(row):
                    file: File = file_of(row)
                    yield Finding("lost", f"{file.bucket}/{file.path}", file.size)
            if len(rows) < BATCH:
                return
            last = rows[-1].id

    async def _is_lost(self, row: FileRow) -> bool:
        """Whether the row still names the blob; else it was replaced or deleted meanwhile."""
        async with self._database.write() as connection:
            now = await self._rows.find(connection, row.bucket_id, row.name, lock=True)
            if now is None or now.version != row.version:
                return False
            if self._delete_lost:
                await self._rows.remove(connection, row.id)
            return True
