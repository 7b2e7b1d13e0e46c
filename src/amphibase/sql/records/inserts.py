"""Adding a row, or putting it in the place of one that is there."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    insert,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.access import OWNER_COLUMN
from amphibase.database.compiled import Row
from amphibase.models import utc_now
from amphibase.sql.records.bulk import Filling
from amphibase.sql.records.shape import Shape

Values = Mapping[str, Any]


async def insert_one(
    connection: AsyncConnection, shape: Shape[Any], values: Values, *, seen: bool
) -> Row:
    """Add a row; the row as stored.

    Args:
        seen: whether the caller may see it then. Else policies let nothing come back, and the row
            is what was sent.
    """
    fill = Filling(shape)
    if seen or not fill.is_whole:
        statement = insert(shape.table).values(_by_column(shape, values)).returning(*shape.columns)
        return tuple((await connection.execute(statement)).one())
    row = fill(values)
    await connection.execute(insert(shape.table).values(dict(zip(shape.columns, row, strict=True))))
    return row


async def upsert_one(
    connection: AsyncConnection,
    shape: Shape[Any],
    values: Values,
    on: Sequence[str],
    writable: ColumnElement[bool] | None,
    replace: bool,
) -> Row | None:
    """Add a row, or change the one that has the same values of some columns.

    Args:
        on: the columns, by the names of their attributes.
        writable: which rows may be changed; None for all.
        replace: False leaves the row that is there.

    Returns:
        The row as stored; None where the one that is there was left.
    """
    keys = [shape.column_of[name] for name in on]
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(shape.table).values(_by_column(shape, values))
    if replace:
        kept = {*on, *shape.key_names, OWNER_COLUMN, "created_at"}
        changes = {
            shape.column_of[name]: statement.excluded[shape.column_of[name].key]
            for name in values
            if name not in kept
        }
        if shape.updated_at is not None:
            changes[shape.updated_at] = utc_now()
        if shape.deleted_at is not None:
            changes.setdefault(shape.deleted_at, None)
        changes |= shape.counted_up()
        changes = changes or {keys[0]: keys[0]}  # so that the row comes back
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_=changes, where=writable
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    row = (await connection.execute(statement.returning(*shape.columns))).one_or_none()
    return None if row is None else tuple(row)


def _by_column(shape: Shape[Any], values: Values) -> dict[Column[Any], Any]:
    return {shape.column_of[name]: value for name, value in values.items()}
