"""New rows that their caller may not see: policies let nothing of them come back.

What the database would fill in is therefore read first, and then stored as any other value.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, cast, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ClauseElement

from amphibase.records.defaults import is_left_to_database
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.schema.ddl import quoted


async def fill_in(
    connection: AsyncConnection, info: ModelInfo[Any], columns: dict[str, list[Any]]
) -> None:
    """Replace ABSENT by the value that the database would fill in, where it can be read.

    What the caller may not set, a computed column, and a default that takes the row stay ABSENT.

    Args:
        columns: the values of the rows, by attributes.
    """
    wanted = {
        name: source
        for name, column in info.column_of.items()
        if name not in info.not_added and any(value is ABSENT for value in columns[name])
        for source in [_source(column)]
        if source is not None
    }
    if not wanted:
        return
    number = len(next(iter(columns.values())))
    rows = select(*wanted.values()).select_from(func.generate_series(1, number))
    values = zip(*(await connection.execute(rows)), strict=True)
    for name, filled in zip(wanted, values, strict=True):
        pairs = zip(columns[name], filled, strict=True)
        columns[name] = [other if value is ABSENT else value for value, other in pairs]


def _source(column: Column[Any]) -> Any:
    """Return what the database fills a column in with; None where that cannot be said before."""
    if not is_left_to_database(column) or column.computed is not None:
        return None
    if column.identity is not None:
        return None if column.identity.always else _next_key(column)
    default: Any = column.default if column.default is not None else column.server_default
    if default is None:
        return _next_key(column)
    argument = getattr(default, "arg", None)
    if isinstance(argument, str):
        return cast(literal(argument), column.type)
    return argument if isinstance(argument, ClauseElement) else None


def _next_key(column: Column[Any]) -> ColumnElement[Any]:
    sequence = func.pg_get_serial_sequence(quoted(column.table.name), column.name)
    return func.nextval(cast(sequence, postgresql.REGCLASS))
