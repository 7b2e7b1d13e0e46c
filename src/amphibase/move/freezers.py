"""What rejects writes to tables of a database: triggers, for as long as a lease lasts."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Any, LiteralString, Protocol

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Composed, Identifier, Literal
from sqlalchemy.engine import URL

from amphibase.database.errors import SQLITE_READ_ONLY, translated_errors
from amphibase.database.url import to_conninfo
from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.endpoints import Endpoint

LEASE_SECONDS = 60
RETRY_AFTER_SECONDS = 10
LOCK_ATTEMPTS = 60
LOCK_WAIT: LiteralString = "SET LOCAL lock_timeout = '1s'"
"""Whoever waits for a lock holds up all that come after; so it does not wait for long. For a
transaction, since a pooler may give the session to somebody else afterwards."""

EVENTS = ("INSERT", "UPDATE", "DELETE")
NAME = "amphibase_freeze"
"""Of the schema on Postgres, of the table on SQLite, and of the triggers."""

FUNCTION: LiteralString = """
CREATE OR REPLACE FUNCTION amphibase_freeze.reject_write() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $function$
BEGIN
    IF pg_catalog.clock_timestamp() >= pg_catalog.to_timestamp({until}) THEN
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

MAY_FREEZE: LiteralString = """
    SELECT quote_ident(current_user), quote_ident(current_database()),
           has_database_privilege(current_database(), 'CREATE')
           OR EXISTS (SELECT FROM pg_namespace
                       WHERE nspname = 'amphibase_freeze' AND has_schema_privilege(oid, 'CREATE')
                         AND has_schema_privilege(oid, 'USAGE'))
"""

HELD = (
    "The source cannot be frozen: a transaction has been holding {} for a minute. End it "
    "(pg_stat_activity has it) and run again"
)
STILL_HELD = (
    "The source takes writes again, but a transaction has been holding {} for a minute, so that "
    "the freeze's trigger, which lets all pass, is still there. Run again once that has ended: "
    "this removes it, and `amphibase move undo` does too"
)

DROP_TRIGGER: LiteralString = "DROP TRIGGER IF EXISTS amphibase_freeze ON {}"

TRIGGER: LiteralString = """
CREATE OR REPLACE TRIGGER amphibase_freeze BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION amphibase_freeze.reject_write()
"""


class Freezer(Protocol):
    """Rejects writes to tables of a database."""

    async def error(self) -> str | None:
        """Return why a freeze would fail, and what to do; None where nothing is known."""

    async def freeze(self, tables: Sequence[TableName]) -> list[TableName]:
        """Reject writes from the return on, for LEASE_SECONDS.

        Returns:
            The tables that the role may not guard.
        """

    async def renew(self) -> bool:
        """Reject them for LEASE_SECONDS more; return whether there is a freeze at all."""

    async def thaw(self, tables: Sequence[TableName]) -> None:
        """Let writes pass, and remove everything; also where there is nothing.

        Raises:
            MoveFailed: writes pass, but a table is held, so that a trigger is still on it.
        """


class PostgresFreezer:
    """Rejects writes on a Postgres, as a role that may create triggers on the tables."""

    def __init__(self, url: URL) -> None:
        self._conninfo = to_conninfo(url)

    async def error(self) -> str | None:
        """Return why a freeze would fail; see `Freezer`."""
        async with self._connected() as connection:
            row: Any = await (await connection.execute(MAY_FREEZE)).fetchone()
        role, database, is_possible = row
        if is_possible:
            return None
        return (
            f"--freeze makes a schema {NAME} on the source, which the role {role} may not: "
            f"GRANT CREATE ON DATABASE {database} TO {role}"
        )

    async def freeze(self, tables: Sequence[TableName]) -> list[TableName]:
        """Reject writes; see `Freezer`."""
        unguarded = []
        async with self._connected() as connection:
            async with _alone(connection):
                if not await _is_there(connection):
                    await connection.execute("CREATE SCHEMA amphibase_freeze")
            await _replace_function(connection, LEASE_SECONDS)
            for table in await _with_partitions(connection, tables):
                try:
                    statement = SQL(TRIGGER).format(table=Identifier(*table))
                    await _execute(connection, TableName(*table), statement, HELD)
                except errors.InsufficientPrivilege:
                    unguarded.append(TableName(*table))
            await _replace_function(connection, LEASE_SECONDS)
        return unguarded

    async def renew(self) -> bool:
        """Reject them for longer."""
        async with self._connected() as connection:
            try:
                await _replace_function(connection, LEASE_SECONDS)
            except errors.InvalidSchemaName:
                return False
        return True

    async def thaw(self, tables: Sequence[TableName]) -> None:
        """Let writes pass."""
        async with self._connected() as connection:
            if not await _is_there(connection):
                return
            await _replace_function(connection, 0)  # from here on writes pass
            for table in await _with_partitions(connection, tables):
                with suppress(errors.InsufficientPrivilege):
                    statement = SQL(DROP_TRIGGER).format(Identifier(*table))
                    await _execute(connection, TableName(*table), statement, STILL_HELD)
            # With the triggers on tables that are not named any more.
            drop = SQL("DROP SCHEMA {} CASCADE").format(Identifier(NAME))
            await _execute(connection, None, drop, STILL_HELD)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        with translated_errors():
            connection = await AsyncConnection.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )
            async with connection:
                yield connection


