"""Aggregates over the rows that a caller may see."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, literal_column, select, type_coerce
from sqlalchemy.types import NullType

from amphibase.backend import Where
from amphibase.records.aggregates import (
    Aggregate,
    aggregates_of,
    groups_of,
    of_no_rows,
    read_groups,
)
from amphibase.records.arguments import check_limit
from amphibase.records.values import Row
from amphibase.sql.records.limit import limited
from amphibase.sql.records.query_builder import QueryBuilder


async def aggregate_rows(
    builder: QueryBuilder,
    functions: Sequence[Any],
    by: Sequence[Any],
    where: Sequence[Where],
    limit: int,
) -> Sequence[Row]:
    """Return the aggregates of each group of rows; see `Repository.aggregate`."""
    check_limit(limit)
    aggregates, groups = aggregates_of(functions), groups_of(by)
    columns = [_column(each) for each in aggregates]
    statement: Select[Any] = select(*groups, *columns).select_from(builder.info.table)
    written = [*groups, *(each.function for each in aggregates)]
    statement = builder.visible(statement, *where, reads=written)
    # By position: an expression with values is another one where it is written again.
    places: list[ColumnElement[Any]] = [
        literal_column(str(place)) for place in range(1, len(groups) + 1)
    ]
    statement = statement.group_by(*places).order_by(*(each.nulls_last() for each in places))
    rows = await builder.rows(builder.selects.query(limited(statement, limit)))
    readers = [*(None for _ in groups), *(each.read for each in aggregates)]
    return read_groups(rows or of_no_rows(aggregates, groups), readers)


def _column(aggregate: Aggregate) -> Any:
    # Read as the database has it: the sum of a type need not be of the type.
    return (
        aggregate.function
        if aggregate.read is None
        else type_coerce(aggregate.function, NullType())
    )
