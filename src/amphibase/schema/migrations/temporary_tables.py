"""Creates the tables of models empty and temporary, to see what Postgres makes of definitions.

They have the names of the real ones, and hide them. So an expression that names other tables is
read back as from the real tables, and none of these is locked.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Connection

from amphibase.schema.ddl import DIALECT, literal, quoted, run
from amphibase.schema.migrations.definitions_of_models import enum_of

_SCHEMA = "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()"
_TEMPORARY_FIRST = (
    "SELECT set_config('search_path', 'pg_temp, ' || current_setting('search_path'), true)"
)


@contextmanager
def temporary_tables(
    connection: Connection, names: Iterable[str], columns: Iterable[Column[Any]]
) -> Iterator[str | None]:
    """Create tables, and roll back after the block.

    Args:
        names: of tables that are created, whether they have columns or not.
        columns: which tables have, beside no constraints.

    Yields:
        The name of the schema of the tables; None where there is no table.
    """
    tables: dict[str, dict[str, Column[Any]]] = {name: {} for name in names}
    for column in columns:
        tables.setdefault(column.table.name, {})[column.name] = column
    savepoint = connection.begin_nested()
    try:
        run(connection, _TEMPORARY_FIRST)
        run(connection, *_enums(column for each in tables.values() for column in each.values()))
        for table, by_name in sorted(tables.items()):
            listed = ", ".join(
                f"{quoted(name)} {column.type.compile(DIALECT)}"
                for name, column in sorted(by_name.items())
            )
            run(connection, f"CREATE TEMPORARY TABLE {quoted(table)} ({listed})")
        yield connection.exec_driver_sql(_SCHEMA).scalar()
    finally:
        savepoint.rollback()


def _enums(columns: Iterable[Column[Any]]) -> list[str]:
    """Return the statements that create the types of columns."""
    labels = {
        enum.name: enum.enums
        for column in columns
        if (enum := enum_of(column.type)) is not None and enum.native_enum
    }
    return [
        f"CREATE TYPE pg_temp.{quoted(name)} AS ENUM ({', '.join(map(literal, labels[name]))})"
        for name in sorted(filter(None, labels))
    ]
