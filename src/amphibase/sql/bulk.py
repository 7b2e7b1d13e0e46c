"""Adding many rows: on Postgres as one stream (COPY) or as one array a column, on SQLite as one
statement run again and again."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ARRAY, Column, Integer, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.errors import InvalidValue
from amphibase.sql.plan import Row
from amphibase.sql.policies import quoted
from amphibase.sql.shape import Shape

ROWS_A_STATEMENT = 10_000

Values = Mapping[str, Any]


async def insert_many(
    connection: AsyncConnection, shape: Shape[Any], rows: Iterable[Values], *, may_copy: bool
) -> Sequence[Row]:
    """Add rows; the rows as stored, in the same order.

    Args:
        rows: what each one holds; they are taken one by one, while the database is at work.
        may_copy: whether the caller may use COPY, which row level security forbids.

    Raises:
        InvalidValue: a row lacks a value.
    """
    fill = Filling(shape)
    if not fill.is_whole:
        return await _insert_returning(connection, shape, [*rows])
    whole: list[Row] = []

    def filled() -> Iterator[Row]:
        for values in rows:
            row = fill(values)
            whole.append(row)
            yield row

    if connection.dialect.name != "postgresql":
        keys = [column.key for column in shape.columns]
        given = [dict(zip(keys, row, strict=True)) for row in filled()]
        if given:
            await connection.execute(insert(shape.table), given)
    elif may_copy:
        await _copy(connection, shape, filled())
    elif _has_arrays(shape):
        return await _insert_returning(connection, shape, [*rows])
    else:
        await _insert_columns(connection, shape, filled())
    return whole


class Filling:
    """Gives rows the defaults that Python knows.

    Attributes:
        is_whole: whether the database has nothing to fill in, so that nothing has to come back.
    """

    def __init__(self, shape: Shape[Any]) -> None:
        self._model = shape.model.__name__
        self._defaults = [(name, _default(column)) for name, column in shape.column_of.items()]
        self.is_whole = not any(_left_to_database(column) for column in shape.columns)

    def __call__(self, values: Values) -> Row:
        """A row in the order of the model's columns. Raises InvalidValue."""
        return tuple(
            [
                values[name] if name in values else self._made(name, make)
                for name, make in self._defaults
            ]
        )

    def _made(self, name: str, make: Callable[[], Any] | None) -> Any:
        if make is None:
            raise InvalidValue(f"{name}: a {self._model} needs a value", field=name)
        return make()


def _default(column: Column[Any]) -> Callable[[], Any] | None:
    default: Any = column.default
    if default is not None and default.is_scalar:
        return lambda: default.arg
    if default is not None and default.is_callable:
        return lambda: default.arg(None)
    return (lambda: None) if column.nullable else None


def _left_to_database(column: Column[Any]) -> bool:
    """Whether the value is made by the database, or by SQLAlchemy with the statement at hand."""
    default: Any = column.default
    if default is not None:
        # A function is wrapped, unless it asks for what SQLAlchemy knows of the statement.
        wrapped = default.is_callable and not default.compare_argument(default.arg)
        return not (default.is_scalar or wrapped)
    if column.server_default is not None or column.computed or column.identity:
        return True
    return column.primary_key and isinstance(column.type, Integer)


async def _copy(connection: AsyncConnection, shape: Shape[Any], rows: Iterator[Row]) -> None:
    """Stream rows into the table; the server works on the first while the next are made."""
    dialect = connection.dialect
    columns = ", ".join(quoted(column.name) for column in shape.columns)
    statement = f"COPY {quoted(shape.table.name)} ({columns}) FROM STDIN"
    bind = [
        (place, process)
        for place, column in enumerate(shape.columns)
        if (process := column.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    ]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    async with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            adapted = [*row]
            for place, process in bind:
                adapted[place] = process(adapted[place])
            await copy.write_row(adapted)


async def _insert_columns(
    connection: AsyncConnection, shape: Shape[Any], rows: Iterator[Row]
) -> None:
    """Add rows as one array a column: few parameters however many rows."""
    arrays = [
        func.unnest(bindparam(f"c{place}", type_=ARRAY(column.type)))
        for place, column in enumerate(shape.columns)
    ]
    statement = insert(shape.table).from_select(
        shape.columns, select(*arrays), include_defaults=False
    )
    while some := [*islice(rows, ROWS_A_STATEMENT)]:
        turned = enumerate(zip(*some, strict=True))
        await connection.execute(statement, {f"c{place}": [*column] for place, column in turned})


async def _insert_returning(
    connection: AsyncConnection, shape: Shape[Any], rows: Sequence[Values]
) -> Sequence[Row]:
    """Add rows that the database fills in."""
    stored: list[Row] = [()] * len(rows)
    for places in _alike(rows):
        statement = insert(shape.table).returning(*shape.columns, sort_by_parameter_order=True)
        given = [
            {shape.column_of[name].key: value for name, value in rows[place].items()}
            for place in places
        ]
        found = await connection.execute(statement, given)
        for place, row in zip(places, found, strict=True):
            stored[place] = tuple(row)
    return stored


def _has_arrays(shape: Shape[Any]) -> bool:
    # An array of arrays is taken apart down to its items.
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return any(isinstance(column.type.dialect_impl(dialect), ARRAY) for column in shape.columns)


def _alike(rows: Sequence[Values]) -> list[list[int]]:
    """The places of rows that have the same columns, together."""
    groups: dict[frozenset[str], list[int]] = {}
    for place, values in enumerate(rows):
        groups.setdefault(frozenset(values), []).append(place)
    return [*groups.values()]
