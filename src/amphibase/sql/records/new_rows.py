"""Rows as they are to be written, checked against a rule before they are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Interval,
    Select,
    Table,
    Time,
    cast,
    func,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ClauseElement

from amphibase.access.conditions import Always, Condition, Never, implies
from amphibase.errors import ForeignKeyViolation, NotSupported
from amphibase.records.access_policy import AccessPolicy
from amphibase.records.defaults import is_left_to_database, python_default
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.predicates import RowColumns, columns_of, own_columns, row_columns_read
from amphibase.records.values import Row
from amphibase.schema.ddl import quoted
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.tables_read import expressions_in

ROWS_A_CHECK = 100
"""How many different rows one statement checks; SQLite takes 500 parts of a UNION ALL."""

CAST_WHEN_BOUND = JSON, Date, DateTime, Time
"""Types that SQLAlchemy casts on Postgres; on SQLite, a cast to them would make a number."""


async def check_new_row(
    connection: AsyncConnection, builder: QueryBuilder, values: dict[str, Any], *, own: bool
) -> None:
    """Check that a caller may add a row, and sees what it refers to.

    Args:
        values: of the row, by attributes; gets the defaults that this depends on.
        own: whether it is the caller's own.

    Raises:
        Unauthenticated, Forbidden, ForeignKeyViolation, NotSupported: as of `check_new_rows` and
            `check_references`.
    """
    columns = {name: [values.get(name, ABSENT)] for name in builder.info.column_of}
    await check_new_rows(connection, builder, builder.policy.addable(own=own), columns)
    try:
        await check_references(connection, builder, columns)
    finally:
        values |= {name: value for name, (value,) in columns.items() if value is not ABSENT}


async def check_new_rows(
    connection: AsyncConnection,
    builder: QueryBuilder,
    condition: Condition,
    columns: dict[str, list[Any]],
) -> None:
    """Check that a caller may add rows. It is done before they are added, since a row must not
    give the right to add itself.

    Args:
        condition: of new rows, for this caller.
        columns: the values of the rows, by attributes; gets the defaults that the condition reads.

    Raises:
        Unauthenticated, Forbidden: the condition does not hold for one.
        NotSupported: the condition reads a column that the database fills in.
    """
    if isinstance(condition, Always):
        return
    if isinstance(condition, Never):
        builder.policy.deny()
    read = [builder.info.table.c[name] for name in _names_read(condition)]
    names = _fill(builder.info, read, columns)
    rows = _distinct([*zip(*(columns[name] for name in names), strict=True)] or [()])
    if not await _hold(connection, builder, condition, read, rows):
        builder.policy.deny()


async def check_references(
    connection: AsyncConnection, builder: QueryBuilder, columns: dict[str, list[Any]]
) -> None:
    """Check that a caller sees what new rows refer to, or adds it with them. It is done before they
    are added, since a row must not give the right to refer to what it makes visible.

    Args:
        columns: the values of the rows, by attributes; gets the defaults of foreign keys.

    Raises:
        ForeignKeyViolation: the caller does not; the same as of a row that does not exist.
        NotSupported: the database fills in a foreign key.
    """
    info = builder.info
    for reference in builder.policy.references:
        names = _fill(info, reference.columns, columns)
        rows = {*zip(*(columns[name] for name in names), strict=True)}
        if reference.is_of_tree and info.access.declared.add.visible:
            keys = info.attributes(column.name for column in reference.referred)
            rows -= {*zip(*(columns[key] for key in keys), strict=True)}
        some = [row for row in rows if not any(value is None for value in row)]
        if some and not await _hold(connection, builder, reference, reference.columns, some):
            raise ForeignKeyViolation


def _fill(
    info: ModelInfo[Any], read: Sequence[Column[Any]], columns: dict[str, list[Any]]
) -> Sequence[str]:
    """Give rows the defaults of some columns, and return the names of their attributes."""
    names = info.attributes(column.name for column in read)
    number = len(next(iter(columns.values())))
    for name, column in zip(names, read, strict=True):
        columns[name] = _filled(column, columns.get(name, [ABSENT] * number))
    return names


async def _hold(
    connection: AsyncConnection,
    builder: QueryBuilder,
    condition: Condition,
    read: Sequence[Column[Any]],
    rows: Sequence[Row],
) -> bool:
    """Return whether a condition holds for all of some rows.

    Args:
        read: the columns whose values the rows have.
    """
    for start in range(0, len(rows), ROWS_A_CHECK):
        some = rows[start : start + ROWS_A_CHECK]
        tables = builder.tables(*(each for row in some for each in expressions_in(row)))
        new = union_all(*(_selected(read, row) for row in some)).subquery("new_rows")
        admitted = select(func.count()).select_from(new)
        admitted = admitted.where(*tables.where(condition, columns_of(new)))
        result = await connection.execute(tables.restrict(admitted))
        if result.scalar_one() < len(some):
            return False
    return True


def changed_row(changes: Mapping[Column[Any], Any], row: RowColumns = own_columns) -> RowColumns:
    """Return the columns of a row as it will be, for the statement that changes it.

    Args:
        row: the columns as they are.
    """
    values = {column.name: (column, value) for column, value in changes.items()}
    return lambda column: _bound(*values[column.name]) if column.name in values else row(column)


def qualified_columns(table: Table) -> RowColumns:
    """Return the columns of the row that ON CONFLICT meets, whose table is in no FROM that a
    subquery could correlate with."""
    name = quoted(table.name)
    return lambda column: literal_column(f"{name}.{quoted(column.name)}", column.type)


def must_check_new(policy: AccessPolicy, changes: Iterable[Column[Any]]) -> bool:
    """Return whether rows that the caller may change could become such as they may not leave.

    Raises:
        NotSupported: the condition of changed rows reads a column that each change sets anew.
    """
    table, changed = policy.info.table, {column.name for column in changes}
    read = _names_read(policy.changed)
    for column in (table.c[name] for name in read if name not in changed):
        if column.computed is not None or column.onupdate is not None:
            raise NotSupported(
                f"{column} is set anew by each change, so a rule of changed rows cannot read it; "
                "read the columns that it comes from"
            )
    return not implies(policy.changeable, policy.changed) or not changed.isdisjoint(read)


def _names_read(condition: Condition) -> list[str]:
    return sorted({column.name for column in row_columns_read(condition)})


def _selected(columns: Sequence[Column[Any]], row: Row) -> Select[Any]:
    pairs = zip(columns, row, strict=True)
    values = [_bound(column, value).label(column.name) for column, value in pairs]
    return select(literal_column("1").label("amphibase_row"), *values)


def _bound(column: Column[Any], value: Any) -> ColumnElement[Any]:
    for expression in expressions_in([value]):
        return expression  # type: ignore[return-value]
    bound = literal(value, column.type)  # a TypeDecorator may store None as something else
    stored = getattr(column.type, "impl_instance", column.type)
    is_cast = isinstance(stored, CAST_WHEN_BOUND) and not isinstance(column.type, Interval)
    if value is None and not is_cast:
        # Postgres does not know the type of a NULL that is bound.
        return cast(bound, column.type)
    return bound


def _filled(column: Column[Any], values: list[Any]) -> list[Any]:
    if not any(value is ABSENT for value in values):
        return values
    make = _default(column)
    return [make() if value is ABSENT else value for value in values]


def _default(column: Column[Any]) -> Callable[[], Any]:
    """Return what makes the value that a new row gets where it has none, or one expression for all
    rows."""
    if not is_left_to_database(column):
        return python_default(column) or (lambda: None)
    default: Any = column.server_default
    argument = getattr(default, "arg", None) if column.default is None else None
    if isinstance(argument, str):
        argument = cast(literal(argument), column.type)
    if isinstance(argument, ClauseElement):
        return lambda: argument
    raise NotSupported(
        f"{column} is filled in by the database, so a rule of new rows cannot read it; give it a "
        "default in Python"
    )


def _distinct(rows: list[Row]) -> list[Row]:
    try:
        return [*dict.fromkeys(rows)]
    except TypeError:  # a value that cannot be hashed, such as a dictionary
        return rows
