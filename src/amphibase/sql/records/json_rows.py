"""Rows as JSON that Postgres builds, whose bytes go from the database to the response unchanged.

The text is, byte for byte, what pydantic writes for the same row (a test holds the two equal, type
by type). A model with a column of another type has no JSON rows.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Date,
    Enum,
    Integer,
    Select,
    String,
    Uuid,
    literal_column,
    select,
)
from sqlalchemy import Text as SqlText

from amphibase.backend import Order, Page, Where
from amphibase.database.compiled import Query
from amphibase.errors import UnreadableValue
from amphibase.models import UtcDateTime
from amphibase.records.model_info import ModelInfo
from amphibase.records.values import Row
from amphibase.schema.ddl import quoted
from amphibase.sql.records.hidden_rows import log_hidden_rows
from amphibase.sql.records.pages import read_page
from amphibase.sql.records.query_builder import QueryBuilder


def json_object(info: ModelInfo[Any], names: Sequence[str]) -> Select[Any] | None:
    """Build a SELECT of each row's JSON object.

    Args:
        names: the attributes that the object has, in order.

    Returns:
        None where a column's type is written by pydantic alone.
    """
    parts = []
    for place, name in enumerate(names):
        column = info.column_of.get(name)  # a computed one has none
        value = None if column is None else _json(column)
        if column is None or value is None:
            return None
        if column.nullable and not isinstance(column.type, Date | UtcDateTime):
            value = f"coalesce({value}, 'null')"
        opening = "{" if place == 0 else ","
        parts.append(f"""'{opening}"{name}":'||{value}""")
    # One piece of text, so that a statement with it is recognised quickly.
    built: ColumnElement[str] = literal_column("||".join([*parts, "'}'"]), SqlText())
    return select(built).select_from(info.table)


def _json(column: Column[Any]) -> str | None:
    """Write SQL for the column's value as JSON text; NULL for NULL."""
    name = f"{quoted(column.table.name)}.{quoted(column.name)}"
    match column.type:
        case Uuid():
            return f"""'"'||{name}||'"'"""
        case Date():
            return _in_range(column, name, f"""'"'||{name}||'"'""")
        case UtcDateTime():
            return _in_range(
                column,
                name,
                f"""'"'||CASE WHEN date_trunc('second', {name}) = {name}"""
                f""" THEN to_char({name}, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
                f""" ELSE to_char({name}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END||'"'""",
            )
        case Enum() if column.type.enum_class is None or column.type.enums != [
            member.value for member in column.type.enum_class
        ]:
            return None
        case Enum() | String():
            return f"to_json({name}::text)::text"
        case Boolean() | Integer():
            return f"{name}::text"
    return None


def _in_range(column: Column[Any], name: str, value: str) -> str:
    # NULL, which makes the whole object NULL, for what Python's dates have no room for.
    absent = f"WHEN {name} IS NULL THEN 'null' " if column.nullable else ""
    return f"CASE {absent}WHEN {name} >= '0001-01-01' AND {name} < '10000-01-01' THEN {value} END"


class SqlJsonRows:
    """Reads the rows of a model as JSON objects that Postgres builds.

    Args:
        statement: selects each row's JSON object.
        names: the columns that the object has.
    """

    def __init__(self, builder: QueryBuilder, statement: Select[Any], names: Sequence[str]) -> None:
        self._builder = builder
        self._statement = statement
        self._names = names

    async def get(self, id: Any) -> str | None:
        rows = await self._builder.rows(self.query_of(id))
        if rows and rows[0][0] is None:
            await self._builder.rows(self._builder.by_key(self._builder.info.select, id))
            raise UnreadableValue
        if not rows:
            await log_hidden_rows(self._builder, self._builder.is_(id))
        return self.result_of(rows)

    def query_of(self, id: Any) -> Query:
        """Build the query of `get`, for a caller that sends more in the same round trip."""
        return self._builder.by_key(self._statement, id)

    def result_of(self, rows: Sequence[Row]) -> str | None:
        """Return what `get` returns for the executor's rows."""
        return rows[0][0] if rows else None

    async def page(
        self, *where: Where, order_by: Order = (), cursor: str | None = None, limit: int = 100
    ) -> Page[str]:
        order = self._builder.ordering(order_by)
        names = [self._builder.info.name_of.get(term.by, "") for term in order.terms]
        # Where the last row's position is not in its JSON object, it stands beside it.
        is_inside = {*names} <= {*self._names}
        beside = () if is_inside else [term.compared for term in order.terms]
        rows, list_ = await read_page(
            self._builder, self._statement, where, order, cursor, limit, beside
        )
        objects = [row[0] for row in rows]
        if not (objects or cursor):
            await log_hidden_rows(self._builder, where)
        if None in objects:  # reading the rows shows which value it is
            await read_page(self._builder, self._builder.info.select, where, order, cursor, limit)
            raise UnreadableValue
        if list_ is None:
            return Page(objects, None)
        if beside:
            position = order.position(rows[-1][1:])
        else:
            last = orjson.loads(objects[-1])
            position = [last[name] for name in names]
        return Page(objects, self._builder.cursors.write(list_, position))
