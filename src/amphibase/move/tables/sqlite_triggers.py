"""Keeps triggers of a SQLite database from firing for the rows of a move."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.sqlite_catalog import quoted
from amphibase.schema.change_log import TABLE as LOG
from amphibase.schema.change_log import TRIGGER as LOG_TRIGGER

BUSY_SECONDS = 60.0

NOT_LOGGED = "changes not logged"
"""The journal's kind of entries, by the names of tables."""

EXISTING = """
    SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid
"""
"""In the order in which they were created, as that is the order in which they are created again."""

LOG_LOST = f"INSERT INTO {LOG} (table_name, operation) VALUES (?, 'TRUNCATE')"
"""Tells streams of changes to read their lists again."""


@contextmanager
def dropped(connection: sqlite3.Connection, triggers: Collection[str]) -> Iterator[None]:
    """Drop triggers, and create them again as they were when the block ends.

    SQLite switches none off. Others see none of it, and neither does a kill leave anything behind:
    it is all in one transaction.

    Args:
        connection: in a transaction that writes.
        triggers: their names.
    """
    statements = []
    for name, statement in connection.execute(EXISTING).fetchall() if triggers else ():
        if name in triggers:
            connection.execute(f"DROP TRIGGER {quoted(name)}")
            statements.append(statement)
    yield
    for statement in statements:
        connection.execute(statement)


def record_logs(journal: Journal, triggers: Mapping[TableName, Sequence[str]]) -> None:
    """Write down in the journal which tables' changes will not be logged."""
    for table, names in triggers.items():
        if any(name.startswith(f"{LOG_TRIGGER}_") for name in names):
            journal.put(NOT_LOGGED, table.name, True)


def log_lost(target: URL, journal: Journal) -> None:
    """Write to the log of changes that some may be missing, also of a run that was killed."""
    tables = [name for name, _ in journal.entries(NOT_LOGGED)]
    if not tables:
        return
    path = target.database or ""
    with (
        translated_errors(),
        closing(sqlite3.connect(path, BUSY_SECONDS, isolation_level=None)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (LOG,)).fetchone():
            connection.executemany(LOG_LOST, [(name,) for name in tables])
        connection.execute("COMMIT")
    journal.delete_all(NOT_LOGGED)
