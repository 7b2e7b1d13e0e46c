"""The defaults of columns that Python knows."""

from collections.abc import Callable, Mapping
from itertools import repeat
from operator import is_
from typing import Any

from sqlalchemy import Column

from amphibase.errors import MissingValue
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.values import Row

Values = Mapping[str, Any]


class Defaults:
    """Gives rows the defaults that Python knows.

    Attributes:
        is_whole: whether the database has nothing to fill in, so that nothing has to come back.
    """

    def __init__(self, info: ModelInfo[Any]) -> None:
        self._info = info
        self._defaults = [(name, _maker(column)) for name, column in info.column_of.items()]
        self.is_whole = not any(is_left_to_database(column) for column in info.column_of.values())
        self.is_whole &= not info.not_added

    def __call__(self, values: Values) -> Row:
        """Return a row in the order of the model's `column_of`; ABSENT is left to the database.

        Raises:
            InvalidValue: a value is missing.
        """
        return tuple(
            [
                values[name] if name in values else self._made(name, make)
                for name, make in self._defaults
            ]
        )

    def all(self, columns: dict[str, list[Any]]) -> None:
        """Return the same for rows of which there is a list of values a column, ABSENT where a row
        has none. Raises InvalidValue."""
        for name, make in self._defaults:
            if any(map(is_, columns[name], repeat(ABSENT))):
                values = [
                    self._made(name, make) if value is ABSENT else value for value in columns[name]
                ]
                columns[name] = self._info.checked(name, values)

    def _made(self, name: str, make: Callable[[], Any] | None) -> Any:
        if make is None:
            raise MissingValue(name)
        return make()


def _maker(column: Column[Any]) -> Callable[[], Any] | None:
    return (lambda: ABSENT) if is_left_to_database(column) else python_default(column)


def python_default(column: Column[Any]) -> Callable[[], Any] | None:
    """Return what makes the default of a column; None where a value is required, or where the
    database computes it."""
    default: Any = column.default
    if default is not None and default.is_scalar:
        return lambda: default.arg
    if default is not None and default.is_callable:
        return lambda: default.arg(None)
    return (lambda: None) if column.nullable else None


def is_left_to_database(column: Column[Any]) -> bool:
    """Return whether the database computes the value, or SQLAlchemy for each statement."""
    default: Any = column.default
    if default is not None:
        # SQLAlchemy wraps a function, unless it takes the context of the statement.
        wrapped = default.is_callable and not default.compare_argument(default.arg)
        return not (default.is_scalar or wrapped)
    if column.server_default is not None or column.computed or column.identity:
        return True
    return column.primary_key and column is column.table.autoincrement_column
