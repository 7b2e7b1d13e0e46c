"""Counting rows, also where a filter lists more values than one request takes."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import String
from sqlalchemy.dialects.postgresql import CITEXT

from amphibase.backend import Where
from amphibase.records.filters.operators import OPERATORS
from amphibase.records.filters.tree import Filter
from amphibase.supabase.records.dialect import stored_type
from amphibase.supabase.records.expressions import Filters
from amphibase.supabase.records.parameters import MAX_QUERY_BYTES, conditions_of, query_length
from amphibase.supabase.records.request_builder import RequestBuilder

SHORT_LIST = 3
"""A list of so many values is not split: PostgREST reads a list of one empty text as empty."""


async def count_rows(builder: RequestBuilder, where: Sequence[Where]) -> int:
    """Count the rows that match. Raises NotSupported where the filters are too long."""
    return sum([await builder.count(part) for part in _parts(builder, builder.filters(*where))])


async def rows_exist(builder: RequestBuilder, where: Sequence[Where]) -> bool:
    """Return whether any row matches. Raises NotSupported where the filters are too long."""
    for part in _parts(builder, builder.filters(*where)):
        if await builder.any(part):
            return True
    return False


def _parts(builder: RequestBuilder, filters: Filters) -> Iterator[Filters]:
    """Yield filters that together match the same rows, and no row twice.

    A list of values that a column has to be one of is split, since a row has one of them at most.
    """
    if query_length(conditions_of(filters)) <= MAX_QUERY_BYTES:
        yield filters
        return
    position = _longest_list(builder, filters)
    if position is None:
        yield filters  # too long, which sending it says
        return
    values: Any = filters.values[position]
    for half in (values[: len(values) // 2], values[len(values) // 2 :]):
        part = filters.copy()
        part.values[position] = half
        yield from _parts(builder, part)


def _longest_list(builder: RequestBuilder, filters: Filters) -> int | None:
    """Return the position of the longest list of values that can be split."""
    lists: dict[int, int] = {}
    for path, condition in filters.conditions:
        if (
            not path
            and isinstance(condition, Filter)
            and condition.operator is OPERATORS["in"]
            and not condition.negated
            and condition.value is not None
            and _tells_apart(builder, condition)
        ):
            values: Any = filters.values[condition.value]
            lists[condition.value] = len(values)
    longest = max(lists, key=lists.__getitem__, default=None)
    return longest if longest is not None and lists[longest] > SHORT_LIST else None


def _tells_apart(builder: RequestBuilder, condition: Filter) -> bool:
    """Return whether the database takes no two texts for the same value of a column."""
    column = builder.info.table.c.get(condition.field.name)
    if column is None or condition.field.path:
        return False
    stored = stored_type(column.type)
    return not isinstance(stored, CITEXT) and not (isinstance(stored, String) and stored.collation)
