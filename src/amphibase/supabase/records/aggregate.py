"""Aggregates over the rows that a caller may see, as PostgREST computes them
(https://docs.postgrest.org/en/v14/references/api/aggregate_functions.html)."""

from collections.abc import Sequence
from typing import Any

from amphibase.backend import Where
from amphibase.records.aggregates import (
    Aggregate,
    aggregates_of,
    groups_of,
    of_no_rows,
    read_groups,
)
from amphibase.records.arguments import check_limit
from amphibase.records.filters.names import format_field
from amphibase.records.filters.tree import FieldPath
from amphibase.records.values import Row
from amphibase.supabase.records.dialect import from_json, is_read_as_text
from amphibase.supabase.records.fields import field_path, unsupported
from amphibase.supabase.records.request_builder import RequestBuilder


async def aggregate_rows(
    builder: RequestBuilder,
    functions: Sequence[Any],
    by: Sequence[Any],
    where: Sequence[Where],
    limit: int,
) -> Sequence[Row]:
    """Return the aggregates of each group of rows; see `Repository.aggregate`."""
    check_limit(limit)
    aggregates, groups = aggregates_of(functions), groups_of(by)
    builder.check_readable([*groups, *(each.function for each in aggregates)])
    fields = [format_field(_field(builder, group)) for group in groups]
    select = [*fields, *(_formatted(builder, each) for each in aggregates)]
    named = [f"value_{place}:{text}" for place, text in enumerate(select)]
    records = await builder.grouped(builder.filters(*where), named, fields, limit)
    readers = [
        *(from_json(group.type) for group in groups),
        *(_reader(each) for each in aggregates),
    ]
    rows = [tuple(record[f"value_{place}"] for place in range(len(select))) for record in records]
    return read_groups(rows or of_no_rows(aggregates, groups), readers)


def _field(builder: RequestBuilder, element: Any) -> FieldPath:
    field = field_path(element, builder.info.table)
    if field is None:
        raise unsupported(element)
    return field


def _formatted(builder: RequestBuilder, aggregate: Aggregate) -> str:
    if aggregate.argument is None:
        return "count()"
    text = f"{format_field(_field(builder, aggregate.argument))}.{aggregate.name}()"
    return f"{text}::text" if _is_read_as_text(aggregate) else text


def _is_read_as_text(aggregate: Aggregate) -> bool:
    return aggregate.name != "count" and (
        aggregate.name in ("sum", "avg")
        or (aggregate.argument is not None and is_read_as_text(aggregate.argument.type))
    )


def _reader(aggregate: Aggregate) -> Any:
    if aggregate.read is not None or aggregate.argument is None:
        return aggregate.read
    return from_json(aggregate.argument.type)
