"""What only the database can decide about changes: filters, and who may see a row.

Statements of one round share round trips, and subscribers with equal claims share a question.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection, sql

from amphibase.gateway.realtime.changes.event import Composed, new_row
from amphibase.gateway.realtime.changes.filters import ChangeFilter
from amphibase.gateway.realtime.changes.jobs import RoleStatement, run_all
from amphibase.gateway.realtime.changes.tables import BY_OID, RoleTable, read_table
from amphibase.replication.pgoutput import RowChange

NO_CLAIMS = "{}"

FILTER_MILLISECONDS = 250
"""Of a filter over the values of one round: all subscribers wait for it."""

Tables = Mapping[tuple[int, str], RoleTable]


class FilterQuestion(NamedTuple):
    """Whether a value passes a filter; asked once for all who ask the same."""

    role: str
    sql_type: str
    filter: ChangeFilter


class RowQuestion(NamedTuple):
    """Whether somebody may see rows of a table."""

    role: str
    claims: str
    oid: int


async def read_tables(
    connection: AsyncConnection[Any], oids: Collection[int], roles: Collection[str]
) -> Tables:
    """Read tables as roles may see them."""
    cursor = await connection.execute(BY_OID.encode(), [[*roles], [*oids]])
    return dict([read_table(row) for row in await cursor.fetchall()])


async def compose(
    connection: AsyncConnection[Any], values: Collection[tuple[str, str, str]]
) -> Composed:
    """Return the JSON of arrays and composites.

    Args:
        values: of each the role, the type as SQL writes it, and the text.
    """
    ordered = [*values]
    rows = await run_all(
        connection,
        [
            RoleStatement(
                role,
                NO_CLAIMS,
                f"SELECT to_jsonb(CAST(%s::text AS {_escaped(sql_type)}))::text",
                [text],
            )
            for role, sql_type, text in ordered
        ],
    )
    return {
        (sql_type, text): found[0][0] if found else orjson.dumps(text).decode()
        for (_, sql_type, text), found in zip(ordered, rows, strict=True)
    }


async def ask_filters(
    connection: AsyncConnection[Any],
    questions: Mapping[FilterQuestion, Sequence[str | None]],
) -> Mapping[FilterQuestion, Mapping[str | None, bool] | None]:
    """Return for each filter which of the values pass it; None where that takes too long."""
    statements = [
        RoleStatement(
            role,
            NO_CLAIMS,
            # The type is the catalog's; what a client sends is bound.
            f"SELECT value, {condition.compile(sql_type)} FROM unnest(%s::text[]) AS v (value)",  # noqa: S608
            [*condition.parameters, [*set(values)]],
        )
        for (role, sql_type, condition), values in questions.items()
    ]
    rows = await run_all(connection, statements, FILTER_MILLISECONDS)
    return {
        question: None if found is None else {row[0]: row[1] for row in found}
        for question, found in zip(questions, rows, strict=True)
    }


async def ask_rows(
    connection: AsyncConnection[Any],
    questions: Mapping[RowQuestion, Sequence[RowChange]],
    tables: Tables,
) -> set[tuple[RowQuestion, int]]:
    """Return which changes may be seen by whom, each change by its `id()`.

    The policies decide about the row as it is now. So an earlier version counts only where the
    columns that policies mention have not changed since: who may see the row now could see it then.
    Where the role may not select one of them, an earlier version counts only if it shows nothing
    that the row does not show now.
    """
    ordered = [*questions.items()]
    statements = [
        _row_statement(question, changes, tables[question.oid, question.role])
        for question, changes in ordered
    ]
    rows = await run_all(connection, statements)
    return {
        (question, id(changes[place - 1]))
        for (question, changes), found in zip(ordered, rows, strict=True)
        for place, current in found or ()
        if _is_as_then(changes[place - 1], current, tables[question.oid, question.role])
    }


def _row_statement(
    question: RowQuestion, changes: Sequence[RowChange], table: RoleTable
) -> RoleStatement:
    relation = changes[-1].relation
    statement = _row_sql(
        (relation.schema, relation.table),
        tuple((column.name, column.sql_type) for column in table.key),
        tuple(column.name for column in _watched(table)),
    )
    rows = [new_row(change) or {} for change in changes]
    keys = [[row.get(column.name) for row in rows] for column in table.key]
    return RoleStatement(question.role, question.claims, statement, keys)


@lru_cache(1024)
def _row_sql(table: tuple[str, str], key: Sequence[tuple[str, str]], watched: Sequence[str]) -> str:
    """Return the statement that finds the rows of several keys, each column's in one parameter.

    Args:
        table: its schema and name.
        key: the names and types of the primary key's columns.
        watched: the columns whose values it returns.
    """
    names = [f"k{number}" for number in range(len(key))]
    statement = sql.SQL(
        "SELECT k.place::int, ARRAY[{watched}]::text[] FROM unnest({texts}) WITH ORDINALITY"
        " AS k ({names}, place) JOIN {table} AS t ON {matches}"
    ).format(
        watched=sql.SQL(", ").join(
            # As the stream writes it: a cast to text writes `true`, and pads no `char(n)`.
            sql.SQL("CASE WHEN num_nulls(t.{0}) = 0 THEN concat(t.{0}) END").format(
                sql.Identifier(name)
            )
            for name in watched
        ),
        texts=sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(names)),
        names=sql.SQL(", ").join(map(sql.Identifier, names)),
        table=sql.Identifier(*table),
        matches=sql.SQL(" AND ").join(
            sql.SQL("t.{} = CAST(k.{} AS {})").format(
                sql.Identifier(column), sql.Identifier(name), _type(sql_type)
            )
            for name, (column, sql_type) in zip(names, key, strict=True)
        ),
    )
    return statement.as_string()


def _watched(table: RoleTable) -> Sequence[Any]:
    if all(column.is_selectable for column in table.policy_columns):
        return table.policy_columns
    return [column for column in table.columns.values() if column.is_selectable]


def _is_as_then(change: RowChange, current: Sequence[str | None], table: RoleTable) -> bool:
    row = new_row(change) or {}
    return all(
        row.get(column.name, value) == value
        for column, value in zip(_watched(table), current, strict=True)
    )


def _type(sql_type: str) -> sql.SQL:
    """Return a type as the catalog writes it (`format_type`), quoted where it needs to be."""
    return sql.SQL(_escaped(sql_type))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
