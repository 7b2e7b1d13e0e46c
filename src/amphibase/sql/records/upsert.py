"""Putting a row in the place of one that is there."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Select, and_, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.errors import ForeignKeyViolation
from amphibase.models import utc_now
from amphibase.records.model_info import ModelInfo
from amphibase.records.unique_keys import index_condition
from amphibase.records.values import Row
from amphibase.sql.records.insert import by_column
from amphibase.sql.records.new_rows import (
    changed_row,
    check_new_row,
    must_check_new,
    qualified_columns,
)
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.tables_read import expressions_in

Values = Mapping[str, Any]


async def upsert_one(
    connection: AsyncConnection,
    builder: QueryBuilder,
    values: Values,
    on: Sequence[str],
    changed: Sequence[str] | None,
) -> Row | None:
    """Add a row, or change the one that has the same values of some columns.

    Args:
        builder: of the row's model and the caller who adds it.
        on: the columns, by the names of their attributes.
        changed: the attributes that the row that is there gets from the new one, if the caller may
            change it; None leaves it as it is.

    Returns:
        The row as stored; None where the one that is there was left.
    """
    info = builder.info
    keys = [info.column_of[name] for name in on]
    name = connection.dialect.name
    dialect: Any = sqlite if name == "sqlite" else postgresql
    condition = index_condition(info.unique(on), name)
    statement = dialect.insert(info.table).values(by_column(info, values))
    tables = builder.tables(*expressions_in(values.values()))
    if changed is not None:
        new = {name: statement.excluded[info.column_of[name].key] for name in changed}
        changes = _changes(info, keys[0], new)
        policy = builder.of(info, with_deleted=True).policy
        there = qualified_columns(info.table)
        deletes = "deleted_at" in changed and values["deleted_at"] is not None
        where = tables.where(policy.replaceable(deletes=deletes), there)
        if must_check_new(policy, changes):
            row = {column: values.get(info.name_of[column], to) for column, to in changes.items()}
            where += tables.where(policy.changed, changed_row(row, there))
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            index_where=condition,
            set_=changes,
            where=and_(*where) if where else None,
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys, index_where=condition)
    statement = tables.restrict(statement)
    stored = (await connection.execute(statement.returning(*info.columns))).one_or_none()
    return None if stored is None else tuple(stored)


async def change_existing(
    connection: AsyncConnection,
    builder: QueryBuilder,
    values: Values,
    on: Sequence[str],
    changed: Sequence[str],
) -> Row | None:
    """Change the row that has the same values of some columns, as far as policies let the caller.

    Args:
        on: the columns, by the names of their attributes.
        changed: the attributes that the row gets.

    Returns:
        The row as stored; None where it was left.
    """
    info = builder.info
    keys = [info.column_of[name] for name in on]
    same = [column == values.get(name) for name, column in zip(on, keys, strict=True)]
    condition = index_condition(info.unique(on), connection.dialect.name)
    statement = update(info.table).where(*same, *(() if condition is None else (condition,)))
    changes = _changes(info, keys[0], {name: values[name] for name in changed})
    tables = builder.tables(*expressions_in(changes.values()))
    statement = tables.restrict(statement.values(changes))
    stored = (await connection.execute(statement.returning(*info.columns))).one_or_none()
    return None if stored is None else tuple(stored)


async def existing_row(
    connection: AsyncConnection, builder: QueryBuilder, values: Values, on: Sequence[str]
) -> Row | None:
    """Read the row that has the same values of some columns, as the caller may see it.

    Args:
        on: the columns, by the names of their attributes.
    """
    same = [builder.info.column_of[name] == values.get(name) for name in on]
    statement = builder.visible(builder.info.select, *same)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else tuple(row)


async def check_upserted_row(
    connection: AsyncConnection,
    builder: QueryBuilder,
    values: dict[str, Any],
    on: Sequence[str],
    changed: Sequence[str] | None,
    *,
    own: bool,
) -> None:
    """Check that a caller may add a row, and sees what it refers to or what the row that it meets
    refers to already.

    Args:
        values: of the row, by attributes; gets the defaults that this depends on.
        on, changed: as of `upsert_one`.
        own: whether it is the caller's own.

    Raises:
        Unauthenticated, Forbidden, ForeignKeyViolation, NotSupported: as of `check_new_row`.
    """
    try:
        await check_new_row(connection, builder, values, own=own)
    except ForeignKeyViolation:
        if not await _refers_as_before(connection, builder, values, on, changed):
            raise


async def _refers_as_before(
    connection: AsyncConnection,
    builder: QueryBuilder,
    values: Values,
    on: Sequence[str],
    changed: Sequence[str] | None,
) -> bool:
    """Return whether an upsert meets a row that refers to the same rows already, or that it leaves
    as it is. Only a row counts that the caller may change, or sees where it is left."""
    info = builder.info
    columns = {column.name for each in builder.policy.references for column in each.columns}
    names = {*on, *({*info.attributes(columns)} & {*(changed or ())})}
    same = [info.column_of[name].is_not_distinct_from(values.get(name)) for name in names]
    policy = builder.of(info, with_deleted=True).policy
    tables = builder.tables(*expressions_in(values.values()))
    condition = policy.changeable if changed else policy.readable
    there: Select[Any] = select(literal_column("1")).select_from(info.table).where(*same)
    # Locked: were it gone by then, the upsert would add a row that refers to what is not seen.
    there = there.where(*tables.where(condition)).with_for_update(of=info.table)
    return (await connection.execute(tables.restrict(there))).first() is not None


def _changes(info: ModelInfo[Any], key: Column[Any], new: Values) -> dict[Column[Any], Any]:
    """Return what an upsert sets of a row that is there; one that was deleted softly comes back."""
    changes = by_column(info, new)
    if info.updated_at is not None:
        changes[info.updated_at] = utc_now()
    if info.deleted_at is not None:
        changes.setdefault(info.deleted_at, None)
    changes |= info.counted_up()
    return changes or {key: key}  # so that the row comes back
