"""The outbox of a database: its triggers, who reads it, and until when; see `schema/outbox.sql`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable

from amphibase.database.connecting import connect_session
from amphibase.redaction import redacted_logger
from amphibase.replication.change_source import CONNECT_SECONDS, StreamFailed

logger = redacted_logger("amphibase.replication")

LEASE_SECONDS = 30
"""How long triggers write for a reader that does not come back."""

RENEW_SECONDS = 5.0
"""How often the lease is renewed while triggers are created."""

OPEN_SECONDS = 5.0
CHECK_SECONDS = 1.0
CLOSE_SECONDS = 2.0
"""How long to try to lock tables."""

LOCK_PAUSE_SECONDS = 0.2
"""Between two attempts; whoever has waited behind the first writes meanwhile."""

EXPIRED = "the lease of the outbox was not renewed in time, so that changes may be missing"

_SETTINGS = {"TimeZone": "UTC", "lock_timeout": "5s", "jit": "off"}

# One gateway at a time begins or ends.
_LOCK = "SELECT pg_advisory_lock(hashtext('realtime.outbox'))"
_HAS_READER = """
SELECT EXISTS (SELECT FROM realtime.outbox_readers WHERE expires_at > clock_timestamp())
"""
# Before readers are: what their rows say is then true of the triggers too.
_RENEW = """
SELECT setval('realtime.outbox_lease', greatest(
    last_value, ceil(extract(epoch FROM clock_timestamp()))::bigint + %s
)) FROM realtime.outbox_lease
"""
_END = "SELECT setval('realtime.outbox_lease', 0)"
_ADD_READER = """
INSERT INTO realtime.outbox_readers (id, position, expires_at)
VALUES (%s, pg_current_snapshot(), clock_timestamp() + make_interval(secs => %s))
RETURNING position::text
"""
_RENEW_READER = """
UPDATE realtime.outbox_readers
SET position = %s::pg_snapshot, expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE id = %s AND expires_at > clock_timestamp()
"""
_REMOVE_READER = "DELETE FROM realtime.outbox_readers WHERE id = %s"
_REMOVE_EXPIRED = "DELETE FROM realtime.outbox_readers WHERE expires_at <= clock_timestamp()"
_TRIM = """
DELETE FROM realtime.outbox AS o WHERE NOT EXISTS (
    SELECT FROM realtime.outbox_readers AS r
    WHERE NOT pg_visible_in_snapshot(o.transaction, r.position)
)
"""
_TRIGGERS = "SELECT table_id::oid, table_id::text, is_current FROM realtime.outbox_triggers(NULL)"
_UPDATE_TRIGGER = "SELECT realtime.update_outbox_trigger(%s::oid)"


class _Trigger(NamedTuple):
    """The trigger of a table, which is there or has to be.

    Attributes:
        is_current: whether it is what it has to be.
    """

    table_oid: int
    table: str
    is_current: bool


async def open_connection(url: str, *, reads_outbox: bool = False) -> AsyncConnection[Any]:
    """Open a connection in autocommit.

    Args:
        url: of the database, as a role that owns the outbox.
        reads_outbox: whether it does nothing else, and that by its indexes: of what is deleted the
            table keeps the space, which a look would read again and again.

    Raises:
        psycopg.OperationalError: the server cannot be reached.
    """
    return await connect_session(
        url,
        {**_SETTINGS, "enable_seqscan": "off"} if reads_outbox else _SETTINGS,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        prepare_threshold=1,
    )


async def begin_reading(url: str, id: UUID) -> str:
    """Create the triggers, and add a reader.

    Args:
        url: of the database, as a role that owns the outbox.
        id: of the reader.

    Returns:
        The snapshot that sees no change which the reader has to read.

    Raises:
        StreamFailed: a table cannot have its trigger; says which, and why.
        psycopg.Error: the database cannot be reached, or lacks the outbox.
    """
    async with _one_at_a_time(url) as connection:
        is_read = await _has_reader(connection)
        await connection.execute(_RENEW, [LEASE_SECONDS])
        triggers = await _read_triggers(connection)
        if is_read:
            triggers = [each for each in triggers if not each.is_current]
        # Else also those that were left behind: a transaction may still be open whose changes they
        # did not write down, because nobody read. It has a lock on its tables.
        try:
            if locked := await _update(connection, triggers, OPEN_SECONDS, keeps_lease=True):
                raise StreamFailed(f"the table {locked[0]} is locked by a transaction")
        except StreamFailed:
            await _end_unless_read(connection)
            raise
        cursor = await connection.execute(_ADD_READER, [id, LEASE_SECONDS])
        row = await cursor.fetchone()
        assert row is not None
        position: str = row[0]
        return position


async def renew(connection: AsyncConnection[Any], id: UUID, position: str) -> None:
    """Renew the lease of a reader, delete what all have read, and update the triggers of tables
    that were altered or published.

    Args:
        position: the snapshot whose changes the reader has read.

    Raises:
        StreamFailed: the lease has expired, or a table cannot have its trigger.
        psycopg.Error: the database could not be asked.
    """
    await connection.execute(_RENEW, [LEASE_SECONDS])
    renewed = await connection.execute(_RENEW_READER, [position, LEASE_SECONDS, id])
    if renewed.rowcount == 0:
        raise StreamFailed(EXPIRED)
    await connection.execute(_REMOVE_EXPIRED)
    await connection.execute(_TRIM)
    outdated = [each for each in await _read_triggers(connection) if not each.is_current]
    if locked := await _update(connection, outdated, CHECK_SECONDS):
        logger.warning("Changes of %s are not read yet: a transaction locks it", ", ".join(locked))


async def end_reading(url: str, id: UUID) -> None:
    """Remove a reader and, after the last one, the triggers.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    async with _one_at_a_time(url) as connection:
        await connection.execute(_REMOVE_READER, [id])
        await _end_unless_read(connection)


