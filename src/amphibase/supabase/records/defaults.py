"""Values that new rows get where their objects hold none."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from operator import is_
from typing import Any

from sqlalchemy import Column

from amphibase.errors import MissingValue, NotSupported
from amphibase.records.defaults import is_left_to_database
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.values import are_expressions

Columns = dict[str, list[Any]]
"""The values of some rows: a list for each attribute, ABSENT where a row has none."""


class RowContext:
    """What a default of a column sees of its row, as the context of a statement shows it."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.current_parameters = parameters

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Mapping[str, Any]:
        """Return the values of the row by the keys of columns."""
        return self.current_parameters


def fill(info: ModelInfo[Any], columns: Columns) -> None:
    """Fill in the defaults that Python knows; ABSENT stays where the database has one.

    Raises:
        MissingValue: a column that needs a value has none.
        NotSupported: a value or a default is an SQL expression.
        InvalidValue: a default is none of its column's values.
    """
    for name, values in columns.items():
        check_plain(name, values)
    by_row: list[str] = []
    for name, column in info.column_of.items():
        values = columns[name]
        if name in info.not_added:
            continue
        if any(map(is_, values, repeat(ABSENT))):
            if _takes_row(column):
                by_row.append(name)
                continue
            default = _default_of(name, column)
            values = [default() if each is ABSENT else each for each in values]
            columns[name] = info.checked(name, values)
        if not column.nullable and any(map(is_, columns[name], repeat(None))):
            raise MissingValue(name)
    for name in by_row:
        _fill_by_row(info, columns, name)


def check_plain(name: str, values: list[Any]) -> None:
    """Raise NotSupported for values that are SQL expressions."""
    for class_ in {*map(type, values)}:
        if are_expressions(class_):
            raise NotSupported(
                f"{name}: the Data API of Supabase takes values, and no SQL expressions; use a "
                "stored function"
            )


def _takes_row(column: Column[Any]) -> bool:
    """Return whether the default is a function of the row."""
    default: Any = column.default
    return (
        default is not None and default.is_callable and bool(default.compare_argument(default.arg))
    )


def _default_of(name: str, column: Column[Any]) -> Callable[[], Any]:
    """Return what makes a column's value where a row has none."""
    default: Any = column.default
    if default is not None and default.is_scalar:
        return lambda: default.arg
    if default is not None and default.is_callable:
        return partial(default.arg, None)
    if default is not None and column.server_default is None:
        raise NotSupported(
            f"{name}: its default is an SQL expression; give the column a server_default"
        )
    if is_left_to_database(column):
        return lambda: ABSENT
    if column.nullable:
        return lambda: None
    raise MissingValue(name)


def _fill_by_row(info: ModelInfo[Any], columns: Columns, name: str) -> None:
    keys = {each: info.column_of[each].key for each in columns}
    make: Any = info.column_of[name].default
    values = [
        make.arg(RowContext({keys[each]: value for each, value in zip(columns, row, strict=True)}))
        if value is ABSENT
        else value
        for value, row in zip(columns[name], zip(*columns.values(), strict=True), strict=True)
    ]
    columns[name] = info.checked(name, values)
