"""The buckets of an SQL backend, in `storage.buckets`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from amphibase.backend.files import Bucket
from amphibase.blobs.rows import allow_delete
from amphibase.database.engine import Database
from amphibase.errors import Conflict, ForeignKeyViolation, NotFound
from amphibase.models import utc_now
from amphibase.schema.tables import tables


class SqlBuckets:
    """The part of `Files` that is about buckets."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._buckets = tables(database.dialect).buckets

    async def bucket(self, id: str) -> Bucket | None:
        async with self._database.read() as connection:
            result = await connection.execute(select(self._buckets).where(self._buckets.c.id == id))
            row = result.one_or_none()
        return None if row is None else _bucket(row)

    async def buckets(self) -> Sequence[Bucket]:
        async with self._database.read() as connection:
            rows = await connection.execute(select(self._buckets).order_by(self._buckets.c.id))
            return [_bucket(row) for row in rows]

    async def create_bucket(
        self,
        id: str,
        *,
        public: bool = False,
        file_size_limit: int | None = None,
        allowed_types: Sequence[str] = (),
    ) -> Bucket:
        statement = insert(self._buckets).values(
            id=id,
            name=id,
            public=public,
            file_size_limit=file_size_limit,
            allowed_mime_types=list(allowed_types) or None,
        )
        try:
            async with self._database.write() as connection:
                inserted = await connection.execute(statement.returning(self._buckets))
                return _bucket(inserted.one())
        except Conflict:
            raise Conflict("There is a bucket with this name already") from None

    async def update_bucket(
        self, id: str, *, public: bool, file_size_limit: int | None, allowed_types: Sequence[str]
    ) -> Bucket:
        statement = (
            update(self._buckets)
            .where(self._buckets.c.id == id)
            .values(
                public=public,
                file_size_limit=file_size_limit,
                allowed_mime_types=list(allowed_types) or None,
                updated_at=utc_now(),
            )
        )
        async with self._database.write() as connection:
            changed = await connection.execute(statement.returning(self._buckets))
            row = changed.one_or_none()
        if row is None:
            raise NotFound("There is no such bucket")
        return _bucket(row)

    async def delete_bucket(self, id: str) -> bool:
        try:
            async with self._database.write() as connection:
                await allow_delete(connection)
                deleted = await connection.execute(
                    delete(self._buckets).where(self._buckets.c.id == id)
                )
                return deleted.rowcount > 0
        except ForeignKeyViolation:
            raise ForeignKeyViolation("The bucket holds files; delete them first") from None


def _bucket(row: Row[Any]) -> Bucket:
    return Bucket(
        id=row.id,
        public=bool(row.public),
        file_size_limit=row.file_size_limit,
        allowed_types=tuple(row.allowed_mime_types or ()),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
