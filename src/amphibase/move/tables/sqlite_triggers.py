"""Drops triggers of a SQLite database, which switches none off, and creates them again."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing

from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.sqlite import BUSY_SECONDS
from amphibase.move.tables.sqlite_catalog import quoted
from amphibase.schema.change_log import TABLE as LOG
from amphibase.schema.change_log import TRIGGER as LOG_TRIGGER

DROPPED = "trigger dropped"
"""The journal's kind of entries."""

EXISTING = """
    SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid
"""
"""In the order in which they were created, as that is the order in which they are created again."""

LOG_LOST = f"INSERT INTO {LOG} (table_name, operation) VALUES (?, 'TRUNCATE')"
"""Tells streams of changes to read their lists again."""


def drop(target: URL, journal: Journal, triggers: Mapping[TableName, Sequence[str]]) -> None:
    """Drop triggers; their statements are in the journal before."""
    dropped = {(table.name, name) for table, names in triggers.items() for name in names}
    if not dropped:
        return
    with translated_errors(), closing(_connect(target)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        existing = connection.execute(EXISTING).fetchall()
        first = journal.count(DROPPED)
        for number, (name, table, statement) in enumerate(existing, first):
            if (table, name) in dropped:
                entry = {"name": name, "table": table, "statement": statement}
                journal.put(DROPPED, f"{number:06} {name}", entry)
                connection.execute(f"DROP TRIGGER {quoted(name)}")
        connection.execute("COMMIT")


def create(target: URL, journal: Journal) -> None:
    """Create triggers again that the move has dropped, also in a run that was killed.

    Where they log changes, their log says that changes may be missing.
    """
    entries = list(journal.entries(DROPPED))
    if not entries:
        return
    with translated_errors(), closing(_connect(target)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        existing = {name for name, *_ in connection.execute(EXISTING)}
        for _, entry in entries:
            if entry["name"] not in existing and _has_table(connection, entry["table"]):
                connection.execute(entry["statement"])
        logged = {e["table"] for _, e in entries if e["name"].startswith(f"{LOG_TRIGGER}_")}
        for table in sorted(logged) if _has_table(connection, LOG) else ():
            connection.execute(LOG_LOST, (table,))
        connection.execute("COMMIT")
    for key, _ in entries:
        journal.delete(DROPPED, key)


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _connect(target: URL) -> sqlite3.Connection:
    path = target.database or ""
    return sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, uri=path.startswith("file:"))
