"""How many bytes rows have, so that a page ends before it takes the memory.

Measuring costs little beside reading: SQLite and Postgres know the length of a value without
reading it.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Label,
    LargeBinary,
    Select,
    String,
    Text,
    case,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from amphibase.records.model_info import ModelInfo
from amphibase.records.page_size import may_be_large
from amphibase.schema.ddl import quoted


class RowSize:
    """The size of a model's rows: the bytes of those values whose length has no small limit, also
    of computed ones.

    Args:
        dialect: the name of the database's dialect.

    Attributes:
        select: a SELECT of each row's size.
    """

    def __init__(self, info: ModelInfo[Any], dialect: str) -> None:
        self._info = info
        self._large = [each for each in info.columns if may_be_large(each.type)]
        self._computed = [each for each in info.computed if may_be_large(each.type)]
        names = [f"{quoted(each.table.name)}.{quoted(each.name)}" for each in self._large]
        lengths = [
            _length(name, each.type, dialect) for name, each in zip(names, self._large, strict=True)
        ]
        # One piece of text, so that a statement with it is recognised quickly.
        sql = " + ".join(f"coalesce({length}, 0)" for length in lengths)
        self.bytes: ColumnElement[int] = literal_column(sql or "0", Integer())
        for computed in self._computed:
            self.bytes += func.coalesce(_computed_length(computed, dialect), 0)
        self.select: Select[Any] = select(self.bytes).select_from(info.table)

    @property
    def is_bounded(self) -> bool:
        """Whether no row is large, by the types of the model's columns."""
        return not (self._large or self._computed)

    def select_small(self, statement: Select[Any], max_bytes: int) -> tuple[Select[Any], int]:
        """Build a SELECT that leaves out the values of large rows.

        Args:
            statement: selects the model's columns, or one expression of them.
            max_bytes: the size above which a row is large.

        Returns:
            The SELECT, and the place of the value that is NULL in large rows alone.
        """
        key = ("small rows", statement, max_bytes)
        if key not in self._info.cache:
            self._info.cache[key] = self._select_small(statement, max_bytes)
        built: tuple[Select[Any], int] = self._info.cache[key]
        return built

    def _select_small(self, statement: Select[Any], max_bytes: int) -> tuple[Select[Any], int]:
        columns = [*statement.selected_columns]
        marker = self._info.keys[0]
        place = next((at for at, each in enumerate(columns) if each is marker), 0)
        is_small = self.bytes <= literal_column(str(max_bytes), Integer())
        kept = {*self._info.columns} - {*self._large, columns[place]}
        small = [each if each in kept else _only_where(is_small, each) for each in columns]
        return statement.with_only_columns(*small), place


def row_size_of(info: ModelInfo[Any], dialect: str) -> RowSize:
    """Return the size of a model's rows, built once a model."""
    if "row size" not in info.cache:
        info.cache["row size"] = RowSize(info, dialect)
    size: RowSize = info.cache["row size"]
    return size


def _only_where(condition: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((condition, value))


def _computed_length(value: ColumnElement[Any], dialect: str) -> ColumnElement[int]:
    """Build an expression of the bytes of a value that no column has."""
    element = value.element if isinstance(value, Label) else value
    if dialect == "sqlite":
        return func.length(cast(element, LargeBinary))
    is_binary = isinstance(value.type, LargeBinary)
    return func.octet_length(element if is_binary else cast(element, Text))


def _length(name: str, type_: TypeEngine[Any], dialect: str) -> str:
    """Write SQL for the bytes of a value."""
    if dialect == "sqlite":
        return f"length(CAST({name} AS BLOB))"
    plain = type_.impl_instance if isinstance(type_, TypeDecorator) else type_
    if isinstance(plain, String | LargeBinary):
        return f"octet_length({name})"
    # What is not compressed is as large as it is stored.
    return (
        f"CASE WHEN pg_column_compression({name}) IS NULL THEN pg_column_size({name}) "
        f"ELSE octet_length({name}::text) END"
    )
