"""Reads the definitions that the tables of models would have in a database.

The tables are created empty and read back, so that another spelling of the same expression is no
difference: on Postgres as temporary tables in a savepoint, on SQLite in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Enum, ForeignKeyConstraint, MetaData, Table, create_engine
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator, TypeEngine

from amphibase.database.sqlite_now import write_full_timestamps
from amphibase.private_names.sqlalchemy import copy_table
from amphibase.schema.ddl import literal, quoted, run
from amphibase.schema.migrations.definitions import Definitions
from amphibase.schema.migrations.definitions_of_database import read_definitions
from amphibase.schema.postgres_indexes import is_of_postgres

_TEMPORARY_SCHEMA = "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()"


def expected_definitions(connection: Connection, tables: Sequence[Table]) -> Definitions:
    """Return the definitions that the tables would have.

    A table that cannot be created, for the user may create no temporary tables or because of what
    the model says, is `unreadable`.
    """
    unreadable: dict[str, str] = {}
    with _empty_database(connection) as database:
        on_postgres = database.dialect.name == "postgresql"
        if on_postgres:
            _create_enums(database, tables, unreadable)
        for table in _without_foreign_keys(tables):
            if table.name not in unreadable:
                _create(database, table, unreadable)
        if on_postgres:
            schema = database.exec_driver_sql(_TEMPORARY_SCHEMA).scalar()
            definitions = read_definitions(database, schema) if schema else Definitions()
        else:
            definitions = read_definitions(database)
    definitions.unreadable = unreadable
    definitions.tables |= {table.name for table in tables}
    return definitions


def native_enums(tables: Iterable[Table]) -> dict[str, list[tuple[Table, str, Enum]]]:
    """Return the columns of each enum type of Postgres, by the type's name.

    Returns:
        For each type: table, name of the column, and the type as the model says it.
    """
    columns: dict[str, list[tuple[Table, str, Enum]]] = {}
    for table in tables:
        for column in table.columns:
            enum = enum_of(column.type)
            if enum is not None and enum.native_enum and enum.name:
                columns.setdefault(enum.name, []).append((table, column.name, enum))
    return columns


def enum_of(kind: TypeEngine[object]) -> Enum | None:
    """Return the enum that a type is, decorates, or is an array of."""
    match kind:
        case Enum():
            return kind
        case ARRAY():
            return enum_of(kind.item_type)
        case TypeDecorator():
            return enum_of(kind.impl_instance)
    return None


@contextmanager
def _empty_database(connection: Connection) -> Iterator[Connection]:
    if connection.dialect.name == "sqlite":
        engine = create_engine("sqlite://")
        write_full_timestamps(engine.dialect)
        try:
            with engine.begin() as database:
                yield database
        finally:
            engine.dispose()
        return
    savepoint = connection.begin_nested()
    try:
        yield connection
    finally:
        savepoint.rollback()


def _without_foreign_keys(tables: Sequence[Table]) -> list[Table]:
    """Copy tables, for Postgres lets temporary ones refer to temporary ones alone."""
    if not tables:
        return []
    copies = MetaData(naming_convention=tables[0].metadata.naming_convention)
    for table in tables:
        copy_table(table, copies)
    for copy in copies.tables.values():
        for constraint in list(copy.constraints):
            if isinstance(constraint, ForeignKeyConstraint):
                copy.constraints.remove(constraint)
    return list(copies.tables.values())


def _create_enums(
    connection: Connection, tables: Sequence[Table], unreadable: dict[str, str]
) -> None:
    for name, columns in native_enums(tables).items():
        labels = ", ".join(map(literal, columns[0][2].enums))
        try:
            with connection.begin_nested():
                run(connection, f"CREATE TYPE pg_temp.{quoted(name)} AS ENUM ({labels})")
        except DBAPIError as error:
            unreadable |= {table.name: _reason(error) for table, _, _ in columns}


def _create(connection: Connection, table: Table, unreadable: dict[str, str]) -> None:
    schemas = dict.fromkeys((None, "auth", "storage"), "pg_temp")
    options = {"schema_translate_map": schemas} if connection.dialect.name == "postgresql" else {}
    try:
        with connection.begin_nested():
            connection.execute(CreateTable(table), execution_options=options)
            for index in table.indexes:
                if connection.dialect.name == "sqlite" and is_of_postgres(index):
                    continue
                connection.execute(CreateIndex(index), execution_options=options)
    except (DBAPIError, CompileError) as error:
        unreadable[table.name] = _reason(error)


def _reason(error: DBAPIError | CompileError) -> str:
    diagnosis = getattr(getattr(error, "orig", None), "diag", None)
    if diagnosis is not None:
        return str(diagnosis.message_primary)
    return str(getattr(error, "orig", error))
