"""Carries messages between the processes that share a database."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text as sql

from amphibase.database.engine import CONNECT_TIMEOUT_SECONDS, Database
from amphibase.database.errors import translated_errors
from amphibase.database.url import to_conninfo
from amphibase.errors import Unavailable

if TYPE_CHECKING:
    import psycopg

CHANNEL = "amphibase_messages"
TABLE = "amphibase_messages"
POLL_SECONDS = 0.05
MESSAGES_AT_A_TIME = 1000
KEPT_SECONDS = 60
"""On SQLite: how long the slowest process may take to read a message."""
TRIM_SECONDS = 10
PROBE_SECONDS = 15
"""On Postgres: how often a silent connection is tried."""


class PostgresMessages:
    """`NOTIFY` and `LISTEN` on one channel (Postgres's docs, "NOTIFY")."""

    def __init__(self, database: Database) -> None:
        self._url = database.url
        # One round trip: a statement is its own transaction.
        self._engine = database.readers.execution_options(isolation_level="AUTOCOMMIT")

    async def send(self, text: str) -> None:
        """Send a text to all who listen."""
        with translated_errors():
            async with self._engine.connect() as connection:
                await connection.execute(_NOTIFY, {"channel": CHANNEL, "text": text})

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        """Open the stream of texts, on a connection of its own."""
        from amphibase.database.connecting import connect_session  # brings Postgres's driver

        with translated_errors():
            connection = await connect_session(
                to_conninfo(self._url),
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                prepare_threshold=None,
                application_name="amphibase",
            )
            try:
                await connection.execute(f"LISTEN {CHANNEL}".encode())
                async with aclosing(_notifications(connection)) as texts:
                    yield texts
            finally:
                await connection.close()


class SqliteMessages:
    """A table that every process reads on from where it is.

    There is one writer at a time, so the ids are in the order of the commits, without a gap.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sent = asyncio.Event()
        self._has_table = False
        self._trim_at = 0.0

    async def send(self, text: str) -> None:
        """Store a text, and delete those that every process has had the time to read."""
        await self._create_table()
        async with self._database.write() as connection:
            await connection.execute(_INSERT, {"text": text})
            if time.monotonic() >= self._trim_at:
                await connection.execute(_TRIM, {"seconds": KEPT_SECONDS})
                self._trim_at = time.monotonic() + TRIM_SECONDS
        self._sent.set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        """Open the stream of texts."""
        await self._create_table()
        async with self._database.read() as connection:
            last: int = (await connection.execute(_LAST)).scalar_one()
        async with aclosing(self._texts(last)) as texts:
            yield texts

    async def _texts(self, last: int) -> AsyncGenerator[Sequence[str]]:
        while True:
            self._sent.clear()
            async with self._database.read() as connection:
                rows = (await connection.execute(_AFTER, {"last": last})).all()
            if rows:
                if rows[0].id != last + 1:
                    raise Unavailable(f"Messages older than {KEPT_SECONDS} seconds were not read")
                last = rows[-1].id
                yield [row.text for row in rows]
            if len(rows) < MESSAGES_AT_A_TIME:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._sent.wait()

    async def _create_table(self) -> None:
        if not self._has_table:
            async with self._database.write() as connection:
                await connection.execute(_CREATE)
            self._has_table = True


async def _notifications(connection: "psycopg.AsyncConnection") -> AsyncGenerator[Sequence[str]]:
    while True:
        async with aclosing(connection.notifies(timeout=PROBE_SECONDS)) as notifications:
            async for notification in notifications:
                yield [notification.payload]
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await connection.execute("SELECT 1")
        yield ()


def messages_of(database: Database) -> SqliteMessages | PostgresMessages:
    """Return what carries the messages of a database."""
    return SqliteMessages(database) if database.dialect == "sqlite" else PostgresMessages(database)


_NOTIFY = sql("SELECT pg_notify(CAST(:channel AS text), CAST(:text AS text))")
_CREATE = sql(
    f"CREATE TABLE IF NOT EXISTS {TABLE} ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "sent_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)), "
    "text TEXT NOT NULL)"
)
_INSERT = sql(f"INSERT INTO {TABLE} (text) VALUES (:text)")  # noqa: S608 - a constant
_TRIM = sql(
    f"DELETE FROM {TABLE} "  # noqa: S608
    "WHERE sent_at < CAST(strftime('%s', 'now') AS INTEGER) - :seconds"
)
_LAST = sql(f"SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{TABLE}'), 0)")  # noqa: S608
_AFTER = sql(
    f"SELECT id, text FROM {TABLE} WHERE id > :last "  # noqa: S608
    f"ORDER BY id LIMIT {MESSAGES_AT_A_TIME}"
)
