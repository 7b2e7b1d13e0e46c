"""Adding many rows: on Postgres as one stream (COPY) or as one array a column, on SQLite as one
statement run again and again."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    Float,
    Insert,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Uuid,
    bindparam,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import JSON, TypeEngine

from amphibase.models import ExactDecimal, UtcDateTime
from amphibase.records.batch import Batch
from amphibase.records.defaults import Defaults
from amphibase.records.model_info import ModelInfo
from amphibase.records.values import Row, are_expressions
from amphibase.schema.ddl import quoted
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.tables_read import expressions_in
from amphibase.sql.records.unseen_rows import fill_in

ROWS_A_STATEMENT = 10_000
ROWS_WORTH_ASKING = 1000
"""The number of rows from which a query for the server's types is worth its round trip."""

TYPES = """
SELECT attname, typname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(%s) AND typnamespace = 'pg_catalog'::regnamespace
"""
BINARY: tuple[tuple[type[TypeEngine[Any]], tuple[str, ...]], ...] = (
    (Boolean, ("bool",)),
    (SmallInteger, ("int2", "int4", "int8")),
    (BigInteger, ("int8",)),
    (Integer, ("int4", "int8")),
    (Float, ("float8",)),
    (String, ("text", "varchar")),
    (Uuid, ("uuid",)),
    (UtcDateTime, ("timestamptz",)),
    (Date, ("date",)),
    (LargeBinary, ("bytea",)),
    (ExactDecimal, ("numeric",)),
    (JSON, ("json", "jsonb")),
)
"""The types that hold every value of ours, bit by bit."""

Values = Mapping[str, Any]


async def insert_many(
    connection: AsyncConnection,
    builder: QueryBuilder,
    batch: Batch[Any],
    *,
    may_copy: bool,
    seen: bool,
) -> None:
    """Add rows; the batch holds them then as they are stored.

    Args:
        builder: of the rows' model and the caller who adds them.
        may_copy: whether the caller may use COPY, which row level security forbids.
        seen: whether the caller may see the rows afterwards. If not, policies let nothing come
            back.

    Raises:
        InvalidValue: a row lacks a value.
    """
    info, defaults = batch.info, Defaults(batch.info)
    on_postgres = connection.dialect.name == "postgresql"
    if not batch:
        return
    row_by_row = not defaults.is_whole or batch.has_expressions
    if row_by_row or (on_postgres and not may_copy and _has_arrays(info)):
        if seen:
            batch.take(await _insert_returning(connection, builder, [*batch.rows()]))
        else:
            await _insert_unseen(connection, builder, batch, defaults)
        return
    defaults.all(batch.columns)
    columns = [*batch.columns.values()]
    if not on_postgres:
        keys = [column.key for column in info.column_of.values()]
        parameters = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        await connection.execute(insert(info.table), parameters)
    elif may_copy:
        await _copy(connection, info, columns, meanwhile=lambda: batch.identities)
    else:
        await _insert_columns(connection, info, columns)


async def _copy(
    connection: AsyncConnection,
    info: ModelInfo[Any],
    columns: Sequence[list[Any]],
    meanwhile: Callable[[], object],
) -> None:
    """Stream rows into the table; the server works on the first while the next are prepared.

    Args:
        meanwhile: what else can be done until the server is through with the last ones.
    """
    dialect = connection.dialect
    table = quoted(info.table.name)
    names = ", ".join(quoted(column.name) for column in info.column_of.values())
    kinds = [column.type.dialect_impl(dialect) for column in info.column_of.values()]
    bind = [kind.bind_processor(dialect) for kind in kinds]
    bound = [
        values if process is None else map(process, values)
        for values, process in zip(columns, bind, strict=True)
    ]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    async with driver.cursor() as cursor:
        types: Sequence[str] = ()
        if len(columns[0]) >= ROWS_WORTH_ASKING:
            await cursor.execute(TYPES, [table])
            types = _binary_types(info, kinds, dict(await cursor.fetchall()))
        options = "(FORMAT BINARY)" if types else ""
        statement = f"COPY {table} ({names}) FROM STDIN {options}"
        async with cursor.copy(statement.encode()) as copy:
            if types:
                copy.set_types(types)
            for row in zip(*bound, strict=True):
                await copy.write_row(row)
            meanwhile()


