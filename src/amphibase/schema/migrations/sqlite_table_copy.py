"""Carries over what a table of SQLite has beside its columns, when the table is copied."""

from contextlib import suppress
from dataclasses import dataclass

from alembic.ddl import DefaultImpl
from alembic.operations.batch import ApplyBatchImpl
from sqlalchemy import Connection, Index
from sqlalchemy.exc import OperationalError

from amphibase.errors import ConfigurationError
from amphibase.schema.migrations.sqlite_ddl import ParsedTable


@dataclass(frozen=True, slots=True)
class TableCopy:
    """What the copy of one table has to carry over.

    Args:
        indexes: the statements that create them, by name.
        triggers: the statements that create them, by name.
        new_indexes: those that the revision creates together with its other changes.
        sequence: the last key that AUTOINCREMENT gave, None without it.
        views: those of the database that can be read before the change.
    """

    table: str
    temporary_name: str
    indexes: dict[str, str]
    triggers: dict[str, str]
    new_indexes: tuple[Index, ...]
    sequence: int | None
    views: tuple[str, ...]

    @classmethod
    def of(
        cls, connection: Connection, batch_impl: ApplyBatchImpl, parsed: ParsedTable
    ) -> "TableCopy":
        """Read what has to be carried over, before the new table is created."""
        table = batch_impl.table.name
        return cls(
            table,
            batch_impl.temp_table_name,
            _indexes(connection, batch_impl),
            _statements(connection, "trigger", table),
            tuple(batch_impl.new_indexes.values()),
            _sequence(connection, table) if parsed.autoincrement else None,
            _views(connection),
        )

    def restore(self, connection: Connection, implementation: DefaultImpl) -> None:
        """Restore it on the new table.

        Raises:
            ConfigurationError: an index, trigger or view does not fit the new table.
        """
        if self.sequence is not None:
            _set_sequence(connection, self)
        for kind, statements in (("index", self.indexes), ("trigger", self.triggers)):
            for name, statement in statements.items():
                _run(connection, self.table, f"{kind} {name}", statement)
        for index in self.new_indexes:
            implementation.create_index(index)
        _check_dependents(connection, self)


def quoted_name(name: str) -> str:
    """Return a name as SQL of SQLite."""
    return '"' + name.replace('"', '""') + '"'


def _statements(connection: Connection, kind: str, table: str) -> dict[str, str]:
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master "
        "WHERE type = ? AND lower(tbl_name) = lower(?) AND sql IS NOT NULL",
        (kind, table),
    )
    return {row.name: row.sql for row in rows}


def _indexes(connection: Connection, batch_impl: ApplyBatchImpl) -> dict[str, str]:
    """Return the indexes that stay: not dropped by the revision, nor over a dropped column."""
    table = batch_impl.table
    reflected = {index.name for index in table.indexes}
    columns = {column.name for column in batch_impl.columns.values()}
    statements = {}
    for name, statement in _statements(connection, "index", table.name).items():
        rows = connection.exec_driver_sql("SELECT name FROM pragma_index_info(?)", (name,))
        # None stands for an expression; as on Postgres, an index goes with any of its columns.
        indexed = {column for column in rows.scalars() if column is not None}
        if indexed <= columns and (name in batch_impl.indexes or name not in reflected):
            statements[name] = statement
    return statements


def _sequence(connection: Connection, table: str) -> int | None:
    return connection.exec_driver_sql(
        "SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)
    ).scalar()


def _set_sequence(connection: Connection, copy: TableCopy) -> None:
    connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (copy.table,))
    connection.exec_driver_sql(
        "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (copy.table, copy.sequence)
    )


def _check_dependents(connection: Connection, copy: TableCopy) -> None:
    """Compile triggers and views, which SQLite does not when they are created."""
    if copy.triggers:
        table = quoted_name(copy.table)
        assignments = ", ".join(f"{name} = {name}" for name in _columns(connection, copy.table))
        subject = "trigger " + " or ".join(copy.triggers)
        for statement in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {assignments}",
            f"DELETE FROM {table}",
        ):
            _run(connection, copy.table, subject, f"EXPLAIN {statement}")
    for view in copy.views:
        _run(connection, copy.table, f"view {view}", _explain(view))


def _views(connection: Connection) -> tuple[str, ...]:
    """Return the views that can be read."""
    views = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'view'")
    readable = []
    for view in views.scalars().all():
        with suppress(OperationalError):
            connection.exec_driver_sql(_explain(view))
            readable.append(view)
    return tuple(readable)


def _explain(view: str) -> str:
    return f"EXPLAIN SELECT * FROM {quoted_name(view)}"


def _columns(connection: Connection, table: str) -> list[str]:
    """Return the quoted names of the columns that are not generated."""
    rows = connection.exec_driver_sql(
        "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (table,)
    )
    return [quoted_name(name) for name in rows.scalars()]


def _run(connection: Connection, table: str, subject: str, statement: str) -> None:
    try:
        connection.exec_driver_sql(statement)
    except OperationalError as error:
        raise ConfigurationError(
            f"The {subject} does not fit the changed table {table}, so nothing was changed: "
            f"{error.orig}; drop it in the revision before the change, and create it after"
        ) from error
