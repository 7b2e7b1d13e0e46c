"""The rows of files.

A row names its blob by `version`. The columns and what `metadata` holds are Supabase's.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    delete,
    false,
    func,
    or_,
    select,
    text,
    true,
)
from sqlalchemy import update as update_statement

from amphibase.backend import Caller
from amphibase.backend.files import File
from amphibase.blobs.base import parse_uuid
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.sql_connection import SqlConnection
from amphibase.schema.tables import tables

FileRow = Row[Any]


def _insert_of(dialect: str) -> Callable[[Table], Any]:
    """Return the INSERT with ON CONFLICT of a dialect; the other is not imported."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert

        return insert
    from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite

    return insert_on_sqlite


class FileRows:
    """Rows of files; every method runs in the transaction it is handed."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._insert = _insert_of(dialect)
        self._objects = tables(dialect).objects
        self._buckets = tables(dialect).buckets

    async def find(
        self, connection: SqlConnection, bucket: str, path: str, *, lock: bool = False
    ) -> FileRow | None:
        """Return the row of a path, for any caller.

        Args:
            lock: whether to lock the row until the transaction ends.
        """
        statement = self._select().where(
            self._objects.c.bucket_id == bucket, self._objects.c.name == path
        )
        if lock:
            statement = statement.with_for_update(of=self._objects)
        row: FileRow | None = (await connection.execute(statement)).one_or_none()
        return row

    async def listed(
        self,
        connection: SqlConnection,
        caller: Caller,
        bucket: str,
        prefix: str,
        *,
        after: str | None,
        limit: int,
    ) -> list[FileRow]:
        """Return what the caller may read, in the order of the paths."""
        objects = self._objects.c
        statement = self._select().where(objects.bucket_id == bucket, self._readable(caller))
        if prefix:
            statement = statement.where(self._begins_with(prefix))
        if after is not None:
            statement = statement.where(objects.name > after)
        return [*await connection.execute(statement.order_by(objects.name).limit(limit))]

    async def add(
        self, connection: SqlConnection, bucket: str, path: str, values: dict[str, Any]
    ) -> bool:
        """Add a row; return False where the path is taken."""
        now = utc_now()
        objects = self._objects.c
        added = await connection.execute(
            self._insert(self._objects)
            .values(
                id=uuid7(),
                bucket_id=bucket,
                name=path,
                created_at=now,
                updated_at=now,
                last_accessed_at=now,
                **values,
            )
            .on_conflict_do_nothing(index_elements=[objects.bucket_id, objects.name])
            .returning(objects.id)
        )
        return added.first() is not None

    async def change(self, connection: SqlConnection, id: UUID, **values: Any) -> None:
        """Set columns of a row."""
        await connection.execute(
            update_statement(self._objects)
            .where(self._objects.c.id == id)
            .values(updated_at=utc_now(), **values)
        )

    async def remove(self, connection: SqlConnection, id: UUID) -> None:
        """Delete a row."""
        await allow_delete(connection)
        await connection.execute(delete(self._objects).where(self._objects.c.id == id))

    async def named(self, connection: SqlConnection, versions: list[UUID]) -> set[str]:
        """Return which of these blobs a row names."""
        named = await connection.scalars(
            select(self._objects.c.version).where(
                self._objects.c.version.in_([str(version) for version in versions])
            )
        )
        return set(named)

    async def following(
        self, connection: SqlConnection, after: UUID | None, limit: int
    ) -> list[FileRow]:
        """Yield all rows in the order of their ids, a part at a time."""
        statement = self._select().order_by(self._objects.c.id).limit(limit)
        if after is not None:
            statement = statement.where(self._objects.c.id > after)
        return [*await connection.execute(statement)]

    def _select(self) -> Select[Any]:
        objects = self._objects.c
        return select(
            objects.id,
            objects.bucket_id,
            objects.name,
            objects.version,
            objects.owner_id,
            objects.metadata.label("file_metadata"),
            objects.created_at,
            objects.updated_at,
            func.coalesce(self._buckets.c.public, false()).label("public"),
        ).join_from(self._objects, self._buckets)

    def _readable(self, caller: Caller) -> ColumnElement[bool]:
        if caller.role == "service_role":
            return true()
        public = self._buckets.c.public.is_(True)
        if caller.user_id is None:
            return public
        return or_(public, self._objects.c.owner_id == str(caller.user_id))

    def _begins_with(self, prefix: str) -> ColumnElement[bool]:
        name = self._objects.c.name
        if self._dialect == "postgresql":
            return name.startswith(prefix, autoescape=True)
        # LIKE does not distinguish "A" from "a" on SQLite.
        return func.substr(name, 1, len(prefix)) == prefix


async def allow_delete(connection: SqlConnection) -> None:
    """Let rows of `storage` be deleted until the transaction ends: a project of Supabase's protects
    them from statements that would leave their bytes behind."""
    if connection.dialect.name == "postgresql":
        await connection.execute(
            text("SELECT set_config('storage.allow_delete_query', 'true', true)")
        )


def columns_of(
    version: UUID, size: int, content_type: str, owner_id: UUID | None
) -> dict[str, Any]:
    """Return what the columns of a row hold for a blob."""
    return {
        "version": str(version),
        "owner": owner_id,
        "owner_id": None if owner_id is None else str(owner_id),
        "metadata": file_metadata(version, size, content_type),
    }


def file_metadata(version: UUID, size: int, content_type: str) -> dict[str, Any]:
    """Return the column `metadata`, as Supabase writes it. The etag is the blob's version: blobs
    never change."""
    return {
        "eTag": f'"{version.hex}"',
        "size": size,
        "mimetype": content_type,
        "cacheControl": "no-cache",
        "lastModified": utc_now().isoformat(),
        "contentLength": size,
        "httpStatusCode": 200,
    }


def version_and_size(row: FileRow) -> tuple[str | None, int]:
    """Return what a row says of its blob: the version, and the size in bytes."""
    return row.version, file_of(row).size


def file_of(row: FileRow) -> File:
    """Return the row as everybody else knows it."""
    metadata = row.file_metadata or {}
    return File(
        bucket=row.bucket_id,
        path=row.name,
        size=int(metadata.get("size", 0)),
        content_type=metadata.get("mimetype") or "application/octet-stream",
        etag=str(metadata.get("eTag") or row.version or row.id).strip('"'),
        owner_id=parse_uuid(row.owner_id),
        public=bool(row.public),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
