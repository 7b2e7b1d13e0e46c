"""Gives the timestamps of SQLite tables that exist the form that `func.now()` has now."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Table
from sqlalchemy.sql.functions import now

from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.sqlite_impl import without_reflection_warnings
from amphibase.schema.migrations.sqlite_table_copy import quoted_name

WHOLE_SECONDS = "____-__-__ __:__:__"
"""What CURRENT_TIMESTAMP writes, as a pattern of LIKE."""


def correct_timestamps(connection: Connection, chains: Sequence[Chain]) -> None:
    """Replace the default CURRENT_TIMESTAMP of the tables that exist, and the values it wrote.

    SQLAlchemy does not find a value of whole seconds by equality (`database/sqlite_now.py`). Only
    columns whose model has the default `func.now()` are changed.
    """
    if connection.dialect.name != "sqlite":
        return
    for chain in chains:
        for table in chain.metadata.sorted_tables:
            if chain.owns(table) and (columns := _outdated_columns(connection, table)):
                _rewrite_values(connection, table.name, columns)
                operations = Operations(chain.context(connection))
                with without_reflection_warnings(), operations.batch_alter_table(table.name) as to:
                    for column in columns:
                        to.alter_column(column, server_default=sa.func.now())


def _outdated_columns(connection: Connection, table: Table) -> list[str]:
    rows = connection.exec_driver_sql(
        "SELECT name FROM pragma_table_info(?) "
        "WHERE upper(trim(dflt_value, '() ')) = 'CURRENT_TIMESTAMP'",
        (table.name,),
    )
    return [name for (name,) in rows if name in table.c and _is_now(table.c[name])]


def _is_now(column: Column[object]) -> bool:
    return isinstance(getattr(column.server_default, "arg", None), now)


def _rewrite_values(connection: Connection, table: str, columns: Sequence[str]) -> None:
    stored = sa.table(table, *(sa.column(column, sa.Text()) for column in columns))
    with _without_triggers(connection, table):
        for column in stored.c:
            connection.execute(
                sa.update(stored)
                .where(column.like(WHOLE_SECONDS))
                .values({column: column + ".000000"})
            )


@contextmanager
def _without_triggers(connection: Connection, table: str) -> Iterator[None]:
    """Keep the table's triggers from taking a rewritten value for a change of the row."""
    triggers = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)",
        (table,),
    ).all()
    for name, _ in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {quoted_name(name)}")
    yield
    for _, sql in triggers:
        connection.exec_driver_sql(sql)
