"""What one caller may see of rows that were changed, now and as they were before."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic

from pydantic import TypeAdapter
from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Enum,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    TypeDecorator,
    bindparam,
    column,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.sql.visitors import replacement_traverse

from amphibase.access.conditions import Always
from amphibase.backend import ANONYMOUS, Model, Where
from amphibase.records.model_info import ModelInfo
from amphibase.records.page_size import count_within
from amphibase.records.predicates import columns_of
from amphibase.schema.change_log import sqlite_rows
from amphibase.schema.ddl import DIALECT, as_text, quoted
from amphibase.sql.records.pages import row_sizes
from amphibase.sql.records.query_builder import QueryBuilder, enclosed

PLACE = "amphibase_place"


class LoggedRows(Generic[Model]):
    """Decides what a caller sees of rows that the log names.

    Args:
        where: filters of the model's columns.

    Raises:
        InvalidRequest: a filter is not an expression.
    """

    def __init__(
        self, info: ModelInfo[Model], builder: QueryBuilder, where: Sequence[Where]
    ) -> None:
        builder.check(*where)
        self._info = info
        self._builder = builder
        self._where = where
        self.table = info.table.name
        self.columns: Sequence[str] = [each.name for each in info.table.columns]
        self._read_key = [_key_reader(key, builder.infos.dialect) for key in info.keys]
        self.identity = self._identity()

    def _identity(self) -> Hashable:
        builder = self._builder
        if self._where:
            return None
        if builder.may_be_refused:  # the database decides, by claims that may differ
            return (self._info, "anon") if builder.caller is ANONYMOUS else None
        # A computed column may read rows of others that the caller alone sees.
        sees_all = isinstance(self._info.access.read, Always) and not self._info.computed
        values = () if sees_all else (*builder.caller_values.values(),)
        return self._info, builder.policy.kind, values

    def key(self, raw: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(read(value) for read, value in zip(self._read_key, raw, strict=True))

    async def count_of_page(self, keys: Sequence[tuple[Any, ...]]) -> int:
        if len(keys) == 1:
            return 1
        sizes = await row_sizes(self._builder, keys, *self._where)
        return count_within(sizes, self._builder.max_page_bytes)

    async def current(self, keys: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Model]:
        info, builder = self._info, self._builder
        statement = builder.visible(info.select, *self._where).where(info.has_key_in(keys))
        rows = await builder.rows(builder.selects.query(statement))
        return dict(zip(map(info.key_of, rows), info.objects(rows), strict=True))

    async def were_visible(self, rows: Sequence[str]) -> Sequence[bool]:
        builder = self._builder
        earlier = self._earlier(rows)
        moved = _Moved(self._info, earlier)
        statement: Select[Any] = select(earlier.c[PLACE])
        tables = builder.tables(*self._where)
        statement = statement.where(*tables.where(builder.policy.readable, columns_of(earlier)))
        statement = statement.where(*map(moved, enclosed(self._where)))
        statement = tables.restrict(statement)
        async with builder.executor.reading(builder.caller) as connection:
            if builder.may_be_refused:
                table = {"table": quoted(self.table)}
                condition = (await connection.execute(_READ_CONDITION, table)).scalar_one()
                statement = statement.where(literal_column(as_text(f"({condition})")))
            places = set((await connection.execute(statement)).scalars())
        return [place in places for place in range(len(rows))]

    def _earlier(self, rows: Sequence[str]) -> FromClause:
        """Return the earlier versions as if they were the rows of the table, with their places."""
        table = self._info.table
        if self._builder.infos.dialect == "sqlite":
            sql = sqlite_rows(table, PLACE)
        else:
            sql = (
                f"SELECT place - 1 AS {PLACE}, old.* "  # noqa: S608 - a quoted name
                "FROM jsonb_array_elements(CAST(:rows AS jsonb)) WITH ORDINALITY AS r (item, place)"
                f", jsonb_populate_record(NULL::{quoted(table.name)}, item) AS old"
            )
        selected = text(as_text(sql).replace("\\:rows", ":rows"))
        selected = selected.bindparams(bindparam("rows", f"[{','.join(rows)}]"))
        columns = [column(PLACE, Integer()), *(column(each.name, each.type) for each in table.c)]
        return selected.columns(*columns).subquery(table.name)


class _Moved:
    """Writes expressions of a model for another FROM clause with the columns of its table."""

    def __init__(self, info: ModelInfo[Any], source: FromClause) -> None:
        self._info = info
        self._source = source

    def __call__(self, expression: ColumnElement[bool]) -> ColumnElement[bool]:
        moved: ColumnElement[bool] = replacement_traverse(expression, {}, self._replace)
        return moved

    def _replace(self, element: Any, **_: Any) -> Any:
        if isinstance(element, Column) and element in self._info.name_of:
            return self._source.c[element.name]
        return None


_READ_CONDITION = text("SELECT amphibase.read_condition(CAST(:table AS regclass))")
"""Of the caller of the connection."""


def _key_reader(key: Column[Any], dialect: str) -> Callable[[Any], Any]:
    """Return what makes Python's value of one that the database wrote into JSON."""
    of = _DIALECTS[dialect]
    type_ = key.type.dialect_impl(of)
    if isinstance(type_, TypeDecorator):
        stored = _key_reader(Column(type_.impl_instance), dialect)
        return lambda value: type_.process_result_value(stored(value), of)
    if isinstance(type_, LargeBinary):
        return lambda value: bytes.fromhex(value.removeprefix("\\x"))
    if dialect == "postgresql" and not isinstance(type_, Enum):
        return TypeAdapter(type_.python_type).validate_python
    return type_.result_processor(of, None) or (lambda value: value)


_DIALECTS: dict[str, Dialect] = {
    "sqlite": SQLiteDialect(),
    "postgresql": DIALECT,
}
