"""Adding a row, or putting it in the place of one that is there."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    and_,
    insert,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.models import utc_now
from amphibase.records.defaults import Defaults
from amphibase.records.model_info import ABSENT, ModelInfo, index_condition
from amphibase.records.values import Row
from amphibase.sql.records.new_rows import changed_row, must_check_new, qualified_columns
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.tables_read import expressions_in
from amphibase.sql.records.unseen_rows import fill_in

Values = Mapping[str, Any]


async def insert_one(
    connection: AsyncConnection, builder: QueryBuilder, values: Values, *, seen: bool
) -> Row:
    """Add a row.

    Args:
        builder: of the row's model and the caller who adds it.
        seen: whether the caller may see the row afterwards. If not, policies let nothing come
            back.

    Returns:
        The row as stored; ABSENT for what is not known of a row that is not seen.
    """
    info = builder.info
    defaults = Defaults(info)
    if seen:
        statement = insert(info.table).values(_by_column(info, values))
        statement = builder.tables(*expressions_in(values.values())).restrict(statement)
        return tuple((await connection.execute(statement.returning(*info.columns))).one())
    columns = {name: [value] for name, value in zip(info.column_of, defaults(values), strict=True)}
    await fill_in(connection, info, columns)
    row = tuple(value for (value,) in columns.values())
    sent = {name: value for name, value in zip(columns, row, strict=True) if value is not ABSENT}
    for name in info.not_added:
        sent.pop(name, None)
    # Inline: else SQLAlchemy asks for the key by RETURNING.
    statement = insert(info.table).values(_by_column(info, sent)).inline()
    await connection.execute(builder.tables(*expressions_in(row)).restrict(statement))
    return info.readable(row)


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
    statement = dialect.insert(info.table).values(_by_column(info, values))
    tables = builder.tables(*expressions_in(values.values()))
    if changed is not None:
        changes = {
            info.column_of[name]: statement.excluded[info.column_of[name].key] for name in changed
        }
        if info.updated_at is not None:
            changes[info.updated_at] = utc_now()
        if info.deleted_at is not None:
            changes.setdefault(info.deleted_at, None)
        changes |= info.counted_up()
        changes = changes or {keys[0]: keys[0]}  # so that the row comes back
        # A row that was deleted softly comes back, too.
        policy = builder.of(info, with_deleted=True).policy
        there = qualified_columns(info.table)
        deletes = "deleted_at" in changed and values["deleted_at"] is not None
        where = tables.where(policy.replaceable(deletes=deletes), there)
        if must_check_new(policy, changes):
            new = {column: values.get(info.name_of[column], to) for column, to in changes.items()}
            where += tables.where(policy.changed, changed_row(new, there))
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            index_where=condition,
            set_=changes,
            where=and_(*where) if where else None,
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys, index_where=condition)
    statement = tables.restrict(statement)
    row = (await connection.execute(statement.returning(*info.columns))).one_or_none()
    return None if row is None else tuple(row)


def _by_column(info: ModelInfo[Any], values: Values) -> dict[Column[Any], Any]:
    return {info.column_of[name]: value for name, value in values.items()}