async def _replace_function(connection: AsyncConnection, seconds: int) -> None:
    # A constant in the function and not a row: a transaction with an old snapshot sees it too. In
    # seconds, as a session may read the text of a time otherwise than this one has written it.
    query = "SELECT (extract(epoch FROM clock_timestamp()) + %s)::float8"
    async with _alone(connection):
        row: Any = await (await connection.execute(query, [seconds])).fetchone()
        function = SQL(FUNCTION).format(
            until=Literal(row[0]), retry_after=SQL(str(RETRY_AFTER_SECONDS))
        )
        await connection.execute(function)


@asynccontextmanager
async def _alone(connection: AsyncConnection) -> AsyncIterator[None]:
    """Begin a transaction that waits for others of its kind: of two that change the function at the
    same time, the server ends one with an error."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('amphibase_freeze'))")
        yield


async def _is_there(connection: AsyncConnection) -> bool:
    cursor = await connection.execute("SELECT to_regnamespace('amphibase_freeze') IS NOT NULL")
    return await cursor.fetchone() == (True,)


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


async def _execute(
    connection: AsyncConnection, table: TableName | None, statement: Composed, message: str
) -> None:
    """Run a statement that locks a table, again and again while somebody else holds it.

    Args:
        message: of the error, with a place for the table.
    """
    for _ in range(LOCK_ATTEMPTS):
        with suppress(errors.LockNotAvailable, errors.DeadlockDetected):
            async with _alone(connection):
                await connection.execute(LOCK_WAIT)
                await connection.execute(statement)
            return
        await asyncio.sleep(0.2)
    raise MoveFailed(message.format("a table" if table is None else table))


class SqliteFreezer:
    """Rejects writes on SQLite."""

    def __init__(self, url: URL) -> None:
        self._path = url.database or ""

    async def error(self) -> str | None:
        """Return None: who may write to the file may freeze it."""
        return None

    async def freeze(self, tables: Sequence[TableName]) -> list[TableName]:
        """Reject writes; see `Freezer`."""
        statements = [f"CREATE TABLE IF NOT EXISTS {NAME} (until REAL NOT NULL)", *_lease()]
        await asyncio.to_thread(self._execute, statements, tables)
        return []

    async def renew(self) -> bool:
        """Reject them for longer."""
        return await asyncio.to_thread(self._renew)

    async def thaw(self, tables: Sequence[TableName]) -> None:
        """Let writes pass."""
        names = [f"{NAME}_{event}_{table.name}" for table in tables for event in EVENTS]
        statements = [f"DROP TRIGGER IF EXISTS {_quoted(name)}" for name in names]
        await asyncio.to_thread(self._execute, [*statements, f"DROP TABLE IF EXISTS {NAME}"])

    def _execute(self, statements: Sequence[str], guarded: Sequence[TableName] = ()) -> None:
        with self._writing() as database:
            for statement in statements:
                database.execute(statement)
            names = _names(database)
            for table in guarded:
                if table.name in names:
                    for event in EVENTS:
                        database.execute(_trigger(event, table.name))

    def _renew(self) -> bool:
        with self._writing() as database:
            if NAME not in _names(database):
                return False
            for statement in _lease():
                database.execute(statement)
        return True

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with (
            translated_errors(),
            closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as database,
        ):
            database.execute("BEGIN IMMEDIATE")  # waits for the write that is under way
            yield database
            database.execute("COMMIT")


def _names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


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
