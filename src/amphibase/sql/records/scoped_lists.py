"""Lists of rows under a scope, newest first, on Postgres.

Postgres reads `organisation_id IN (…) ORDER BY created_at DESC LIMIT 100` either through every row
of the caller's organisations, or through the newest rows of all until enough are the caller's. Here
the newest rows of each organisation are read from an index that begins with the scope's column, and
the newest of these are the list. They stand in a common table expression of the table's own name,
from which the list is selected like any other:

    WITH scope_keys AS MATERIALIZED (SELECT ARRAY(SELECT … FROM memberships …) AS keys),
    newest_keys AS MATERIALIZED (          -- those whose rows can be in the list
        SELECT key, created_at FROM (SELECT DISTINCT unnest(keys) … FROM scope_keys) JOIN LATERAL (
            SELECT … FROM tickets WHERE organisation_id = key ORDER BY … LIMIT 1
        ) ORDER BY … LIMIT 100
    ),
    tickets AS (
        SELECT … FROM newest_keys JOIN LATERAL (
            SELECT … FROM tickets WHERE organisation_id = key
                AND created_at >= (the oldest of newest_keys, where these are 100)
            ORDER BY … LIMIT 100
        )
        UNION ALL (the list as it is otherwise, where there are more than 1000 keys)
    )
    SELECT … FROM tickets ORDER BY created_at DESC, id DESC LIMIT 100

The number of keys is known when the statement runs, so Postgres executes one half alone. Predicates
and policies apply to each table in it, as in any statement. A policy reads the scope once more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    CompoundSelect,
    Date,
    DateTime,
    FromClause,
    Select,
    any_,
    case,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.types import TypeDecorator

from amphibase.access.conditions import (
    Condition,
    InScope,
    ScopeQuery,
    all_of,
    conjuncts,
)
from amphibase.records.model_info import ModelInfo
from amphibase.records.ordering import Ordering
from amphibase.records.unique_keys import is_partial, unique_keys
from amphibase.schema.generated_functions import SCHEMA
from amphibase.schema.scope_functions import ScopeFunction
from amphibase.sql.records.limit import limited

MAX_KEYS = 1000
"""With more, a list is read as without a scope: under a policy, a key costs the more the more there
are."""
MAX_KEYS_BESIDE_INDEX = 64
"""The same where an index has all rows in the order of the list. Of many keys, it soon has enough
rows."""


def scope_of(info: ModelInfo[Any], readable: Condition) -> InScope | None:
    """Return the scope by whose column the lists of a model can be read; None where none can.

    Args:
        readable: the condition of rows that the caller may see, folded for them.
    """
    newest = [column.name for column in info.newest_first]
    indexes = [[column.name for column in index.columns] for index in info.table.indexes]
    for part in conjuncts(readable):
        if isinstance(part, InScope) and [part.column.name, *newest] in indexes:
            return part
    return None


def without(scope: InScope, condition: Condition) -> Condition:
    """Return a condition without the scope, where that is known to hold."""
    return all_of(*(part for part in conjuncts(condition) if part != scope))


def call_of(query: ScopeQuery) -> ColumnElement[Any]:
    """Return the array of a scope's values, as the function of the database returns it."""
    call = getattr(getattr(func, SCHEMA), ScopeFunction.of(query).name)
    return cast(ColumnElement[Any], call())


def have_duplicates(query: ScopeQuery) -> bool:
    """Return whether a scope can have a value twice."""
    once = {query.column.name, query.user.name}
    return not any(
        len(key.columns) and {column.name for column in key.columns} <= once and not is_partial(key)
        for key in unique_keys(query.table).values()
    )


