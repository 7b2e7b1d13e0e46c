"""The log of changes in a database: its table, and the triggers that write it.

Whoever changes a row, in whichever process, a trigger writes it down in the same transaction.
Triggers are brought up to date at a start in development and by `amphibase db upgrade`. They are in
no revision, for on SQLite they go with every copy of a table that a revision makes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, MetaData, Table, inspect, text
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from amphibase.models import keeps_changes
from amphibase.records.adoption import mappers_by_table
from amphibase.schema.change_log_functions import (
    PROJECT_FUNCTIONS,
    SqlFunction,
    earlier_rows,
    functions_of,
    missing_functions,
    postgres_log,
)
from amphibase.schema.ddl import literal, quoted, run

TABLE = "amphibase_changes"
"""On SQLite; on Postgres it is `amphibase.changes`."""

TRIGGER = "amphibase_log_change"
TRUNCATE_TRIGGER = "amphibase_log_truncate"

MAX_PAIRS = 50
"""A function of SQLite has 127 arguments at most (its docs, "Limits")."""

SQLITE_LOG = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    changed_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    table_name TEXT NOT NULL,
    operation TEXT NOT NULL,
    key TEXT,
    old TEXT
)"""
"""There is one writer at a time, so the ids are in the order of the commits, without a gap."""


class LogTrigger(NamedTuple):
    """A trigger that logs the changes of a table.

    Attributes:
        statement: creates it.
        arguments: of its function, on Postgres.
    """

    table: str
    name: str
    statement: str
    arguments: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What it is, for messages."""
        return f"trigger {self.name} of {self.table}"


def logged_tables(metadata: MetaData) -> list[Table]:
    """Return the tables whose models keep a log of their changes."""
    return [
        table
        for table, mappers in mappers_by_table().items()
        if table.metadata is metadata and any(keeps_changes(each.class_) for each in mappers)
    ]


def missing(connection: Connection, metadata: MetaData) -> list[LogTrigger | SqlFunction]:
    """Return the triggers that a database does not have, or has for other columns, and the
    functions that it does not have in this version.

    Tables that do not exist yet need none.
    """
    tables = logged_tables(metadata)
    if not tables:
        return []
    existing = {*inspect(connection).get_table_names()}
    needed = [
        trigger
        for table in tables
        if table.name in existing
        for trigger in _triggers(table, connection.dialect.name)
    ]
    present = _present(connection)
    triggers = [trigger for trigger in needed if trigger not in present]
    if connection.dialect.name != "postgresql" or not needed:
        return [*triggers]
    return [*triggers, *missing_functions(connection, functions_of(postgres_log()))]


def create_missing(connection: Connection, metadata: MetaData) -> None:
    """Create the log and what is missing of its triggers and functions, and log that changes may be
    missing."""
    lacking = missing(connection, metadata)
    triggers = [each for each in lacking if isinstance(each, LogTrigger)]
    if not lacking:
        return
    if connection.dialect.name == "postgresql":
        run(connection, postgres_log())
    else:
        run(connection, SQLITE_LOG)
        run(connection, *(f"DROP TRIGGER IF EXISTS {quoted(trigger.name)}" for trigger in triggers))
    run(connection, *(trigger.statement for trigger in triggers))
    log = "amphibase.changes" if connection.dialect.name == "postgresql" else TABLE
    entry = text(f"INSERT INTO {log} (table_name, operation) VALUES (:name, 'TRUNCATE')")  # noqa: S608
    for table in sorted({trigger.table for trigger in triggers}):
        connection.execute(entry, {"name": table})


def project_script(metadata: MetaData) -> str:
    """Return the SQL that creates the log in a Supabase project, and what is called of it over the
    Data API; empty where no model keeps changes."""
    tables = logged_tables(metadata)
    if not tables:
        return ""
    triggers = [trigger for table in tables for trigger in _triggers(table, "postgresql")]
    statements = [f"{trigger.statement};" for trigger in triggers]
    return "\n\n".join([postgres_log().rstrip(), *_project_scripts(metadata), *statements])


def project_functions(metadata: MetaData) -> list[SqlFunction]:
    """Return the functions of a project that are called over the Data API."""
    return [each for script in _project_scripts(metadata) for each in functions_of(script)]


def _project_scripts(metadata: MetaData) -> list[str]:
    tables = logged_tables(metadata)
    return [PROJECT_FUNCTIONS, *map(earlier_rows, tables)] if tables else []


def project_additions(connection: Connection, metadata: MetaData) -> list[str]:
    """Return the SQL that creates what a project does not have of that script, and that logs that
    changes may be missing."""
    lacking = missing(connection, metadata)
    triggers = [each for each in lacking if isinstance(each, LogTrigger)]
    functions = {each for each in lacking if isinstance(each, SqlFunction)}
    functions |= {*missing_functions(connection, project_functions(metadata))}
    scripts = [postgres_log().rstrip(), *_project_scripts(metadata)]
    return [
        *(script for script in scripts if not functions.isdisjoint(functions_of(script))),
        *(f"{trigger.statement};" for trigger in triggers),
        *(
            "INSERT INTO amphibase.changes (table_name, operation) "  # noqa: S608 - a literal
            f"VALUES ({literal(table)}, 'TRUNCATE');"
            for table in sorted({trigger.table for trigger in triggers})
        ),
    ]


def _present(connection: Connection) -> set[LogTrigger]:
    if connection.dialect.name == "postgresql":
        rows = connection.exec_driver_sql(_POSTGRES_TRIGGERS, (TRIGGER, TRUNCATE_TRIGGER))
        arguments = [
            (table, name, tuple(part.decode() for part in raw.split(b"\0")[:-1]))
            for table, name, raw in rows
        ]
        return {
            LogTrigger(table, name, _postgres_statement(name, held), held)
            for table, name, held in arguments
        }
    rows = connection.exec_driver_sql(
        "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger'"
    )
    return {LogTrigger(table, name, statement) for table, name, statement in rows}


def _triggers(table: Table, dialect: str) -> Iterator[LogTrigger]:
    if dialect == "sqlite":
        yield from _sqlite_triggers(table)
        return
    arguments = (table.name, *(column.name for column in table.primary_key))
    for name, held in ((TRIGGER, arguments), (TRUNCATE_TRIGGER, arguments[:1])):
        yield LogTrigger(table.name, name, _postgres_statement(name, held), held)


def _postgres_statement(name: str, arguments: tuple[str, ...]) -> str:
    events, level, function = {
        TRIGGER: ("INSERT OR UPDATE OR DELETE", "ROW", "log_change"),
        TRUNCATE_TRIGGER: ("TRUNCATE", "STATEMENT", "log_truncate"),
    }[name]
    return (
        f"CREATE OR REPLACE TRIGGER {name} AFTER {events} ON {quoted(arguments[0])}\n"
        f"FOR EACH {level} EXECUTE FUNCTION amphibase.{function}"
        f"({', '.join(map(literal, arguments))})"
    )


def _sqlite_triggers(table: Table) -> Iterator[LogTrigger]:
    def entry(operation: str, key_of: str, *, old: bool, where: str = "true") -> str:
        key = ", ".join(_sqlite_key(column, key_of) for column in table.primary_key)
        return (
            f"    INSERT INTO {TABLE} (table_name, operation, key, old)\n"
            f"    SELECT {literal(table.name)}, '{operation}', json_array({key}), "
            f"{_sqlite_row(table) if old else 'NULL'} WHERE {where};\n"
        )

    same = " AND ".join(
        f"OLD.{quoted(column.name)} IS NEW.{quoted(column.name)}" for column in table.primary_key
    )
    bodies = {
        "INSERT": entry("INSERT", "NEW", old=False),
        "UPDATE": entry("UPDATE", "NEW", old=True, where=same)
        + entry("DELETE", "OLD", old=True, where=f"NOT ({same})")
        + entry("INSERT", "NEW", old=False, where=f"NOT ({same})"),
        "DELETE": entry("DELETE", "OLD", old=True),
    }
    for event, body in bodies.items():
        name = f"{TRIGGER}_{event.lower()}_{table.name}"
        statement = (
            f"CREATE TRIGGER {quoted(name)} AFTER {event} ON {quoted(table.name)}\nBEGIN\n{body}END"
        )
        yield LogTrigger(table.name, name, statement)


def _sqlite_key(column: Column[Any], key_of: str) -> str:
    """Return the expression of a part of a key: of bytes the digits, for JSON has no bytes, and of
    a float all of its digits, for SQLite's JSON has 15."""
    name = f"{key_of}.{quoted(column.name)}"
    return (
        f"CASE typeof({name}) WHEN 'blob' THEN hex({name}) "
        f"WHEN 'real' THEN json({_sqlite_real(name)}) ELSE {name} END"
    )


