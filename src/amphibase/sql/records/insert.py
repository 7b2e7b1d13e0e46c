"""Adding a row."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Column,
    insert,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.records.defaults import Defaults
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.values import Row
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.tables_read import expressions_in
from amphibase.sql.records.unseen_rows import fill_in

Values = Mapping[str, Any]


async def insert_one(
    connection: AsyncConnection, builder: QueryBuilder, values: Values, *, seen: bool
) -> Row:
    """Add a row.

    Args:
        builder: of the row's model and the caller who adds it.
        seen: whether the caller may see the row afterwards. If not, policies let nothing come
            back.

    Returns:
        The row as stored; ABSENT for what is not known of a row that is not seen.
    """
    info = builder.info
    defaults = Defaults(info)
    if seen:
        statement = insert(info.table).values(by_column(info, values))
        statement = builder.tables(*expressions_in(values.values())).restrict(statement)
        return tuple((await connection.execute(statement.returning(*info.columns))).one())
    columns = {name: [value] for name, value in zip(info.column_of, defaults(values), strict=True)}
    await fill_in(connection, info, columns)
    row = tuple(value for (value,) in columns.values())
    sent = {name: value for name, value in zip(columns, row, strict=True) if value is not ABSENT}
    for name in info.not_added:
        sent.pop(name, None)
    # Inline: else SQLAlchemy asks for the key by RETURNING.
    statement = insert(info.table).values(by_column(info, sent)).inline()
    await connection.execute(builder.tables(*expressions_in(row)).restrict(statement))
    return info.readable(row)


def by_column(info: ModelInfo[Any], values: Values) -> dict[Column[Any], Any]:
    """Return values by the columns of their attributes."""
    return {info.column_of[name]: value for name, value in values.items()}
