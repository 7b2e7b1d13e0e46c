"""Filters as SQLAlchemy expressions, for the columns of one model.

A value is read as the type of its column and bound; nothing of a query string becomes SQL.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import and_, not_, or_

from amphibase.backend import Where
from amphibase.records.fields import Field, cached_by_model, fields_of
from amphibase.records.filters.operators import OPERATORS, Argument, ColumnKind, Operator
from amphibase.records.filters.tree import Condition, Filter, Logic, Value
from amphibase.records.input import PlainText

MAX_DEPTH = 8
"""How deep `and` and `or` may be nested."""
MAX_CONDITIONS = 64
MAX_VALUES = 1000
"""How many values `in` may name."""
MAX_PATTERN_CHARACTERS = 1000

_CONNECTIVES = {"and": and_, "or": or_}
TEXT = TypeAdapter(PlainText)
_SHOWN_CHARACTERS = 100


def invalid_parameter(
    name: str, message: str, code: str = "invalid_filter"
) -> RequestValidationError:
    """Make the error of a parameter of the query string: 422, as of any invalid input."""
    return RequestValidationError([{"loc": ("query", name), "msg": message, "type": code}])


@dataclass(frozen=True, slots=True)
class FilterableColumn:
    """A column that may be filtered by.

    Attributes:
        values: how the column's values are read from text.
        operators: those that mean the same for such a column on every database, by their names.
    """

    field: Field
    values: TypeAdapter[Any]
    operators: Mapping[str, Operator]


@cached_by_model
def filterable_columns(model: type[Any]) -> dict[str, FilterableColumn]:
    """Return the columns of a model that may be filtered by, by the names of its attributes."""
    return {
        field.key: FilterableColumn(field, TypeAdapter(field.input), _operators_of(field))
        for field in fields_of(model).values()
        if not field.hidden
    }


def _operators_of(field: Field) -> Mapping[str, Operator]:
    kind = _kind_of(field)
    return {
        name: operator
        for name, operator in OPERATORS.items()
        if operator.portable is not None and kind in operator.portable.columns
    }


def _kind_of(field: Field) -> ColumnKind:
    if field.structured:
        return ColumnKind.STRUCTURED
    if field.textual:
        return ColumnKind.TEXT
    if issubclass(field.python_type, bool | bytes | Enum | str):
        return ColumnKind.UNORDERED
    return ColumnKind.ORDERED


class ExpressionBuilder:
    """Makes the expressions of one request's filters, and counts them.

    Args:
        columns: of the model, by name.
        values: those that the filters' positions point at.
    """

    def __init__(self, columns: Mapping[str, FilterableColumn], values: Sequence[Value]) -> None:
        self._columns = columns
        self._values = values
        self._count = count(1)
        self._prefix = ""

    def of_related(
        self, relation: str, columns: Mapping[str, FilterableColumn]
    ) -> "ExpressionBuilder":
        """Return the builder for filters of related rows, which are counted with the others.

        Args:
            relation: the name of the relationship.
            columns: of the related model, by name.
        """
        related = ExpressionBuilder(columns, self._values)
        related._count, related._prefix = self._count, f"{relation}."
        return related

    def build(self, condition: Condition, parameter: str) -> Where:
        """Make the expression of a filter or a tree of them.

        Args:
            parameter: of the query string, for errors.

        Raises:
            RequestValidationError: names the column or the parameter that is wrong.
        """
        return self._build(condition, parameter, depth=1)

    def _build(self, condition: Condition, parameter: str, depth: int) -> Where:
        if isinstance(condition, Filter):
            expression = self._filter(condition)
        else:
            expression = self._logic(condition, parameter, depth)
        return not_(expression) if condition.negated else expression

    def _logic(self, logic: Logic, parameter: str, depth: int) -> Where:
        if depth > MAX_DEPTH:
            raise invalid_parameter(parameter, f"must be nested at most {MAX_DEPTH} deep")
        members = [self._build(each, parameter, depth + 1) for each in logic.conditions]
        return _CONNECTIVES[logic.operator](*members)

    def _filter(self, filter: Filter) -> Where:
        name = f"{self._prefix}{filter.field.name}"
        if next(self._count) > MAX_CONDITIONS:
            raise invalid_parameter(name, f"exceeds the limit of {MAX_CONDITIONS} conditions")
        column = self._columns.get(filter.field.name)
        if column is None or filter.field.path:
            raise invalid_parameter(name, "there is no such column", "unknown_column")
        operator = filter.operator
        portable = operator.portable
        if portable is None or filter.quantifier or operator.name not in column.operators:
            offered = ", ".join(column.operators)
            raise invalid_parameter(name, f"takes the operators {offered}", "unknown_operator")
        attribute = column.field.attribute
        expression: Where
        if filter.truth is not None:
            truth = filter.truth
            if truth.name not in ("null", "not_null") and column.field.python_type is not bool:
                raise invalid_parameter(name, "is takes null or not_null; booleans also take true")
            expression = portable.operator(attribute, truth.value)
            return not_(expression) if truth.negated else expression
        assert filter.value is not None
        value = self._values[filter.value]
        if operator.argument is Argument.PATTERN:
            expression = portable.operator(attribute, _pattern(name, str(value)), escape="\\")
        else:
            expression = portable.operator(attribute, _read(name, column, value))
        return expression


def _read(name: str, column: FilterableColumn, value: Value) -> Any:
    if not isinstance(value, list):
        return _validated(name, column.values, str(value))
    if len(value) > MAX_VALUES:
        raise invalid_parameter(name, f"must name at most {MAX_VALUES} values")
    return [_validated(name, column.values, each) for each in value]


def _validated(name: str, adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        raise RequestValidationError(
            [
                {"loc": ("query", name), "msg": detail["msg"], "type": detail["type"]}
                for detail in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _pattern(name: str, text: str) -> str:
    """The pattern as LIKE reads it, with a backslash before what stands for itself."""
    _validated(name, TEXT, text)
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise invalid_parameter(
            name, f"the pattern must have at most {MAX_PATTERN_CHARACTERS} characters"
        )
    pattern = re.sub(r"\\.|\*", lambda part: "%" if part[0] == "*" else part[0], text, flags=re.S)
    if re.fullmatch(r"(?:\\.|[^\\])*", pattern, re.S) is None:
        raise invalid_parameter(
            name, "the pattern must not end with a backslash that escapes nothing"
        )
    return pattern
