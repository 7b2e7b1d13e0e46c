"""Lets triggers of a Postgres skip the rows of a move, while they fire for everybody else."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.postgres_session import LOCK_SECONDS, MOVING, connect, qualified
from amphibase.schema.change_log import TRIGGER as LOG_TRIGGER

OFF = "trigger off"
"""The journal's kind of entries."""

HEAD = re.compile(r'(?:[^"]|"[^"]*")*? FOR EACH (?:ROW|STATEMENT) (?P<when>WHEN \()?')
"""What `pg_get_triggerdef` writes before a trigger's condition. No literal is in it, only names."""

READ: LiteralString = """
    SELECT tgenabled::text, tgconstraint <> 0, pg_get_triggerdef(oid)
      FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s
"""

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


class TargetTrigger(NamedTuple):
    """A trigger as the database has it.

    Attributes:
        state: a key of `ENABLE`, or that of a trigger which is disabled.
        is_constraint: whether it is a constraint's trigger, which cannot be replaced.
        definition: the statement that creates it.
    """

    state: str
    is_constraint: bool
    definition: str

    @property
    def is_changed(self) -> bool:
        """Whether a move has changed its condition, this one or another."""
        return f"'{MOVING}'" in self.definition


async def switch_off(
    target: URL, journal: Journal, triggers: Mapping[TableName, Sequence[str]]
) -> None:
    """Let triggers skip what a move's connections write; what they were is in the journal before.

    For everybody else they fire. Constraint triggers alone are off for everybody: their condition
    cannot be changed, and only superusers can switch a trigger off for a connection.

    Raises:
        MoveFailed: a table belongs to another role, or is locked, or another move has its triggers,
            or the role may not write to the log of changes.
    """
    await switch_on(target, journal)  # what a run has left that was killed
    with translated_errors():
        connection = await connect(target)
        try:
            for table, names in triggers.items():
                for name in names:
                    await _switch_off(connection, journal, table, name)
        finally:
            await connection.close()


async def switch_on(target: URL, journal: Journal) -> None:
    """Put triggers back that the move has switched off, also in a run that was killed.

    Where one logs changes, its log says that changes may be missing.
    """
    entries = list(journal.entries(OFF))
    if not entries:
        return
    with translated_errors():
        connection = await connect(target)
        try:
            for key, entry in entries:
                await _switch_on(connection, TableName(*entry["table"]), entry)
                journal.delete(OFF, key)
        finally:
            await connection.close()


async def _switch_off(
    connection: AsyncConnection, journal: Journal, table: TableName, name: str
) -> None:
    trigger = await _read(connection, table, name)
    if trigger is None or trigger.state not in ENABLE:  # it is gone, or off already
        return
    if trigger.is_changed:
        raise MoveFailed(
            f"Another move to this database has the trigger {name} of {table}: end that one by "
            f'"amphibase move run" or "undo", or create the trigger again'
        )
    if name == LOG_TRIGGER:
        await _check_log(connection, table)
    key = f"{table} {name}"
    journal.put(OFF, key, {"table": table, "name": name, **trigger._asdict()})
    try:
        if trigger.is_constraint:
            await _alter(connection, table, name, ["DISABLE"])
        else:
            definition = _with_condition(trigger.definition, await _condition(connection))
            await _alter(connection, table, name, _state(trigger.state), definition)
    except MoveFailed:
        journal.delete(OFF, key)
        raise


async def _switch_on(connection: AsyncConnection, table: TableName, entry: dict[str, Any]) -> None:
    name, state = entry["name"], entry["state"]
    trigger = await _read(connection, table, name)
    if trigger is None:
        return
    async with connection.transaction():
        if trigger.is_changed:
            await _alter(connection, table, name, _state(state), entry["definition"])
        elif trigger.is_constraint:
            await _alter(connection, table, name, [ENABLE[state]])
        if name == LOG_TRIGGER:
            await connection.execute(LOG_LOST, _names(connection, table, name))


async def _condition(connection: AsyncConnection) -> str:
    """Return when a trigger fires that skips the rows of a move by this connection's role.

    Anybody may set the setting; it excepts that role alone, which can switch triggers off anyway.
    """
    # The server knows it: a pooler has names of its own.
    row = await (await connection.execute("SELECT session_user::text")).fetchone()
    assert row is not None
    role = Literal(row[0]).as_string(connection)
    return f"(session_user <> {role} OR current_setting('{MOVING}', true) IS DISTINCT FROM 'on')"


def _with_condition(definition: str, condition: str) -> str:
    head = HEAD.match(definition)
    assert head is not None, definition
    rest = definition[head.end() :]
    # Without line breaks, the server puts an operator's expression in parentheses.
    more = f"{condition} AND " if head["when"] else f"WHEN ({condition}) "
    return head[0] + more + rest


def _state(state: str) -> list[str]:
    """Return what follows the replacing of a trigger, which enables it."""
    return [] if state == "O" else [ENABLE[state]]


async def _check_log(connection: AsyncConnection, table: TableName) -> None:
    row = await (await connection.execute(MAY_LOG)).fetchone()
    if row != (True,):
        raise MoveFailed(
            f"The role of the target may not write to amphibase.changes, the log of changes of "
            f'{table}: connect as its owner, or let the trigger {LOG_TRIGGER} "fire" in the plan'
        )


async def _read(connection: AsyncConnection, table: TableName, name: str) -> TargetTrigger | None:
    async with connection.transaction():
        # Only with an empty one do all names in a definition come with their schemas.
        await connection.execute("SET LOCAL search_path = pg_catalog")
        cursor = await connection.execute(READ, _names(connection, table, name))
        row = await cursor.fetchone()
    return None if row is None else TargetTrigger(*row)


def _names(connection: AsyncConnection, table: TableName, name: str) -> tuple[str, str]:
    return qualified(table).as_string(connection), name


async def _alter(
    connection: AsyncConnection,
    table: TableName,
    name: str,
    actions: Sequence[str],
    definition: str = "",
) -> None:
    """Replace a trigger, if by a definition, and switch it off or on."""
    try:
        async with connection.transaction():
            limit = SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_SECONDS}s")
            await connection.execute(limit)
            if definition:
                replace = definition.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1)
                await connection.execute(replace.encode())
            for action in actions:
                alter = SQL("ALTER TABLE {} {} TRIGGER {}").format(
                    qualified(table), SQL(action), Identifier(name)
                )
                await connection.execute(alter)
    except errors.InsufficientPrivilege:
        raise MoveFailed(
            f"{table} of the target belongs to another role, so that its trigger {name} cannot be "
            'switched off; connect as that role, or let it "fire" in the plan'
        ) from None
    except errors.LockNotAvailable:
        raise MoveFailed(
            f"{table} of the target is locked, perhaps by a migration; run again when that is done"
        ) from None
