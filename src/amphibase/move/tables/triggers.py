"""Keeps triggers of a target's tables from firing for rows that arrive."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL

from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables import postgres_triggers, sqlite_triggers


@asynccontextmanager
async def triggers_off(
    target: URL, journal: Journal, triggers: Mapping[TableName, Sequence[str]]
) -> AsyncIterator[None]:
    """Take triggers off until the block ends; what they were is in the journal.

    They are off for everybody.

    Raises:
        MoveFailed: a table belongs to another role, or is locked.
    """
    try:
        if _is_postgres(target):
            await postgres_triggers.switch_off(target, journal, triggers)
        else:
            sqlite_triggers.drop(target, journal, triggers)
        yield
    finally:
        await restore_triggers(target, journal)


async def restore_triggers(target: URL, journal: Journal) -> None:
    """Put triggers back that this move has taken off, also in a run that was killed."""
    if _is_postgres(target):
        await postgres_triggers.switch_on(target, journal)
    else:
        sqlite_triggers.create(target, journal)


def _is_postgres(target: URL) -> bool:
    return target.get_backend_name() == "postgresql"
