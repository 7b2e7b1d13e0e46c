"""Files of a SQL end: rows in the database, bytes in a store of blobs."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend.files import Bucket
from amphibase.blobs.base import BlobMissing, key_of, parse_uuid
from amphibase.blobs.build import build_blobs
from amphibase.blobs.rows import allow_delete
from amphibase.blobs.swap import release, swap
from amphibase.database.engine import Database, PoolOptions
from amphibase.errors import AmphibaseError
from amphibase.models import uuid7
from amphibase.move.endpoints import SqlEndpoint
from amphibase.move.files.base import Content, FileRejected, StoredFile, UploadState
from amphibase.schema.tables import tables
from amphibase.sql.buckets import SqlBuckets

PAGE = 1000
POOL = PoolOptions(size=8, by_transaction=True)
ANY_TYPE = "application/octet-stream"
NO_CACHE = "no-cache"
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of a file whose row has none."""

UPDATES_TIMES = """
    SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = CAST(:table AS regclass)
                      AND tgname = 'update_objects_updated_at' AND tgenabled <> 'D')
"""


class SqlFileSide:
    """The files of one database and its store of bytes."""

    owners = True
    names_are_paths = True

    def __init__(self, endpoint: SqlEndpoint) -> None:
        self._database = Database(endpoint.database, POOL)
        self._blobs = build_blobs(endpoint.files)
        self._buckets = SqlBuckets(self._database)
        self._rows = FileTable(self._database)

    async def check(self) -> None:
        await self._blobs.check()

    async def keeps_times(self) -> bool:
        return await self._rows.keeps_times()

    async def buckets(self) -> Sequence[Bucket]:
        return await self._buckets.buckets()

    async def make_bucket(self, bucket: Bucket) -> None:
        await self._buckets.create_bucket(bucket.id, public=bucket.public)

    async def set_bucket(self, bucket: Bucket) -> None:
        await self._buckets.update_bucket(
            bucket.id,
            public=bucket.public,
            file_size_limit=bucket.file_size_limit,
            allowed_types=bucket.allowed_types,
        )

    async def delete_bucket(self, id: str) -> bool:
        return await self._buckets.delete_bucket(id)

    def files(self, bucket: str) -> AsyncIterator[StoredFile]:
        return self._rows.all(bucket)

    async def find(self, bucket: str, name: str) -> StoredFile | None:
        return await self._rows.find(bucket, name)

    async def read(self, file: StoredFile, start: int = 0) -> AsyncIterator[bytes]:
        version = parse_uuid(file.version)
        try:
            if version is None:
                raise BlobMissing
            chunks = await self._blobs.read(version, start, file.size)
        except BlobMissing:
            raise FileRejected("its bytes are missing from the store") from None
        async for chunk in chunks:
            yield chunk

    async def write(self, file: StoredFile, content: Content, upload: UploadState) -> None:
        if upload.state is not None:
            await self.discard(upload.state)
        version = uuid7()
        upload.remember(str(version))
        await self._blobs.write(version, content.chunks())

        async def write_row() -> tuple[None, str | None]:
            async with self._database.write() as connection:
                return None, await self._rows.put(connection, file, str(version))

        await swap(self._blobs, version, write_row)

    async def discard(self, state: str) -> None:
        if (version := parse_uuid(state)) and not await self._rows.names(state):
            await self._blobs.delete(key_of(version))

    async def delete(self, bucket: str, name: str) -> None:
        async def delete_row() -> tuple[None, list[str | None]]:
            async with self._database.write() as connection:
                return None, await self._rows.delete(connection, bucket, name)

        await release(self._blobs, delete_row)

    async def close(self) -> None:
        await self._database.close()


