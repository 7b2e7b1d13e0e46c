"""Switches triggers of a Postgres off and on again."""

from collections.abc import Mapping, Sequence
from typing import LiteralString

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.postgres_session import LOCK_SECONDS, connect, qualified

OFF = "trigger off"
"""The journal's kind of entries."""

STATE: LiteralString = (
    "SELECT tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s"
)

ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
"""What brings a trigger back into each state that `tgenabled` may be in when it fires."""


async def switch_off(
    target: URL, journal: Journal, triggers: Mapping[TableName, Sequence[str]]
) -> None:
    """Switch triggers off; what they were is in the journal before.

    They are off for everybody, as only superusers can switch them off for a connection alone.

    Raises:
        MoveFailed: a table belongs to another role, or is locked.
    """
    with translated_errors():
        connection = await connect(target)
        try:
            for table, names in triggers.items():
                for name in names:
                    await _switch_off(connection, journal, table, name)
        finally:
            await connection.close()


async def switch_on(target: URL, journal: Journal) -> None:
    """Switch triggers on that the move has switched off, also in a run that was killed."""
    entries = list(journal.entries(OFF))
    if not entries:
        return
    with translated_errors():
        connection = await connect(target)
        try:
            for key, entry in entries:
                table, name = TableName(*entry["table"]), entry["name"]
                if await _state(connection, table, name) is not None:
                    await _alter(connection, table, ENABLE[entry["state"]], name)
                journal.delete(OFF, key)
        finally:
            await connection.close()


async def _switch_off(
    connection: AsyncConnection, journal: Journal, table: TableName, name: str
) -> None:
    state = await _state(connection, table, name)
    if state not in ENABLE:  # it is off already, or gone
        return
    key = f"{table} {name}"
    journal.put(OFF, key, {"table": table, "name": name, "state": state})
    try:
        await _alter(connection, table, "DISABLE", name)
    except MoveFailed:
        journal.delete(OFF, key)
        raise


async def _state(connection: AsyncConnection, table: TableName, name: str) -> str | None:
    values = (qualified(table).as_string(connection), name)
    row = await (await connection.execute(STATE, values)).fetchone()
    return None if row is None else str(row[0])


async def _alter(
    connection: AsyncConnection, table: TableName, action: LiteralString, name: str
) -> None:
    alter = SQL("ALTER TABLE {} " + action + " TRIGGER {}")
    try:
        async with connection.transaction():
            limit = SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_SECONDS}s")
            await connection.execute(limit)
            await connection.execute(alter.format(qualified(table), Identifier(name)))
    except errors.InsufficientPrivilege:
        raise MoveFailed(
            f"{table} of the target belongs to another role, so that its trigger {name} cannot be "
            'switched off; connect as that role, or let it "fire" in the plan'
        ) from None
    except errors.LockNotAvailable:
        raise MoveFailed(
            f"{table} of the target is locked, perhaps by a migration; run again when that is done"
        ) from None
