"""The tables that a filter or an order reads beside the model's own rows.

An expression can reach any table: by `has()` and `any()`, a subquery, an alias, a hybrid property,
a join. Each such table becomes a common table expression of the table's own name, limited to the
rows and columns that the caller may see. It hides the table from every part of the statement,
however the expression is written:

    WITH notes AS NOT MATERIALIZED (SELECT * FROM main.notes WHERE owner_id = ?)
    SELECT … FROM posts WHERE EXISTS (SELECT 1 FROM notes WHERE notes.id = posts.note_id)
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnClause,
    ColumnElement,
    FromClause,
    Select,
    column,
    literal_column,
    select,
    table,
    text,
)

from amphibase.errors import NotSupported
from amphibase.records.access_policy import AccessPolicy
from amphibase.schema.ddl import quoted

VisibleRows = Callable[[AccessPolicy, FromClause], Sequence[ColumnElement[bool]]]


def visible_table(
    policies: Sequence[AccessPolicy], dialect: str, visible_rows: VisibleRows
) -> CTE | None:
    """Build the common table expression that hides a table behind its visible rows.

    Args:
        policies: what the caller may do with the rows of each model of the table.
        dialect: the name of the engine's dialect.
        visible_rows: returns the conditions of the rows of a FROM clause that a policy shows.

    Returns:
        None where every row is visible, or where the database itself hides the others.

    Raises:
        NotSupported: the table is in a schema, whose name reaches around what hides it.
    """
    if not policies:
        return None
    original = policies[0].info.table
    if not all(policy.may_select for policy in policies):
        if original.schema is not None:
            return None
        # Its columns without a row: a role without rights to a table may still use its row type.
        empty = text(f"SELECT (NULL::{quoted(original.name)}).* WHERE false")
        return empty.columns().cte(original.name)
    # SQLite: without the schema, the name would mean the common table expression itself.
    schema = "main" if dialect == "sqlite" else None
    source = table(original.name, *map(_detached, original.columns), schema=schema)
    visible = [condition for policy in policies for condition in visible_rows(policy, source)]
    hidden = {
        str(policy.info.column_of[name].name) for policy in policies for name in policy.info.hidden
    }
    if not (visible or hidden):
        return None
    if original.schema is not None:
        raise NotSupported(
            f"{original.fullname} is in a schema of its own, so only the service may filter by it; "
            "with RLS=true the policies of the table decide"
        )
    columns = [each for each in source.c if each.name not in hidden] if hidden else [_EVERYTHING]
    rows: Select[Any] = select(*columns).select_from(source).where(*visible)
    return rows.cte(original.name).prefix_with("NOT MATERIALIZED")


_EVERYTHING: ColumnElement[Any] = literal_column("*")


def _detached(of: Column[Any]) -> ColumnClause[Any]:
    return column(of.name, of.type)
