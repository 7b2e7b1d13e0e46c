"""Aggregates over the rows of a list: which functions there are, and what their values are."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import ColumnElement, Float, Integer, Numeric
from sqlalchemy.sql.elements import Label
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from amphibase.errors import InvalidRequest
from amphibase.records.arguments import check_list
from amphibase.records.values import Row

AggregateName = Literal["count", "sum", "avg", "min", "max"]

SQLITE_DIGITS = 15
"""How many digits SQLite's floats keep, which it sums decimals as."""


class Aggregate(NamedTuple):
    """One aggregate function.

    Attributes:
        function: as it was written.
        argument: None for `count()`, which counts rows.
    """

    name: AggregateName
    function: ColumnElement[Any]
    argument: ColumnElement[Any] | None

    @property
    def read(self) -> Callable[[Any], Any] | None:
        """What makes the same value of every backend's; None where it has the argument's type."""
        if self.name == "count":
            return int
        if self.name == "avg":
            return float
        if self.name == "sum" and self.argument is not None:
            return _reader_of_sum(self.argument.type)
        return None


def aggregates_of(functions: Sequence[Any]) -> Sequence[Aggregate]:
    """Return the aggregates that a call requests.

    Raises:
        InvalidRequest: there are none, or one is no aggregate.
    """
    if not functions:
        raise InvalidRequest("aggregate: a function was expected, as in func.count()")
    return [_aggregate(function) for function in functions]


def _aggregate(function: Any) -> Aggregate:
    element = function.element if isinstance(function, Label) else function
    name = getattr(element, "name", "").lower() if isinstance(element, FunctionElement) else ""
    arguments = [*element.clauses] if name in get_args(AggregateName) else []
    arguments = [each for each in arguments if not getattr(each, "is_literal", False)]  # count(*)
    if len(arguments) > 1 or (not arguments and name != "count"):
        raise InvalidRequest(
            f"aggregate: count(), sum(…), avg(…), min(…) or max(…) was expected, not {function}"
        )
    return Aggregate(name, element, arguments[0] if arguments else None)  # type: ignore[arg-type]


def groups_of(by: Sequence[Any]) -> Sequence[ColumnElement[Any]]:
    """Return the expressions that rows are grouped by. Raises InvalidRequest."""
    groups = []
    for each in check_list("by", by):
        element = each.__clause_element__() if hasattr(each, "__clause_element__") else each
        if not isinstance(element, ColumnElement):
            raise InvalidRequest("by: a column was expected, as in by=[Ticket.status]")
        groups.append(element)
    return groups


def read_groups(
    rows: Sequence[Row], readers: Sequence[Callable[[Any], Any] | None]
) -> Sequence[Row]:
    """Return the rows of groups with each value as its reader makes it; None stays."""
    return [
        tuple(
            value if read is None or value is None else read(value)
            for value, read in zip(row, readers, strict=True)
        )
        for row in rows
    ]


def of_no_rows(aggregates: Sequence[Aggregate], groups: Sequence[Any]) -> Sequence[Row]:
    """Return the aggregates of no rows, for a caller who may not read the table at all."""
    if groups:
        return []
    return [tuple(0 if each.name == "count" else None for each in aggregates)]


def _reader_of_sum(type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    plain = type_.impl_instance if isinstance(type_, TypeDecorator) else type_
    if isinstance(plain, Integer):
        return int
    if isinstance(plain, Float):
        return float
    return _decimal if isinstance(plain, Numeric) else None


def _decimal(value: Any) -> Decimal:
    return Decimal(f"{value:.{SQLITE_DIGITS}g}" if isinstance(value, float) else value)