async def remove_unused(url: str) -> Sequence[str]:
    """Remove the triggers that a process which was killed has left behind.

    Args:
        url: of the database, as a role that owns the outbox.

    Returns:
        The names of the tables that had one.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    async with _one_at_a_time(url) as connection:
        return await _end_unless_read(connection)


async def _end_unless_read(connection: AsyncConnection[Any]) -> Sequence[str]:
    """Remove the triggers, and what they have written; return the names of their tables."""
    await connection.execute(_REMOVE_EXPIRED)
    if await _has_reader(connection):
        return ()
    await connection.execute(_END)
    unused = await _read_triggers(connection)
    await connection.execute(_TRIM)
    try:
        left = await _update(connection, unused, CLOSE_SECONDS)
        reason = "a transaction locks it"
    except StreamFailed as error:
        left, reason = [each.table for each in unused], str(error)
    if left:
        logger.warning(
            "The triggers of Realtime on %s are left, and write nothing: %s. The next start of a "
            "gateway removes them",
            ", ".join(left),
            reason,
        )
    return [each.table for each in unused if each.table not in left]


async def _update(
    connection: AsyncConnection[Any],
    triggers: Iterable[_Trigger],
    seconds: float,
    *,
    keeps_lease: bool = False,
) -> Sequence[str]:
    """Make triggers what they have to be, each in a transaction of its own.

    Args:
        seconds: how long to try.
        keeps_lease: whether to renew the lease meanwhile, for a reader that is not there yet.

    Returns:
        The names of the tables that others lock.

    Raises:
        StreamFailed: a trigger cannot be altered.
    """
    renewed = monotonic()
    end = renewed + seconds
    while True:
        locked = []
        for trigger in triggers:
            if keeps_lease and monotonic() - renewed >= RENEW_SECONDS:
                renewed = monotonic()
                await connection.execute(_RENEW, [LEASE_SECONDS])
            try:
                await connection.execute(_UPDATE_TRIGGER, [trigger.table_oid])
            except LockNotAvailable:
                locked.append(trigger)
            except psycopg.Error as error:
                if connection.closed:
                    raise
                raise StreamFailed(
                    f"the trigger of {trigger.table} cannot be altered: {reason_of(error)}; take "
                    "the table out of the publication, or let the server offer logical replication"
                ) from None
        if not locked or monotonic() >= end:
            return [each.table for each in locked]
        triggers = locked
        await asyncio.sleep(LOCK_PAUSE_SECONDS)


async def _read_triggers(connection: AsyncConnection[Any]) -> Sequence[_Trigger]:
    cursor = await connection.execute(_TRIGGERS)
    return [_Trigger(*row) for row in await cursor.fetchall()]


async def _has_reader(connection: AsyncConnection[Any]) -> bool:
    row = await (await connection.execute(_HAS_READER)).fetchone()
    return bool(row and row[0])


@asynccontextmanager
async def _one_at_a_time(url: str) -> AsyncIterator[AsyncConnection[Any]]:
    async with await open_connection(url) as connection:
        await connection.execute(_LOCK)
        yield connection


def reason_of(error: psycopg.Error) -> str:
    """Return the server's words, or else those of libpq."""
    return error.diag.message_primary or str(error).strip()
