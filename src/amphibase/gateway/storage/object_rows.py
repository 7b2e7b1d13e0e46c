"""The rows of objects, as the role of the transaction may see and change them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    RowMapping,
    Text,
    any_,
    bindparam,
    delete,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql

from amphibase.blobs.base import parse_uuid
from amphibase.column_defaults import utc_now
from amphibase.database.pipeline_connection import PipelineTransaction
from amphibase.database.sql_connection import SqlConnection
from amphibase.database.together import execute_together
from amphibase.schema.tables import tables

ObjectPath = tuple[str, str]
"""A bucket, and the name of an object in it."""

OBJECTS = tables("postgresql").objects
COLUMNS = [column for column in OBJECTS.c if column.name != "path_tokens"]

_FIND = select(*COLUMNS).where(
    OBJECTS.c.bucket_id == bindparam("its_bucket"), OBJECTS.c.name == bindparam("its_name")
)
_FIND_LOCKED = _FIND.with_for_update()
_INSERT = insert(OBJECTS)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:path, 0))")


def reserve(connection: PipelineTransaction, *paths: ObjectPath) -> None:
    """Keep others from storing an object at these paths, from the next statement until the
    transaction ends."""
    connection.queue(*((_LOCK, {"path": f"{bucket}/{name}"}) for bucket, name in sorted(paths)))


async def find(
    connection: SqlConnection, bucket: str, name: str, *, lock: bool = False
) -> RowMapping | None:
    """Find the row of an object.

    Args:
        lock: keep others from changing it until the transaction ends.
    """
    values = {"its_bucket": bucket, "its_name": name}
    found = await connection.execute(_FIND_LOCKED if lock else _FIND, values)
    return found.mappings().one_or_none()


async def find_many(
    connection: SqlConnection, bucket: str, names: Sequence[str], *, lock: bool = False
) -> list[RowMapping]:
    """Find the rows of objects, in no order.

    Args:
        lock: keep others from changing them until the transaction ends.
    """
    statement = select(*COLUMNS).where(
        OBJECTS.c.bucket_id == bucket, OBJECTS.c.name == any_(literal([*names], ARRAY(Text)))
    )
    if lock:  # in the order of their names, or two who wait for each other's would wait for ever
        statement = statement.order_by(OBJECTS.c.name).with_for_update()
    return [*(await connection.execute(statement)).mappings()]


async def add(connection: SqlConnection, values: dict[str, Any], *, overwrite: bool) -> None:
    """Add a row, or with `overwrite` change the one of its path, with the next statement or the
    commit.

    Nothing is read back: a caller who may write need not be allowed to read.
    """
    now = utc_now()
    values = {**values, "updated_at": now, "last_accessed_at": now}
    changed = frozenset(values.keys() - {"id", "last_accessed_at"})
    statement = _upsert(changed) if overwrite else _INSERT
    await execute_together(connection, (statement, {**values, "created_at": now}))


@lru_cache
def _upsert(changed: frozenset[str]) -> postgresql.Insert:
    """Return the statement that adds a row, or changes columns of the one of its path."""
    statement = postgresql.insert(OBJECTS)
    return statement.on_conflict_do_update(
        index_elements=[OBJECTS.c.bucket_id, OBJECTS.c.name],
        set_={name: statement.excluded[name] for name in sorted(changed)},
    )


async def move(
    connection: SqlConnection, path: ObjectPath, to: ObjectPath, mover: str | None
) -> UUID | None:
    """Give a row another path; return its id, or None where none may be changed.

    Args:
        mover: whose the object is from then on; None leaves it to its owner.
    """
    values = {"bucket_id": to[0], "name": to[1], "updated_at": utc_now()}
    if mover is not None:
        values["owner_id"] = mover
        if (id := parse_uuid(mover)) is not None:
            values["owner"] = id
    statement = (
        update(OBJECTS)
        .where(OBJECTS.c.bucket_id == path[0], OBJECTS.c.name == path[1])
        .values(**values)
        .returning(OBJECTS.c.id)
    )
    moved: UUID | None = (await connection.execute(statement)).scalar_one_or_none()
    return moved


async def remove(connection: SqlConnection, bucket: str, names: Sequence[str]) -> list[RowMapping]:
    """Delete the rows that may be deleted, and return them."""
    statement = (
        delete(OBJECTS)
        .where(
            OBJECTS.c.bucket_id == bucket, OBJECTS.c.name == any_(literal([*names], ARRAY(Text)))
        )
        .returning(*COLUMNS)
    )
    return [*(await connection.execute(statement)).mappings()]


async def names(
    connection: SqlConnection, bucket: str, limit: int, *, after: str | None = None
) -> list[str]:
    """Return names of objects of a bucket in order, from the first or after a name."""
    statement = select(OBJECTS.c.name).where(OBJECTS.c.bucket_id == bucket)
    if after is not None:
        statement = statement.where(OBJECTS.c.name > after)
    return [*await connection.scalars(statement.order_by(OBJECTS.c.name).limit(limit))]


def metadata_of(row: RowMapping) -> dict[str, Any]:
    """Return the column `metadata`, which others may have written too."""
    metadata = row["metadata"]
    return metadata if isinstance(metadata, dict) else {}


def size_of(row: RowMapping) -> int:
    """Return the size of an object in bytes."""
    size = metadata_of(row).get("size")
    return size if isinstance(size, int) and size >= 0 else 0


def type_of(row: RowMapping) -> str:
    """Return the content type of an object."""
    content_type = metadata_of(row).get("mimetype")
    if not (isinstance(content_type, str) and content_type):
        return "application/octet-stream"
    return content_type
