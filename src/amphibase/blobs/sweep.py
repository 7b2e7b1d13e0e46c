"""The sweep: blobs that no row names, and rows whose blob is gone."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from amphibase.backend.files import File
from amphibase.blobs.base import Blob
from amphibase.blobs.rows import FileRow, FileRows, file_of, uuid_of
from amphibase.database.engine import Database
from amphibase.models import utc_now
from amphibase.sql.files import SqlFiles

GRACE = timedelta(hours=1)
"""A blob that is younger may be of an upload whose row is about to come."""

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit.

    Args:
        kind: `orphan` is a blob without a row, or what is left of one; `lost` a row without a blob.
        name: the blob's key, or bucket and path of the row.
        size: in bytes.
    """

    kind: Literal["orphan", "lost"]
    name: str
    size: int


class Sweep:
    """Goes through all blobs, then through all rows, a batch at a time.

    Args:
        grace: blobs that changed less than this ago are left alone.
        delete_orphans: whether blobs without a row are deleted.
        delete_lost: whether rows without a blob are deleted; nobody can read those files any more,
            unless their bytes come back from a backup.
    """

    def __init__(
        self,
        database: Database,
        files: SqlFiles,
        *,
        grace: timedelta = GRACE,
        delete_orphans: bool = False,
        delete_lost: bool = False,
    ) -> None:
        self._database = database
        self._blobs = files.blobs
        self._rows: FileRows = files.rows
        self._grace = grace
        self._delete_orphans = delete_orphans
        self._delete_lost = delete_lost
        self.looked_at = 0

    async def findings(self) -> AsyncIterator[Finding]:
        """What does not fit, as it is found and deleted. Raises Unavailable."""
        async for finding in self._orphans():
            yield finding
        async for finding in self._lost():
            yield finding

    async def _orphans(self) -> AsyncIterator[Finding]:
        newest = utc_now() - self._grace
        batch: list[Blob] = []
        async for blob in self._blobs.all():
            self.looked_at += 1
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
                self.looked_at += 1
                version = uuid_of(row.version)
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