def _sqlite_row(table: Table) -> str:
    """Return the expression of the row before the change, which fails for no value: a float is its
    text, and bytes are left out."""

    def value(column: Column[object]) -> str:
        name = f"OLD.{quoted(column.name)}"
        return (
            f"CASE typeof({name}) WHEN 'blob' THEN NULL WHEN 'real' THEN {_sqlite_real(name)} "
            f"ELSE {name} END"
        )

    pairs = [f"{literal(each.name)}, {value(each)}" for each in table.columns]
    objects = [
        f"json_object({', '.join(pairs[start : start + MAX_PAIRS])})"
        for start in range(0, len(pairs), MAX_PAIRS)
    ]
    if len(objects) == 1:
        return objects[0]
    # No value of them is an object or an array, so the braces at the ends are their own.
    members = " || ',' || ".join(f"trim({each}, '{{}}')" for each in objects)
    return f"'{{' || {members} || '}}'"


def _sqlite_real(name: str) -> str:
    """Return the expression of a float's text, also of infinity, which JSON does not have."""
    return f"replace(quote({name}), 'Inf', '9.0e+999')"


def sqlite_rows(table: Table, place: str) -> str:
    """Return a SELECT of the rows that the parameter `rows` holds, a JSON array of such objects;
    their places in it come first.

    Args:
        place: the name of that column.
    """
    columns = []
    for column in table.columns:
        path = '$."' + column.name.replace('"', '\\"') + '"'
        value = f"json_extract(value, {literal(path)})"
        if column.type.compile(_SQLITE).startswith(_REAL_TYPES):
            value = f"CAST({value} AS NUMERIC)"
        columns.append(f"{value} AS {quoted(column.name)}")
    selected = ", ".join(columns)
    return f"SELECT key AS {place}, {selected} FROM json_each(:rows)"  # noqa: S608 - names


_SQLITE = SQLiteDialect()
_REAL_TYPES = ("FLOAT", "REAL", "DOUBLE", "NUMERIC", "DECIMAL")

_POSTGRES_TRIGGERS = """
SELECT relname::text, tgname::text, tgargs
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgname IN (%s, %s) AND tgenabled <> 'D' AND pg_table_is_visible(tgrelid)
"""
