"""One state of a Postgres that several connections read at once."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL
from sqlalchemy.engine import URL

from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.tables.postgres_session import (
    LOCK_SECONDS,
    connect,
    qualified,
    settings_for,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a database at one moment, held by a connection that exported it."""

    url: URL
    name: str
    holder: AsyncConnection

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection, in a transaction that reads this state and ends with the block."""
        connection = await connect(self.url)
        try:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute(SQL("SET TRANSACTION SNAPSHOT {}").format(self.name))
            await connection.execute(settings_for(connection))
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def hold_snapshot(url: URL, tables: Sequence[TableName]) -> AsyncIterator[Snapshot]:
    """Take a snapshot that lasts until the block ends.

    The tables are locked against what a snapshot does not protect from: after a TRUNCATE or a
    rewrite by ALTER TABLE an older snapshot reads no rows (PostgreSQL docs, "Caveats" of MVCC).
    Reading and writing of rows go on.

    Args:
        tables: those that will be read.

    Raises:
        MoveFailed: a table is being changed, or may not be read.
        Unavailable: the server does not respond.
    """
    connection = await connect(url)
    try:
        # The locks first: the snapshot is taken by the first query, and none of these is one.
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute(settings_for(connection))
        await connection.execute(SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_SECONDS}s"))
        for table in tables:
            await _lock(connection, table)
        row = await (await connection.execute("SELECT pg_export_snapshot()")).fetchone()
        assert row is not None
        yield Snapshot(url, row[0], connection)
    finally:
        await connection.close()


async def _lock(connection: AsyncConnection, table: TableName) -> None:
    lock = SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(qualified(table))
    try:
        await connection.execute(lock)
    except errors.LockNotAvailable:
        raise MoveFailed(
            f"{table} is locked, perhaps by a migration; run again when that is done"
        ) from None
    except errors.InsufficientPrivilege:
        raise MoveFailed(f"{table} may not be read; grant SELECT on it to the role") from None
    except errors.UndefinedTable:
        raise MoveFailed(f"{table} is not there any more; plan again") from None
