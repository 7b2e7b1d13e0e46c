"""The query string of a list: filters, logic and order, as SQLAlchemy expressions.

?stars=gt.3&title=ilike.*tea*           both hold
?or=(stars.gt.3,and(title.eq.tea,stars.is.null))
?author.name=eq.Ann                     rows that have such a related row
?search=green tea                       where the model has a search index
?order=stars.desc.nullslast,title&limit=20&cursor=…
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from amphibase.backend import MAX_LIMIT, Order, Where
from amphibase.records.cursors import MAX_CURSOR_CHARACTERS
from amphibase.records.filters.expressions import (
    ExpressionBuilder,
    FilterableColumn,
    filterable_columns,
    invalid_parameter,
)
from amphibase.records.filters.query_string import parse_filter, parse_logic
from amphibase.records.filters.relations import filterable_relations
from amphibase.records.filters.scanner import QuerySyntaxError
from amphibase.records.filters.search import SEARCH, search_condition, searchable
from amphibase.records.filters.tree import Condition, Connective, FieldPath, Value

DEFAULT_LIMIT = 100

_DIRECTIONS = ("asc", "desc")
_NULLS = ("nullsfirst", "nullslast")
_LOGIC_NAME = re.compile(r"(not\.)?(and|or)")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a query string requests of a list."""

    where: Sequence[Where]
    order_by: Order
    limit: int
    cursor: str | None


def read_listing(
    model: type[Any], parameters: Iterable[tuple[str, str]], *, max_relations: int = 0
) -> Listing:
    """Read the parameters of a query string, decoded and in their order.

    Args:
        max_relations: how many relationships there may be filters of.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    columns = filterable_columns(model)
    filters, once = split_parameters(parameters, ("order", "limit", "cursor"))
    return Listing(
        read_row_filters(model, filters, max_relations=max_relations),
        _order(columns, once["order"]) if once.get("order") else (),
        read_limit(once["limit"]) if "limit" in once else DEFAULT_LIMIT,
        _cursor(once["cursor"]) if "cursor" in once else None,
    )


def split_parameters(
    parameters: Iterable[tuple[str, str]], names: Container[str]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the parameters that are filters, and those of some names, which stand once.

    Raises:
        RequestValidationError: one of these stands twice.
    """
    filters: list[tuple[str, str]] = []
    once: dict[str, str] = {}
    for name, text in parameters:
        if name not in names:
            filters.append((name, text))
            continue
        if name in once:
            raise invalid_parameter(name, "must be given once")
        once[name] = text
    return filters, once


def read_filters(model: type[Any], parameters: Iterable[tuple[str, str]]) -> Sequence[Where]:
    """Read the parameters of a query string that has filters of the model's own columns alone.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    columns, values = filterable_columns(model), list[Value]()
    builder = ExpressionBuilder(columns, values)
    where = []
    for name, text in parameters:
        is_search = name == SEARCH and searchable(model)
        if name not in columns and (
            is_search or name.partition(".")[0] in filterable_relations(model)
        ):
            raise invalid_parameter(
                name, "filters lists; changes are filtered by their own columns"
            )
        where.append(builder.build(_condition(columns, name, name, text, values), name))
    return where


def read_row_filters(
    model: type[Any], parameters: Iterable[tuple[str, str]], *, max_relations: int
) -> Sequence[Where]:
    """Read the parameters of a query string that has filters, filters of related rows, and a search
    in the text of the model's search index.

    All filters of one relationship hold for the same related row.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    columns, relations = filterable_columns(model), filterable_relations(model)
    values: list[Value] = []
    builder = ExpressionBuilder(columns, values)
    where: list[Where] = []
    related: dict[str, list[Where]] = {}
    searched = False
    for name, text in parameters:
        relation, dot, rest = name.partition(".")
        if name not in columns and name == SEARCH and searchable(model):
            if searched:  # each is a search of its own through all rows
                raise invalid_parameter(name, "must be given once")
            searched = True
            where.append(search_condition(model, text))
        elif dot and relation in relations and max_relations > 0:
            conditions = related.setdefault(relation, [])
            if len(related) > max_relations:
                raise invalid_parameter(name, f"exceeds the limit of {max_relations} relationships")
            there = relations[relation].columns
            condition = _condition(there, rest, name, text, values)
            conditions.append(builder.of_related(relation, there).build(condition, name))
        else:
            condition = _condition(columns, name, name, text, values)
            where.append(builder.build(condition, name))
    return [*where, *(relations[name].has(each) for name, each in related.items())]


def _condition(
    columns: Container[str], key: str, parameter: str, text: str, values: list[Value]
) -> Condition:
    """Read one filter, or the logic of several.

    Args:
        columns: the names of those that there are.
        key: the name of a column, or `or`, `not.and` and the like.
        parameter: the name of the parameter, for errors.
    """
    try:
        if logic := _LOGIC_NAME.fullmatch(key):
            return parse_logic(cast("Connective", logic[2]), bool(logic[1]), text, values)
        if key not in columns:
            raise invalid_parameter(parameter, "there is no such column", "unknown_column")
        return parse_filter(FieldPath(key), text, values)
    except QuerySyntaxError as error:
        raise invalid_parameter(parameter, error.summary) from None


def _order(columns: Mapping[str, FilterableColumn], text: str) -> Order:
    named: dict[str, Any] = {}
    for part in text.split(","):
        name, *words = part.split(".")
        column = columns.get(name)
        if column is None:
            raise invalid_parameter(
                "order", f"there is no such column: {name[:100]}", "unknown_column"
            )
        if column.field.structured:
            raise invalid_parameter("order", f"{name} has no order")
        if name in named:
            raise invalid_parameter("order", f"{name} is named twice")
        attribute = column.field.attribute
        direction = words.pop(0) if words and words[0] in _DIRECTIONS else "asc"
        expression = attribute.desc() if direction == "desc" else attribute.asc()
        if words and words[0] in _NULLS:
            first = words.pop(0) == "nullsfirst"
            expression = expression.nulls_first() if first else expression.nulls_last()
        if words:
            raise invalid_parameter(
                "order", f"{name} takes asc or desc, then nullsfirst or nullslast"
            )
        named[name] = expression
    return tuple(named.values())


def read_limit(text: str) -> int:
    """Read how many rows a request takes at most. Raises RequestValidationError."""
    if re.fullmatch(r"[0-9]{1,10}", text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise invalid_parameter("limit", f"must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _cursor(text: str) -> str:
    if not text or len(text) > MAX_CURSOR_CHARACTERS:
        raise invalid_parameter("cursor", f"must have 1 to {MAX_CURSOR_CHARACTERS} characters")
    return text
