"""Keeps the source's application from writing while the last pass reads.

A trigger on each table rejects writes, on connections that are open already too, and of every role.
To create one waits for the transactions that have written to its table; so once all are there, no
write is on its way. The freeze is a lease: the triggers let writes pass when it is not renewed, so
that an application writes again though the move was killed and never run again.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from typing import LiteralString, Protocol

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Composed, Identifier, Literal
from sqlalchemy.engine import URL

from amphibase.database.errors import SQLITE_READ_ONLY, translated_errors
from amphibase.database.url import to_conninfo
from amphibase.errors import Contention, MoveFailed, Retryable
from amphibase.move.catalog import TableName
from amphibase.move.endpoints import Endpoint
from amphibase.move.journal import Journal

LEASE_SECONDS = 60
RENEW_SECONDS = 15
RETRY_AFTER_SECONDS = 10
LOCK_ATTEMPTS = 60
LOCK_WAIT: LiteralString = "SET lock_timeout = '1s'"
"""Whoever waits for a lock holds up all that come after; so it does not wait for long."""

EVENTS = ("INSERT", "UPDATE", "DELETE")
NAME = "amphibase_freeze"
"""Of the schema on Postgres, of the table on SQLite, and of the triggers."""

FUNCTION: LiteralString = """
CREATE OR REPLACE FUNCTION amphibase_freeze.reject_write() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $function$
BEGIN
    IF pg_catalog.clock_timestamp() >= {until} THEN
        RETURN NULL;
    END IF;
    IF coalesce(pg_catalog.current_setting('request.method', true), '') <> '' THEN
        -- PostgREST takes the status and the headers from an error of this state (its docs, "Raise
        -- errors with HTTP status codes").
        RAISE SQLSTATE 'PGRST' USING
            MESSAGE = '{{"code": "25006", "message": "The data is being moved; try again"}}',
            DETAIL = '{{"status": 503, "headers": {{"Retry-After": "{retry_after}"}}}}';
    END IF;
    RAISE SQLSTATE '25006' USING MESSAGE = 'The data is being moved; try again';
END $function$
"""

TRIGGER: LiteralString = """
CREATE OR REPLACE TRIGGER amphibase_freeze BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION amphibase_freeze.reject_write()
"""


class Freezer(Protocol):
    """Rejects writes to tables of a database."""

    async def freeze(self, tables: Sequence[TableName]) -> list[TableName]:
        """Reject writes from the return on, for LEASE_SECONDS.

        Returns:
            The tables that the role may not guard.
        """

    async def renew(self) -> None:
        """Reject them for LEASE_SECONDS more."""

    async def thaw(self, tables: Sequence[TableName]) -> None:
        """Let writes pass, and remove everything; also where there is nothing."""


class PostgresFreezer:
    """Rejects writes on a Postgres, as a role that may create triggers on the tables."""

    def __init__(self, url: URL) -> None:
        self._conninfo = to_conninfo(url)

    async def freeze(self, tables: Sequence[TableName]) -> list[TableName]:
        """Reject writes; see `Freezer`."""
        unguarded = []
        async with self._connected() as connection:
            await connection.execute("CREATE SCHEMA IF NOT EXISTS amphibase_freeze")
            await _replace_function(connection, LEASE_SECONDS)
            for table in await _with_partitions(connection, tables):
                try:
                    await _execute(connection, SQL(TRIGGER).format(table=Identifier(*table)))
                except errors.InsufficientPrivilege:
                    unguarded.append(TableName(*table))
            await _replace_function(connection, LEASE_SECONDS)
        return unguarded

    async def renew(self) -> None:
        """Reject them for longer."""
        async with self._connected() as connection:
            await _replace_function(connection, LEASE_SECONDS)

    async def thaw(self, tables: Sequence[TableName]) -> None:
        """Let writes pass."""
        async with self._connected() as connection:
            cursor = await connection.execute("SELECT to_regnamespace('amphibase_freeze')::text")
            if await cursor.fetchone() == (None,):
                return
            await _replace_function(connection, 0)  # from here on writes pass
            for table in await _with_partitions(connection, tables):
                with suppress(errors.InsufficientPrivilege):
                    await _execute(
                        connection,
                        SQL("DROP TRIGGER IF EXISTS amphibase_freeze ON {}").format(
                            Identifier(*table)
                        ),
                    )
            await _execute(connection, SQL("DROP SCHEMA {} CASCADE").format(Identifier(NAME)))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        with translated_errors():
            connection = await AsyncConnection.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )
            async with connection:
                await connection.execute("SET client_min_messages = warning")
                yield connection


async def _replace_function(connection: AsyncConnection, seconds: int) -> None:
    # A constant in the function and not a row: a transaction with an old snapshot sees it too.
    cursor = await connection.execute(
        "SELECT (clock_timestamp() + make_interval(secs => %s))::text", [seconds]
    )
    row = await cursor.fetchone()
    until = Literal(row[0] if row else None)
    await connection.execute(
        SQL(FUNCTION).format(until=until, retry_after=SQL(str(RETRY_AFTER_SECONDS)))
    )


async def _with_partitions(
    connection: AsyncConnection, tables: Sequence[TableName]
) -> list[tuple[str, str]]:
    """Return the tables that are there, and the partitions, into which one can write too."""
    names: list[tuple[str, str]] = []
    for table in tables:
        cursor = await connection.execute(
            "SELECT nspname::text, relname::text FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE pg_class.oid = to_regclass(%(table)s) OR pg_class.oid IN"
            " (SELECT relid FROM pg_partition_tree(to_regclass(%(table)s))) ORDER BY pg_class.oid",
            {"table": Identifier(table.schema or "public", table.name).as_string(connection)},
        )
        names += await cursor.fetchall()
    return names


async def _execute(connection: AsyncConnection, statement: Composed) -> None:
    await connection.execute(LOCK_WAIT)
    for _ in range(LOCK_ATTEMPTS):
        with suppress(errors.LockNotAvailable, errors.DeadlockDetected):
            await connection.execute(statement)
            return
        await asyncio.sleep(0.2)
    raise Contention("A transaction on the source has been holding its table for a minute")


class SqliteFreezer:
    """Rejects writes on SQLite."""

    def __init__(self, url: URL) -> None:
        self._path = url.database or ""

    async def freeze(self, tables: Sequence[TableName]) -> list[TableName]:
        """Reject writes; see `Freezer`."""
        statements = [f"CREATE TABLE IF NOT EXISTS {NAME} (until REAL NOT NULL)", *_lease()]
        await asyncio.to_thread(self._execute, statements, tables)
        return []

    async def renew(self) -> None:
        """Reject them for longer."""
        await asyncio.to_thread(self._execute, _lease())

    async def thaw(self, tables: Sequence[TableName]) -> None:
        """Let writes pass."""
        names = [f"{NAME}_{event}_{table.name}" for table in tables for event in EVENTS]
        statements = [f"DROP TRIGGER IF EXISTS {_quoted(name)}" for name in names]
        await asyncio.to_thread(self._execute, [*statements, f"DROP TABLE IF EXISTS {NAME}"])

    def _execute(self, statements: Sequence[str], guarded: Sequence[TableName] = ()) -> None:
        with (
            translated_errors(),
            closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as database,
        ):
            database.execute("BEGIN IMMEDIATE")  # waits for the write that is under way
            for statement in statements:
                database.execute(statement)
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            for table in guarded:
                if table.name in names:
                    for event in EVENTS:
                        database.execute(_trigger(event, table.name))
            database.execute("COMMIT")


def _trigger(event: str, table: str) -> str:
    return (
        f"CREATE TRIGGER IF NOT EXISTS {_quoted(f'{NAME}_{event}_{table}')}"  # noqa: S608
        f" BEFORE {event} ON {_quoted(table)}"
        f" WHEN (SELECT until FROM {NAME}) > julianday('now')"
        f" BEGIN SELECT RAISE(ABORT, '{SQLITE_READ_ONLY}'); END"
    )


def _lease() -> list[str]:
    until = f"julianday('now', '+{LEASE_SECONDS} seconds')"
    return [f"DELETE FROM {NAME}", f"INSERT INTO {NAME} VALUES ({until})"]  # noqa: S608


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def build_freezer(endpoint: Endpoint) -> Freezer:
    """Return what freezes a source.

    Raises:
        MoveFailed: a Supabase project is known by its API alone, which cannot do that.
    """
    url = endpoint.database
    if url is None:
        raise MoveFailed(
            "--freeze needs the project's database: plan with --db-url, or set "
            "SOURCE_SUPABASE_DB_URL; or close the application to writes by yourself"
        )
    return PostgresFreezer(url) if url.get_backend_name() == "postgresql" else SqliteFreezer(url)


class Freeze:
    """A freeze that lasts.

    Attributes:
        unguarded: the tables that could still be written to, since the role may not guard them.
        seconds: how long writes were rejected; 0 until it has ended.
    """

    def __init__(self) -> None:
        self.unguarded: list[TableName] = []
        self.seconds = 0.0


@asynccontextmanager
async def frozen(
    endpoint: Endpoint, tables: Sequence[TableName], journal: Journal
) -> AsyncIterator[Freeze]:
    """Reject writes to tables of the source for the block.

    Raises:
        MoveFailed: it is not possible, or the lease ended before the block did.
    """
    freezer = build_freezer(endpoint)
    journal.put("freeze", "tables", [list(table) for table in tables])
    freeze = Freeze()
    began = time.monotonic()
    try:
        freeze.unguarded = await freezer.freeze(tables)
        lease = asyncio.create_task(_keep(freezer))
        try:
            yield freeze
        finally:
            lease.cancel()
            await asyncio.gather(lease, return_exceptions=True)
        if lease.done() and not lease.cancelled():
            lease.result()
    finally:
        await thaw(endpoint, journal)
        freeze.seconds = time.monotonic() - began


async def thaw(endpoint: Endpoint, journal: Journal) -> None:
    """Let the source write again, where this run or one that was killed has frozen it."""
    names = journal.get("freeze", "tables")
    if names is not None:
        await build_freezer(endpoint).thaw([TableName(*name) for name in names])
        journal.delete("freeze", "tables")


async def _keep(freezer: Freezer) -> None:
    """Renew the lease. Raises MoveFailed where that failed until it had ended."""
    ends = time.monotonic() + LEASE_SECONDS
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        began = time.monotonic()
        if began >= ends:
            raise MoveFailed(
                "The freeze of the source could not be renewed and has ended, so that writes may "
                "have been missed; run again"
            )
        with suppress(Retryable):
            await freezer.renew()
            ends = began + LEASE_SECONDS
