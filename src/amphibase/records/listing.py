"""The query string of a list: filters, logic and order, as SQLAlchemy expressions.

?stars=gt.3&title=ilike.*tea*           both hold
?or=(stars.gt.3,and(title.eq.tea,stars.is.null))
?order=stars.desc.nullslast,title&limit=20&cursor=…
"""

import re
from collections.abc import Iterable, Mapping, Sequence
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
from amphibase.records.filters.scanner import QuerySyntaxError
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


def read_listing(model: type[Any], parameters: Iterable[tuple[str, str]]) -> Listing:
    """Read the parameters of a query string, decoded and in their order.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    columns = filterable_columns(model)
    filters: list[tuple[str, str]] = []
    once: dict[str, str] = {}
    for name, text in parameters:
        if name not in ("order", "limit", "cursor"):
            filters.append((name, text))
            continue
        if name in once:
            raise invalid_parameter(name, "must be given once")
        once[name] = text
    return Listing(
        read_filters(model, filters),
        _order(columns, once["order"]) if once.get("order") else (),
        _limit(once["limit"]) if "limit" in once else DEFAULT_LIMIT,
        _cursor(once["cursor"]) if "cursor" in once else None,
    )


def read_filters(model: type[Any], parameters: Iterable[tuple[str, str]]) -> Sequence[Where]:
    """Read the parameters of a query string that has filters alone.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    columns = filterable_columns(model)
    values: list[Value] = []
    builder = ExpressionBuilder(columns, values)
    where: list[Where] = []
    for name, text in parameters:
        where.append(builder.build(_condition(columns, name, text, values), name))
    return where


def _condition(
    columns: Mapping[str, FilterableColumn], name: str, text: str, values: list[Value]
) -> Condition:
    try:
        if logic := _LOGIC_NAME.fullmatch(name):
            return parse_logic(cast("Connective", logic[2]), bool(logic[1]), text, values)
        if name not in columns:
            raise invalid_parameter(name, "there is no such column", "unknown_column")
        return parse_filter(FieldPath(name), text, values)
    except QuerySyntaxError as error:
        raise invalid_parameter(name, error.summary) from None


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


def _limit(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,10}", text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise invalid_parameter("limit", f"must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _cursor(text: str) -> str:
    if not text or len(text) > MAX_CURSOR_CHARACTERS:
        raise invalid_parameter("cursor", f"must have 1 to {MAX_CURSOR_CHARACTERS} characters")
    return text
