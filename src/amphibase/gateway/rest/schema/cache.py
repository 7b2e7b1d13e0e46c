"""Caches the catalog and what is derived from it until the database notifies of a change.

It does so on the channel `pgrst`, as PostgREST documents it
(https://docs.postgrest.org/en/v14/references/schema_cache.html); a project's event triggers notify
after each DDL statement.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg

from amphibase.database.connecting import connect, connect_session
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway.rest.errors.base import CatalogNotLoaded
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.rest")

CHANNEL = "pgrst"
MARKS = "amphibase_schema_cache"
"""The channel of notifications that say only that those before them were followed."""

RELOADS = ("", "reload schema", "reload config")
CONNECT_SECONDS = 10
RETRY_SECONDS = (0.1, 0.5, 1, 2, 5, 10)
CATCH_UP_SECONDS = 2

OR_UNPREPARED = ", or set PGRST_DB_PREPARED_STATEMENTS=false"

Loaded = TypeVar("Loaded")
Load: TypeAlias = Callable[[psycopg.AsyncConnection], Awaitable[Loaded]]
Notify: TypeAlias = Callable[[str, str], Awaitable[None]]


class SchemaCache(Generic[Loaded]):
    """What is loaded from the catalog, at the start and after each notification.

    Args:
        conninfo: of the database.
        load: reads the catalog and makes of it what `current` returns.
        notify: notifies on a channel with a payload, by another connection.
        needs_session: whether a pooler that keeps no sessions is rejected; else nothing is loaded
            after the start where there is one.
    """

    def __init__(
        self, conninfo: str, load: Load[Loaded], notify: Notify, *, needs_session: bool = True
    ) -> None:
        self._conninfo = conninfo
        self._needs_session = needs_session
        self._listens = True
        self._load = load
        self._notify = notify
        self._loaded: Loaded | None = None
        self._is_current = False
        self._task: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection | None = None
        self._catching_up = asyncio.Lock()
        self._callers = 0
        self._callers_served = 0
        self._mark = ""
        self._marked = asyncio.Event()

    @property
    def current(self) -> Loaded:
        """What was loaded last. Raises CatalogNotLoaded before the first time."""
        if self._loaded is None:
            raise CatalogNotLoaded
        return self._loaded

    @property
    def is_current(self) -> bool:
        """Whether the connection stands, and nothing was notified since `current` was loaded."""
        return self._is_current

    async def caught_up(self) -> Loaded:
        """Return `current` once every notification that was committed before has been followed.

        Postgres delivers notifications in the order of the commits (NOTIFY, "Notes"), so one of our
        own comes after them. Callers at the same time share it. After two seconds, and where the
        database cannot be reached, it is what was loaded last.
        """
        if not self._listens:
            return self.current
        self._callers += 1
        number = self._callers
        async with self._catching_up:
            if number > self._callers_served:
                self._callers_served = self._callers
                self._mark = secrets.token_hex(8)
                self._marked.clear()
                with suppress(psycopg.Error, TimeoutError):
                    async with asyncio.timeout(CATCH_UP_SECONDS):
                        await self._notify(MARKS, self._mark)
                        await self._marked.wait()
        return self.current

    async def start(self) -> None:
        """Load for the first time, and listen from now on.

        Raises:
            Unavailable: the database cannot be reached, or the catalog cannot be read.
            ConfigurationError: a pooler on the way keeps no sessions.
        """
        try:
            connection = await self._connect()
        except psycopg.Error as error:
            if error.sqlstate is None or error.sqlstate.startswith("28"):
                raise Unavailable("The database of the Data API does not answer") from None
            _log(error)  # which names objects of the database, that clients are not to learn of
            raise Unavailable("The database's catalog cannot be read; the log says why") from None
        self._task = asyncio.create_task(self._keep(connection))

    async def close(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._connection is not None:  # a task that never ran has not closed it
            await self._connection.close()

    async def _connect(self) -> psycopg.AsyncConnection:
        """A connection that listens, the catalog having been read since it does."""
        connection = await self._open()
        try:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            await connection.execute(f"LISTEN {MARKS}".encode())
            self._loaded = await self._load(connection)
        except BaseException:
            await connection.close()
            raise
        self._is_current = True
        self._connection = connection
        return connection

    async def _open(self) -> psycopg.AsyncConnection:
        parameters: dict[str, Any] = {
            "autocommit": True,
            "connect_timeout": CONNECT_SECONDS,
            "prepare_threshold": None,  # rare statements gain nothing
        }
        try:
            return await connect_session(self._conninfo, otherwise=OR_UNPREPARED, **parameters)
        except ConfigurationError:
            if self._needs_session:
                raise
        self._listens = False
        logger.warning(
            "The database is behind a pooler in transaction mode: changes of its schema are seen "
            "after a restart"
        )
        return await connect(self._conninfo, **parameters)

    async def _keep(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            try:
                async with connection:
                    await self._follow(connection)
            except psycopg.Error:
                logger.warning("The connection that listens for changes of the schema is lost")
            self._is_current = False
            connection = await self._reconnect()

    async def _follow(self, connection: psycopg.AsyncConnection) -> None:
        """Load after each notification; after several at a time, once."""
        while True:
            is_changed, marks = await _notices(connection)
            if is_changed:
                marks |= await self._reload(connection)
            if self._mark in marks:
                self._marked.set()

    async def _reload(self, connection: psycopg.AsyncConnection) -> set[str]:
        """Load, again and again where the database rejects it: what it lacks may be on its way.

        Returns:
            The marks that came meanwhile.

        Raises:
            psycopg.Error: the connection is lost.
        """
        attempt = 0
        logged = ""
        marks: set[str] = set()
        self._is_current = False
        while True:
            try:
                self._loaded = await self._load(connection)
                self._is_current = True
                return marks
            except Exception as error:
                if connection.closed:
                    raise
                if str(error) != logged:
                    _log(error)
                logged = str(error)
            is_changed, more = await _wait(connection, _delay(attempt))
            marks |= more
            attempt = 0 if is_changed else attempt + 1

    async def _reconnect(self) -> psycopg.AsyncConnection:
        attempt = 0
        while True:
            try:
                return await self._connect()
            except psycopg.OperationalError:
                pass  # the server cannot be reached
            except Exception as error:  # or it would never be read again
                _log(error)
            await asyncio.sleep(_delay(attempt))
            attempt += 1


async def _wait(connection: psycopg.AsyncConnection, seconds: float) -> tuple[bool, set[str]]:
    """Wait until a notification says to load, or for so long; return whether one does, and the
    marks that came."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    is_changed = False
    marks: set[str] = set()
    while not is_changed and (left := end - loop.time()) > 0:
        is_changed, more = await _notices(connection, left)
        marks |= more
    return is_changed, marks


async def _notices(
    connection: psycopg.AsyncConnection, timeout: float | None = None
) -> tuple[bool, set[str]]:
    """Wait for notifications; return whether one says to load, and the marks among them.

    Args:
        timeout: seconds to wait at the most.
    """
    notices = [each async for each in connection.notifies(timeout=timeout, stop_after=1)]
    is_changed = any(each.channel == CHANNEL and each.payload in RELOADS for each in notices)
    return is_changed, {each.payload for each in notices if each.channel == MARKS}


def _delay(attempt: int) -> float:
    """Seconds until the next attempt."""
    return RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]


def _log(error: Exception) -> None:
    message = "The catalog cannot be read, so that requests see the schema as it was: %s"
    if isinstance(error, psycopg.Error | ConfigurationError):
        logger.error(message, error)
    else:
        logger.error(message, error, exc_info=error)
