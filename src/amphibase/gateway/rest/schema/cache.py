"""Keeps the catalog, and what is planned with it, until the database says that it changed.

A database says so by NOTIFY on the channel `pgrst`; a project's event triggers do after each DDL.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import psycopg

from amphibase.errors import Unavailable
from amphibase.gateway.rest.errors.base import CatalogNotLoaded
from amphibase.gateway.rest.schema.catalog import Catalog
from amphibase.gateway.rest.schema.introspection import read_catalog

logger = logging.getLogger("amphibase.gateway.rest")

CHANNEL = "pgrst"
CONNECT_SECONDS = 10
RETRY_SECONDS = (0.1, 0.5, 1, 2, 5, 10)

Made = TypeVar("Made")


class SchemaCache(Generic[Made]):
    """The catalog, read at the start and after each notification.

    Args:
        conninfo: of the database.
        schemas: the exposed ones.
        make: makes of a catalog what `current` returns.
    """

    def __init__(
        self, conninfo: str, schemas: Sequence[str], make: Callable[[Catalog], Made]
    ) -> None:
        self._conninfo = conninfo
        self._schemas = tuple(schemas)
        self._make = make
        self._made: Made | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> Made:
        """What is made of the catalog as it is. Raises CatalogNotLoaded before there is one."""
        if self._made is None:
            raise CatalogNotLoaded
        return self._made

    async def start(self) -> None:
        """Read the catalog, and listen from now on.

        Raises:
            Unavailable: the database does not answer.
        """
        try:
            connection = await self._connect()
        except psycopg.Error:
            raise Unavailable("The database of the Data API does not answer") from None
        self._task = asyncio.create_task(self._keep(connection))

    async def close(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _connect(self) -> psycopg.AsyncConnection:
        """A connection that listens, the catalog having been read since it does."""
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            prepare_threshold=None,  # rare statements gain nothing
        )
        try:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            await self._read(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _read(self, connection: psycopg.AsyncConnection) -> None:
        self._made = self._make(await read_catalog(connection, self._schemas))

    async def _keep(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            try:
                async with connection:
                    await self._follow(connection)
            except psycopg.Error:
                logger.warning("The connection that listens for changes of the schema is lost")
            connection = await self._reconnect()

    async def _follow(self, connection: psycopg.AsyncConnection) -> None:
        """Read the catalog after each notification; after several at a time, once."""
        while True:
            payloads = [each.payload async for each in connection.notifies(stop_after=1)]
            if not any(payload in ("", "reload schema") for payload in payloads):
                continue
            try:
                await self._read(connection)
            except psycopg.Error:
                raise
            except Exception:  # nothing else would ever read it again
                logger.exception("The catalog cannot be read; the one before is served on")

    async def _reconnect(self) -> psycopg.AsyncConnection:
        attempt = 0
        while True:
            try:
                return await self._connect()
            except psycopg.Error:
                pass
            except Exception:  # nothing else would ever read it again
                logger.exception("The catalog cannot be read; the one before is served on")
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