def _binary_types(
    info: ModelInfo[Any], kinds: Sequence[TypeEngine[Any]], types_of_table: Mapping[str, str]
) -> Sequence[str]:
    """The types to send values as, in binary, which both sides are quicker with; none where a
    column needs text, which Postgres reads as whatever type the column has.

    Args:
        types_of_table: the types of the table's columns, which may not be the model's own.
    """
    types = [types_of_table.get(column.name, "") for column in info.column_of.values()]
    for name, kind, type_ in zip(info.column_of, kinds, types, strict=True):
        holding = next((names for class_, names in BINARY if isinstance(kind, class_)), ())
        if type_ not in holding or not info.is_checked(name):
            return ()
    return types


async def _insert_columns(
    connection: AsyncConnection, info: ModelInfo[Any], columns: Sequence[list[Any]]
) -> None:
    """Add rows as one array a column: few parameters however many rows."""
    arrays = [
        func.unnest(bindparam(f"c{place}", type_=ARRAY(column.type)))
        for place, column in enumerate(info.column_of.values())
    ]
    statement = insert(info.table).from_select(
        [*info.column_of.values()], select(*arrays), include_defaults=False
    )
    for start in range(0, len(columns[0]), ROWS_A_STATEMENT):
        some = {
            f"c{place}": values[start : start + ROWS_A_STATEMENT]
            for place, values in enumerate(columns)
        }
        await connection.execute(statement, some)


async def _insert_unseen(
    connection: AsyncConnection, builder: QueryBuilder, batch: Batch[Any], defaults: Defaults
) -> None:
    """Add rows of which nothing comes back."""
    info = batch.info
    defaults.all(batch.columns)
    await fill_in(connection, info, batch.columns)
    batch.find_unknown()
    for _, expressions, parameters in _alike(info, [*batch.rows()], without=info.not_added):
        await connection.execute(_insert(builder, expressions).inline(), parameters)


async def _insert_returning(
    connection: AsyncConnection, builder: QueryBuilder, rows: Sequence[Values]
) -> Sequence[Row]:
    """Add rows that the database fills in."""
    info = builder.info
    stored: list[Row] = [()] * len(rows)
    for places, expressions, parameters in _alike(info, rows):
        statement = _insert(builder, expressions).returning(
            *info.columns, sort_by_parameter_order=True
        )
        returned = await connection.execute(statement, parameters)
        for place, row in zip(places, returned, strict=True):
            stored[place] = tuple(row)
    return stored


def _insert(builder: QueryBuilder, expressions: Values) -> Insert:
    """Return the statement of rows with these expressions, which read what the caller may see."""
    tables = builder.tables(*expressions_in(expressions.values()))
    return tables.restrict(insert(builder.info.table).values(expressions))


def _has_arrays(info: ModelInfo[Any]) -> bool:
    # An array of arrays is taken apart down to its items.
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return any(
        isinstance(column.type.dialect_impl(dialect), ARRAY) for column in info.column_of.values()
    )


def _alike(
    info: ModelInfo[Any], rows: Sequence[Values], *, without: Container[str] = ()
) -> Iterator[tuple[list[int], Values, list[Values]]]:
    """Yield the places of rows that one statement adds: they have the same columns, and the same
    SQL expressions. With these, and the other values of each row, by the keys of columns.

    Args:
        without: the attributes that are left out.
    """
    groups: dict[Any, tuple[list[int], Values, list[Values]]] = {}
    for place, row in enumerate(rows):
        values = {info.column_of[name].key: row[name] for name in row if name not in without}
        expressions = {key: each for key, each in values.items() if are_expressions(type(each))}
        parameters = {key: each for key, each in values.items() if key not in expressions}
        group = (*values, *((key, id(each)) for key, each in expressions.items()))
        places, _, all_parameters = groups.setdefault(group, ([], expressions, []))
        places.append(place)
        all_parameters.append(parameters)
    yield from groups.values()