@dataclass(frozen=True, slots=True)
class ScopedList:
    """The first rows of a list under a scope.

    Args:
        keys: the array of the scope's values.
        conditions: of all rows of the list, beside that they are in the scope.
        by_policy: whether a policy requires that they are.
        order: newest first.
        limit: how many rows the list has.
    """

    info: ModelInfo[Any]
    scope: InScope
    keys: ColumnElement[Any]
    conditions: Sequence[ColumnElement[bool]]
    by_policy: bool
    order: Ordering
    limit: int

    @property
    def hides_table(self) -> bool:
        """Whether a statement can select from `cte` in place of the table: nothing in it reads
        other rows of the table, or calls it by a longer name."""
        return self.info.table.schema is None and not self.info.computed

    def cte(self) -> CTE:
        """Return the rows, and at most as many more for each key, as what hides the table."""
        return self._rows(self.info.columns).cte(self.info.table.name)

    def has_row(self) -> ColumnElement[bool]:
        """Return whether a row of the table is in the list."""
        keys = self.info.keys
        rows = self._rows([*dict.fromkeys([*keys, *self.info.newest_first])]).subquery("listed")
        listed = select(*(rows.c[key.key] for key in keys)).order_by(*self._newest_first(rows))
        row = keys[0] if len(keys) == 1 else tuple_(*keys)
        return row.in_(limited(listed, self.limit))

    def _rows(self, columns: Iterable[Column[Any]]) -> CompoundSelect[Any]:
        """Return the columns of the list's rows, and of more."""
        columns = [*columns]
        max_keys = MAX_KEYS_BESIDE_INDEX if has_index_of_all(self.info) else MAX_KEYS
        most: ColumnElement[int] = literal_column(str(max_keys))
        scope = select(self.keys.label("keys")).cte("scope_keys").prefix_with("MATERIALIZED")
        array = scope.c["keys"]
        count = func.cardinality(array)
        key = func.unnest(array, type_=self.scope.query.column.type).label("key")
        each_key = select(key).where(count <= most)
        if have_duplicates(self.scope.query):
            each_key = each_key.distinct()
        keys: FromClause = each_key.subquery("each_key")
        conditions = [*self.conditions]
        if self.limit < max_keys:
            keys = self._newest_keys(keys)
            conditions += self._reaches(keys)
        rows = self._newest_of(keys, columns, conditions, self.limit).lateral("newest_rows")
        by_key = select(*rows.c).select_from(keys.join(rows, true()))
        plain = select(*columns).where(*self.conditions, select(count).scalar_subquery() > most)
        if not self.by_policy:
            # As a value: `ANY (SELECT …)` would compare with each row of the subquery.
            values = func.coalesce(select(array).scalar_subquery())
            plain = plain.where(self.scope.column == any_(values))
        return union_all(by_key, limited(plain.order_by(*self.order.clauses), self.limit))

    def _newest_of(
        self,
        keys: FromClause,
        columns: Iterable[Column[Any]],
        conditions: Iterable[ColumnElement[bool]],
        count: int,
    ) -> Select[Any]:
        """Return the newest rows of each key."""
        rows = select(*columns).where(self.scope.column == keys.c.key, *conditions)
        return limited(rows.order_by(*self.order.clauses), count).correlate(keys)

    def _newest_keys(self, keys: FromClause) -> CTE:
        """Return the keys whose newest rows are the newest: all rows of the list are theirs."""
        newest_first = self.info.newest_first
        newest = self._newest_of(keys, newest_first, self.conditions, 1).lateral("newest_row")
        rows = select(keys.c.key, *newest.c).select_from(keys.join(newest, true()))
        rows = limited(rows.order_by(*self._newest_first(newest)), self.limit)
        return rows.cte("newest_keys").prefix_with("MATERIALIZED")

    def _reaches(self, newest_keys: FromClause) -> list[ColumnElement[bool]]:
        """Return the condition that a row is not older than the newest row of each key, where there
        are as many keys as the list has rows."""
        column = self.info.newest_first[0]
        type_ = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
        if column.nullable or not isinstance(type_, Date | DateTime):
            return []
        has_all = func.count() >= literal_column(str(self.limit))
        oldest = func.min(newest_keys.c[column.key])
        bound = case((has_all, oldest), else_=literal_column("'-infinity'"))
        return [column >= select(bound).scalar_subquery()]

    def _newest_first(self, rows: FromClause) -> list[ColumnElement[Any]]:
        return [rows.c[column.key].desc() for column in self.info.newest_first]


def has_index_of_all(info: ModelInfo[Any]) -> bool:
    """Return whether an index has all rows in the order of a list, or nearly."""
    indexes = (index.columns for index in info.table.indexes)
    firsts = [next(iter(columns), None) for columns in (info.table.primary_key.columns, *indexes)]
    return any(first is info.newest_first[0] for first in firsts)
