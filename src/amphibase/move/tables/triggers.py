"""Keeps triggers of a target's tables from firing for rows that arrive."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL

from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables import postgres_triggers, sqlite_triggers
from amphibase.move.tables.base import TableWriter
from amphibase.move.tables.sqlite import SqliteTables


@asynccontextmanager
async def triggers_off(
    target: URL,
    tables: TableWriter,
    journal: Journal,
    triggers: Mapping[TableName, Sequence[str]],
) -> AsyncIterator[None]:
    """Let triggers skip what a move writes until the block ends; for everybody else they fire.

    Args:
        tables: of the target, by which rows are written.

    Raises:
        MoveFailed: a table belongs to another role, or is locked.
    """
    try:
        if isinstance(tables, SqliteTables):
            sqlite_triggers.record_logs(journal, triggers)
            tables.skip_triggers(name for names in triggers.values() for name in names)
        else:
            await postgres_triggers.switch_off(target, journal, triggers)
        yield
    finally:
        if isinstance(tables, SqliteTables):
            tables.skip_triggers(())
        await restore_triggers(target, journal)


async def restore_triggers(target: URL, journal: Journal) -> None:
    """Put triggers back as they were before this move, also those of a run that was killed."""
    if target.get_backend_name() == "postgresql":
        await postgres_triggers.switch_on(target, journal)
    else:
        sqlite_triggers.log_lost(target, journal)
