"""The rows of files, as the database lets whoever is acting see and change them.

Every function runs in the transaction that it is handed.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.models import utc_now
from amphibase.schema.tables import tables

OBJECTS = tables("postgresql").objects
COLUMNS = [column for column in OBJECTS.c if column.name != "path_tokens"]

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:path, 0))")


async def reserve(connection: AsyncConnection, *places: tuple[str, str]) -> None:
    """Let nobody else put a file at these paths until the transaction ends."""
    for bucket, name in sorted(places):
        await connection.execute(_LOCK, {"path": f"{bucket}/{name}"})


async def find(
    connection: AsyncConnection, bucket: str, name: str, *, lock: bool = False
) -> RowMapping | None:
    """The row of a path.

    Args:
        lock: nobody else changes or deletes it until the transaction ends.
    """
    statement = select(*COLUMNS).where(OBJECTS.c.bucket_id == bucket, OBJECTS.c.name == name)
    if lock:
        statement = statement.with_for_update()
    return (await connection.execute(statement)).mappings().one_or_none()


async def find_many(
    connection: AsyncConnection, bucket: str, names: Sequence[str]
) -> list[RowMapping]:
    """The rows of paths, in no order."""
    statement = select(*COLUMNS).where(
        OBJECTS.c.bucket_id == bucket, OBJECTS.c.name.in_(set(names))
    )
    return [*(await connection.execute(statement)).mappings()]


async def add(connection: AsyncConnection, values: dict[str, Any], *, overwrite: bool) -> None:
    """A new row, or new values for the one with its path.

    Nothing is read back: who may write may not be let read.
    """
    now = utc_now()
    values = {**values, "updated_at": now, "last_accessed_at": now}
    if not overwrite:
        await connection.execute(insert(OBJECTS).values(created_at=now, **values))
        return
    statement = postgresql.insert(OBJECTS).values(created_at=now, **values)
    changed = {name: statement.excluded[name] for name in values if name != "id"}
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[OBJECTS.c.bucket_id, OBJECTS.c.name], set_=changed
        )
    )


async def move(
    connection: AsyncConnection, bucket: str, name: str, to_bucket: str, to_name: str
) -> UUID | None:
    """Give a row another path; its id, or None where there is none that may be changed."""
    statement = (
        update(OBJECTS)
        .where(OBJECTS.c.bucket_id == bucket, OBJECTS.c.name == name)
        .values(bucket_id=to_bucket, name=to_name, updated_at=utc_now())
        .returning(OBJECTS.c.id)
    )
    id: UUID | None = (await connection.execute(statement)).scalar_one_or_none()
    return id


async def remove(
    connection: AsyncConnection, bucket: str, names: Sequence[str]
) -> list[RowMapping]:
    """Delete the rows that may be deleted, and give them back."""
    statement = (
        delete(OBJECTS)
        .where(OBJECTS.c.bucket_id == bucket, OBJECTS.c.name.in_(set(names)))
        .returning(*COLUMNS)
    )
    return [*(await connection.execute(statement)).mappings()]


async def some_names(
    connection: AsyncConnection, bucket: str, limit: int, *, after: str | None = None
) -> list[str]:
    """Names of files of a bucket, in order, from the first or from what comes after a name."""
    statement = select(OBJECTS.c.name).where(OBJECTS.c.bucket_id == bucket)
    if after is not None:
        statement = statement.where(OBJECTS.c.name > after)
    return [*await connection.scalars(statement.order_by(OBJECTS.c.name).limit(limit))]
