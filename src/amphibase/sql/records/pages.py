"""Pages of a list, which a cursor continues."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select

from amphibase.backend import Where
from amphibase.database.compiled import Query
from amphibase.records.arguments import check_limit
from amphibase.records.ordering import Ordering
from amphibase.records.page_size import count_within
from amphibase.records.predicates import Predicates, fold
from amphibase.records.values import Row
from amphibase.sql.records.limit import limited
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.row_size import row_size_of
from amphibase.sql.records.scoped_lists import ScopedList, call_of, scope_of, without


async def read_page(
    builder: QueryBuilder,
    statement: Select[Any],
    where: Sequence[Where],
    order: Ordering,
    cursor: str | None,
    limit: int,
    expressions: Sequence[ColumnElement[Any]] = (),
) -> tuple[Sequence[Row], str | None]:
    """Fetch the rows of a page, and the list's name if the list goes on.

    The page ends at its limit, or before the row that would make it too large.

    Args:
        statement: a constant, as `RowSize.select_small` takes it.
        expressions: what else is selected.

    Raises:
        InvalidCursor: not a cursor of this list.
        InvalidRequest: the limit is out of range.
    """
    check_limit(limit)
    after = None
    if cursor is not None:
        after = order.read(builder.cursors.read(list_name(builder, where, order), cursor))

    def name_if(goes_on: bool) -> str | None:
        return list_name(builder, where, order) if goes_on else None

    async def fetch(
        statement: Select[Any], limit: int, beside: Sequence[ColumnElement[Any]] = ()
    ) -> Sequence[Row]:
        query = list_query(
            builder, statement, where, order, after=after, limit=limit, beside=beside
        )
        return await builder.rows(query)

    size = row_size_of(builder.info, builder.infos.dialect)
    if size.is_bounded:
        rows = await fetch(statement, limit + 1, expressions)
        return rows[:limit], name_if(len(rows) > limit)
    # Rounded, so that limits share few statements.
    most = builder.max_page_bytes >> limit.bit_length()
    small, marker = size.select_small(statement, most)
    rows = await fetch(small, limit + 1, expressions)
    if all(row[marker] is not None for row in rows):
        return rows[:limit], name_if(len(rows) > limit)
    while True:
        del rows
        sizes = [row[0] for row in await fetch(size.select, limit + 1)]
        count = count_within(sizes[:limit], builder.max_page_bytes)
        rows = await fetch(statement, count, expressions)
        if rows or not sizes:  # else the rows were deleted in between
            return rows, name_if(len(sizes) > count)


def list_name(builder: QueryBuilder, where: Sequence[Where], order: Ordering) -> str:
    """Return the name of a list, which its cursors carry: the same whatever is selected of its
    rows."""
    return list_query(builder, builder.info.select_keys, where, order).fingerprint()


async def row_sizes(
    builder: QueryBuilder, keys: Sequence[tuple[Any, ...]], *where: Where
) -> list[int]:
    """Return the bytes of the rows with these primary keys that match; 0 for one that is gone."""
    info = builder.info
    size = row_size_of(info, builder.infos.dialect)
    if size.is_bounded:
        return [0] * len(keys)
    statement = builder.visible(size.select.add_columns(*info.keys), *where, info.has_key_in(keys))
    rows = await builder.rows(builder.selects.query(statement))
    sizes = {tuple(key): bytes_ for bytes_, *key in rows}
    return [sizes.get(key, 0) for key in keys]


def list_query(
    builder: QueryBuilder,
    statement: Select[Any],
    where: Sequence[Where],
    order: Ordering,
    *,
    after: Sequence[Any] | None = None,
    limit: int | None = None,
    beside: Sequence[ColumnElement[Any]] = (),
) -> Query:
    """Build a query for the rows of a list, from a place in it on.

    Args:
        after: the values of that place.
        beside: what is selected beside the columns of the statement, which is a constant.
    """

    def build(after: Sequence[Any] | None) -> Select[Any]:
        whole = statement.add_columns(*beside) if beside else statement
        scoped = None
        if limit is not None and order is builder.newest_first and not where:
            scoped = _scoped_list(builder, after, limit)
        if scoped is not None and scoped.hides_table:
            selected = whole.add_cte(scoped.cte()).order_by(*order.clauses)
        else:
            selected = builder.visible(whole, *where, order_by=order.clauses)
            if scoped is not None:
                selected = selected.where(scoped.has_row())
            elif after is not None:
                selected = selected.where(order.after(after))
        return selected if limit is None else limited(selected, limit)

    if where or order is not builder.newest_first:
        return builder.selects.query(build(after))
    # What most lists are, without a statement to be built and compared.
    key = (statement, *beside, builder.policy.kind, limit, after is None)
    values = builder.caller_values
    if after is None:
        return Query(builder.selects.get(key, lambda: build(None)), values)
    parameters = order.parameters
    positions = {each.key: value for each, value in zip(parameters, after, strict=True)}
    return Query(builder.selects.get(key, lambda: build(parameters)), values | positions)


def _scoped_list(
    builder: QueryBuilder, after: Sequence[Any] | None, limit: int
) -> ScopedList | None:
    """Return the list under a scope that is read key by key; None where it cannot be."""
    info, caller, order = builder.info, builder.caller, builder.newest_first
    if builder.infos.dialect == "sqlite" or caller.role == "service_role":
        return None
    scope = scope_of(info, fold(info.access.read, caller))
    if scope is None:
        return None
    follows = [] if after is None else [order.after(after)]
    rest = without(scope, builder.policy.readable)
    query = scope.query
    return ScopedList(
        info,
        scope,
        keys=call_of(query) if builder.rls else Predicates(caller).values(query),
        conditions=[*follows, *builder.tables().where(rest)],
        by_policy=builder.rls,
        order=order,
        limit=limit,
    )
