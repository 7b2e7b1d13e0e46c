"""Lists of rows under a scope, newest first, on Postgres.

Postgres reads `organisation_id IN (…) ORDER BY created_at DESC LIMIT 100` either through every row
of the caller's organisations, or through the newest rows of all until enough are the caller's. With
few organisations, the newest of each are read from an index that begins with the scope's column,
and the newest of these are the list:

    WITH scope_keys AS MATERIALIZED (SELECT DISTINCT … FROM memberships … LIMIT 65)
    SELECT … FROM tickets WHERE tickets.id IN (
        SELECT few.id FROM scope_keys CROSS JOIN LATERAL (
            SELECT id, created_at FROM tickets WHERE organisation_id = scope_keys.key
            ORDER BY created_at DESC, id DESC LIMIT 100
        ) AS few WHERE (SELECT count(*) FROM scope_keys) <= 64
        ORDER BY few.created_at DESC, few.id DESC LIMIT 100
        UNION ALL (the list as it is otherwise, where there are more)
    ) ORDER BY …

The number of keys is known when the statement runs, so Postgres executes one half alone. Predicates
and policies apply to each table in it, as in any statement.
"""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.sql import visitors

from amphibase.access.conditions import AllOf, Condition, InScope, ScopeQuery, all_of
from amphibase.records.model_info import ModelInfo
from amphibase.records.ordering import Ordering
from amphibase.schema.ddl import quoted
from amphibase.schema.generated_functions import SCHEMA
from amphibase.schema.scope_functions import ScopeFunction
from amphibase.sql.records.limit import limited

MAX_KEYS = 64
"""With more, the rows of a list are found faster without looking at each key."""


def scope_of(info: ModelInfo[Any], readable: Condition) -> InScope | None:
    """Return the scope by whose column the lists of a model can be read; None where none can.

    Args:
        readable: the condition of rows that the caller may see, folded for them.
    """
    newest = [column.name for column in info.newest_first]
    indexes = [[column.name for column in index.columns] for index in info.table.indexes]
    for part in readable.parts if isinstance(readable, AllOf) else (readable,):
        if isinstance(part, InScope) and [part.column.name, *newest] in indexes:
            return part
    return None


def without(scope: InScope, condition: Condition) -> Condition:
    """Return a condition without the scope, where that is known to hold."""
    parts = condition.parts if isinstance(condition, AllOf) else (condition,)
    return all_of(*(part for part in parts if part != scope))


def scope_function(query: ScopeQuery) -> Select[Any]:
    """Return the values of a scope, as `key`, as the function of the database gives them."""
    call = getattr(getattr(func, SCHEMA), ScopeFunction.of(query).name)
    return select(call(type_=query.column.type).column_valued("scope_key").label("key"))


def is_listed(
    info: ModelInfo[Any],
    scope: InScope,
    keys: Select[Any],
    rows: Select[Any],
    of_scope: Select[Any],
    order: Ordering,
    limit: int,
) -> ColumnElement[bool]:
    """Return whether a row is one of the first rows of a list.

    Args:
        keys: the values of the scope, as `key`.
        rows: the columns of the primary key and of the order, of all rows of the list.
        of_scope: the same, where it is known that rows are in the scope.
        order: newest first.
        limit: how many rows the list has.
    """
    scope_keys = limited(keys.distinct(), MAX_KEYS + 1).cte("scope_keys")
    scope_keys = scope_keys.prefix_with("MATERIALIZED")
    most: ColumnElement[int] = literal_column(str(MAX_KEYS))
    count = select(func.count()).select_from(scope_keys).scalar_subquery()
    of_key = of_scope.where(scope.column == scope_keys.c.key)
    few = limited(of_key.order_by(*order.clauses), limit).correlate(scope_keys).lateral("few")
    names = [key.name for key in info.keys]

    def of_few(element: Any, **_: Any) -> ColumnElement[Any] | None:
        return few.c[element.name] if isinstance(element, Column) else None

    clauses = [visitors.replacement_traverse(clause, {}, of_few) for clause in order.clauses]
    by_key = select(*(few.c[name] for name in names)).select_from(scope_keys.join(few, true()))
    by_key = limited(by_key.where(count <= most).order_by(*clauses), limit)
    # To read the rows themselves and not only an index, as the list does, is planned as the list.
    whole: ColumnElement[Any] = literal_column(f"{quoted(info.table.name)}.ctid")
    plain = rows.with_only_columns(*info.keys).where(count > most, whole.is_not(None))
    plain = plain.order_by(*order.clauses)
    listed = union_all(by_key, limited(plain, limit).correlate(scope_keys))
    row = info.keys[0] if len(info.keys) == 1 else tuple_(*info.keys)
    return row.in_(listed)