class FileTable:
    """The rows of files in a database, of an application's own or of a project."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._objects = tables(database.dialect).objects
        self._columns = [each for each in self._objects.c if each.name != "path_tokens"]

    async def all(self, bucket: str) -> AsyncIterator[StoredFile]:
        """Yield the files of a bucket by their names, a page at a time."""
        objects, after = self._objects.c, None
        while True:
            statement = (
                select(*self._columns)
                .where(objects.bucket_id == bucket)
                .order_by(objects.name)
                .limit(PAGE)
            )
            if after is not None:
                statement = statement.where(objects.name > after)
            async with self._database.read() as connection:
                rows = (await connection.execute(statement)).all()
            for row in rows:
                yield _file(row)
            if len(rows) < PAGE:
                return
            after = rows[-1].name

    async def find(self, bucket: str, name: str) -> StoredFile | None:
        """Return the file with that name."""
        async with self._database.read() as connection:
            row = await self._find(connection, bucket, name)
        return None if row is None else _file(row)

    async def names(self, version: str) -> bool:
        """Return whether a row names a blob."""
        statement = select(self._objects.c.id).where(self._objects.c.version == version)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).first() is not None

    async def put(self, connection: AsyncConnection, file: StoredFile, version: str) -> str | None:
        """Write the row of a file; return the version that it named before."""
        values: dict[str, Any] = {
            **_columns_of(file),
            "version": version,
            "metadata": {
                "eTag": f'"{file.etag or UUID(version).hex}"',
                "size": file.size,
                "mimetype": file.content_type,
                "cacheControl": file.cache_control,
                "lastModified": file.updated_at.isoformat(),
                "contentLength": file.size,
                "httpStatusCode": 200,
            },
            "user_metadata": None if file.user_metadata is None else dict(file.user_metadata),
        }
        row = await self._find(connection, file.bucket, file.name)
        if row is None:
            key = {"id": uuid7(), "bucket_id": file.bucket, "name": file.name}
            await connection.execute(insert(self._objects).values(**key, **values))
            return None
        await self._update(connection, row, values)
        version_before: str | None = row.version
        return version_before

    async def describe(self, connection: AsyncConnection, file: StoredFile) -> None:
        """Write owner, times and metadata into the row of a file that is stored."""
        row = await self._find(connection, file.bucket, file.name)
        if row is not None:
            values = {
                **_columns_of(file),
                "metadata": {
                    **(row._mapping["metadata"] or {}),
                    "cacheControl": file.cache_control,
                },
            }
            await self._update(connection, row, values)

    async def delete(self, connection: AsyncConnection, bucket: str, name: str) -> list[str | None]:
        """Delete the row of a file; return the version that it named."""
        await allow_delete(connection)
        statement = delete(self._objects).where(self._is(bucket, name))
        return [*await connection.scalars(statement.returning(self._objects.c.version))]

    async def keeps_times(self) -> bool:
        """Return whether a row that is updated can have the times that are written."""
        async with self._database.write() as connection:
            if await self._without_triggers(connection):
                return True
            query = text(UPDATES_TIMES).bindparams(table=self._objects.fullname)
            return not await connection.scalar(query)

    async def _update(
        self, connection: AsyncConnection, row: Row[Any], values: dict[str, Any]
    ) -> None:
        await self._without_triggers(connection)
        await connection.execute(
            update(self._objects).where(self._objects.c.id == row.id).values(values)
        )

    async def _without_triggers(self, connection: AsyncConnection) -> bool:
        """Keep a project's trigger from writing `updated_at`; return whether the role may do so."""
        if self._database.dialect == "postgresql":
            try:
                async with connection.begin_nested():
                    await connection.execute(text("SET LOCAL session_replication_role = replica"))
            except (AmphibaseError, DBAPIError):
                return False
        return True

    async def _find(self, connection: AsyncConnection, bucket: str, name: str) -> Row[Any] | None:
        statement = select(*self._columns).where(self._is(bucket, name))
        return (await connection.execute(statement)).one_or_none()

    def _is(self, bucket: str, name: str) -> ColumnElement[bool]:
        return (self._objects.c.bucket_id == bucket) & (self._objects.c.name == name)


def _columns_of(file: StoredFile) -> dict[str, Any]:
    return {
        "owner": parse_uuid(file.owner_id),
        "owner_id": file.owner_id,
        "created_at": file.created_at,
        "updated_at": file.updated_at,
        "last_accessed_at": file.updated_at,
    }


def _file(row: Row[Any]) -> StoredFile:
    metadata = row._mapping["metadata"]
    metadata = metadata if isinstance(metadata, dict) else {}
    size = metadata.get("size")
    return StoredFile(
        bucket=row.bucket_id,
        name=row.name,
        size=size if isinstance(size, int) else 0,
        content_type=metadata.get("mimetype") or ANY_TYPE,
        cache_control=metadata.get("cacheControl") or NO_CACHE,
        etag=str(metadata.get("eTag") or row.version or row.id).strip('"'),
        created_at=row.created_at or UNKNOWN,
        updated_at=row.updated_at or row.created_at or UNKNOWN,
        owner_id=row.owner_id,
        user_metadata=row.user_metadata,
        version=row.version,
    )
