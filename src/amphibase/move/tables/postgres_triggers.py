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
from amphibase.schema.change_log import TRIGGER as LOG_TRIGGER

OFF = "trigger off"
"""The journal's kind of entries."""

STATE: LiteralString = (
    "SELECT tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s"
)

MAY_LOG: LiteralString = "SELECT has_table_privilege('amphibase.changes', 'INSERT')"

LOG_LOST: LiteralString = """
    INSERT INTO amphibase.changes (table_name, operation)
    SELECT convert_from(substring(tgargs FROM 1 FOR position('\\x00'::bytea IN tgargs) - 1),
                        getdatabaseencoding()), 'TRUNCATE'
      FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s
"""
"""Tells streams of changes to read their lists again. The first argument of the trigger is the name
that the log has of the table."""

ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
"""What brings a trigger back into each state that `tgenabled` may be in when it fires."""


async def switch_off(
    target: URL, journal: Journal, triggers: Mapping[TableName, Sequence[str]]
) -> None:
    """Switch triggers off; what they were is in the journal before.

    They are off for everybody, as only superusers can switch them off for a connection alone.

    Raises:
        MoveFailed: a table belongs to another role, or is locked, or the role may not write to the
            log of changes.
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
    """Switch triggers on that the move has switched off, also in a run that was killed.

    Where one logs changes, its log says that changes may be missing.
    """
    entries = list(journal.entries(OFF))
    if not entries:
        return
    with translated_errors():
        connection = await connect(target)
        try:
            for key, entry in entries:
                table, name = TableName(*entry["table"]), entry["name"]
                if await _state(connection, table, name) is not None:
                    async with connection.transaction():
                        await _alter(connection, table, ENABLE[entry["state"]], name)
                        if name == LOG_TRIGGER:
                            await connection.execute(LOG_LOST, _trigger(connection, table, name))
                journal.delete(OFF, key)
        finally:
            await connection.close()


async def _switch_off(
    connection: AsyncConnection, journal: Journal, table: TableName, name: str
) -> None:
    state = await _state(connection, table, name)
    if state not in ENABLE:  # it is off already, or gone
        return
    if name == LOG_TRIGGER:
        await _check_log(connection, table)
    key = f"{table} {name}"
    journal.put(OFF, key, {"table": table, "name": name, "state": state})
    try:
        await _alter(connection, table, "DISABLE", name)
    except MoveFailed:
        journal.delete(OFF, key)
        raise


async def _check_log(connection: AsyncConnection, table: TableName) -> None:
    row = await (await connection.execute(MAY_LOG)).fetchone()
    if row != (True,):
        raise MoveFailed(
            f"The role of the target may not write to amphibase.changes, the log of changes of "
            f'{table}: connect as its owner, or let the trigger {LOG_TRIGGER} "fire" in the plan'
        )


async def _state(connection: AsyncConnection, table: TableName, name: str) -> str | None:
    cursor = await connection.execute(STATE, _trigger(connection, table, name))
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


def _trigger(connection: AsyncConnection, table: TableName, name: str) -> tuple[str, str]:
    return qualified(table).as_string(connection), name


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
