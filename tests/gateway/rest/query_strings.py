"""Query strings as the tests write them."""

from typing import Any
from urllib.parse import quote

from amphibase.gateway.rest.request.query import (
    QueryParams,
)
from amphibase.gateway.rest.request.query_string import read_query
from amphibase.records.filters.operators import OPERATORS, TRUTHS
from amphibase.records.filters.tree import FieldPath, Filter

A, B = FieldPath("a"), FieldPath("b")


def has(field: FieldPath, operator: str, *more: Any, truth: str = "", **named: Any) -> Filter:
    """A filter, by the names of its operator and of what `is` compares with."""
    if truth:
        named["truth"] = TRUTHS[truth]
    return Filter(field, OPERATORS[operator], *more, **named)


def read(text: str, *, is_call: bool = False) -> tuple[QueryParams, list[object]]:
    query, values = read_query(quote(text, safe="=&"), is_call=is_call)
    return query, [*values]
