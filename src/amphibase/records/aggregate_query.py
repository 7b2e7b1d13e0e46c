"""The query string of aggregates: `select=status,count(),total:hours.sum()`, beside filters.

The form is PostgREST's: columns without a function are what the rows are grouped by.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func

from amphibase.backend import Where
from amphibase.records.fields import Field, cached_by_model
from amphibase.records.filters.expressions import filterable_columns, invalid_parameter
from amphibase.records.listing import read_limit, read_row_filters, split_parameters
from amphibase.records.values import Row

MAX_VALUES = 16
"""How many columns and functions one request may select."""
MAX_GROUPS = 1000

_VALUE = re.compile(r"(?:(?P<alias>\w{1,63}):)?(?:(?P<column>\w+)\.)?(?P<name>\w+)(?P<call>\(\))?")
_NUMBERS = (int, float, Decimal)
_ORDERED = (*_NUMBERS, date, datetime, time, timedelta)
_COUNT, _AVERAGE = TypeAdapter[Any](int), TypeAdapter[Any](float)


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of a group.

    Args:
        name: in the response.
        expression: a column, or a function.
        output: the type in the response.
    """

    name: str
    expression: Any
    is_function: bool
    output: TypeAdapter[Any]


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    """What a query string requests of the rows of a model, as `Repository.aggregate` takes it.

    Args:
        values: in the order of the response.
    """

    values: Sequence[_Value]
    where: Sequence[Where]
    limit: int

    @property
    def by(self) -> Sequence[Any]:
        """The columns that rows are grouped by."""
        return [each.expression for each in self.values if not each.is_function]

    @property
    def functions(self) -> Sequence[Any]:
        """The aggregate functions."""
        return [each.expression for each in self.values if each.is_function]

    def items(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Return the rows of `Repository.aggregate` as they are in the response."""
        places = sorted(range(len(self.values)), key=lambda place: self.values[place].is_function)
        columns = [(each, places.index(place)) for place, each in enumerate(self.values)]
        return [
            {
                each.name: each.output.dump_python(row[place], mode="json", warnings=False)
                for each, place in columns
            }
            for row in rows
        ]


def read_aggregate_query(
    model: type[Any], parameters: Iterable[tuple[str, str]], *, max_relations: int = 0
) -> AggregateQuery:
    """Read the parameters of a query string, decoded and in their order.

    Args:
        max_relations: how many relationships there may be filters of.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    filters, once = split_parameters(parameters, ("select", "limit"))
    return AggregateQuery(
        [*_values(model, once.get("select", ""))],
        read_row_filters(model, filters, max_relations=max_relations),
        read_limit(once["limit"]) if "limit" in once else MAX_GROUPS,
    )


@cached_by_model
def functions_of(model: type[Any]) -> dict[str, tuple[str, ...]]:
    """Return the aggregate functions that each column of a model has, by the columns' names; those
    without one are left out."""
    columns = filterable_columns(model)
    names = {name: tuple(_functions(column.field)) for name, column in columns.items()}
    return {name: functions for name, functions in names.items() if functions}


def _functions(field: Field) -> Iterator[str]:
    if field.structured:
        return
    yield "count"
    is_named = issubclass(field.python_type, bool | Enum)
    if issubclass(field.python_type, _NUMBERS) and not is_named:
        yield from ("sum", "avg")
    if field.textual or (issubclass(field.python_type, _ORDERED) and not is_named):
        yield from ("min", "max")


def _values(model: type[Any], text: str) -> Iterator[_Value]:
    parts = text.split(",")
    if len(parts) > MAX_VALUES:
        raise invalid_parameter("select", f"must name at most {MAX_VALUES} values")
    names = set[str]()
    has_function = False
    for part in parts:
        parsed = _VALUE.fullmatch(part)
        if parsed is None or (parsed["column"] and not parsed["call"]):
            raise invalid_parameter(
                "select", "names columns and functions: status,count(),total:hours.sum()"
            )
        value = _function(model, parsed) if parsed["call"] else _column(model, parsed)
        if value.name in names:
            unnamed = part.rpartition(":")[2][:100]
            raise invalid_parameter(
                "select", f"{value.name} is there twice; give one another name: other:{unnamed}"
            )
        names.add(value.name)
        has_function = has_function or value.is_function
        yield value
    if not has_function:
        raise invalid_parameter("select", "must name a function, such as count()")


def _column(model: type[Any], parsed: re.Match[str]) -> _Value:
    name = parsed["name"]
    column = filterable_columns(model).get(name)
    if column is None or column.field.structured:
        raise invalid_parameter(
            "select", f"there is no such column to group by: {name[:100]}", "unknown_column"
        )
    output = TypeAdapter[Any](column.field.output | None)
    return _Value(parsed["alias"] or name, column.field.attribute, False, output)


def _function(model: type[Any], parsed: re.Match[str]) -> _Value:
    key, name = parsed["column"] or "", parsed["name"]
    called = parsed["alias"] or name
    if not key and name == "count":
        return _Value(called, func.count(), True, _COUNT)
    if key and key not in filterable_columns(model):
        raise invalid_parameter("select", f"there is no such column: {key[:100]}", "unknown_column")
    functions = functions_of(model).get(key, ())
    if name not in functions:
        offered = ", ".join(f"{key}.{each}()" for each in functions) or "count()"
        raise invalid_parameter(
            "select", f"there is no such function; there is {offered[:200]}", "unknown_function"
        )
    field = filterable_columns(model)[key].field
    output = {"count": _COUNT, "avg": _AVERAGE}.get(name) or TypeAdapter[Any](field.output | None)
    return _Value(called, getattr(func, name)(field.attribute), True, output)
