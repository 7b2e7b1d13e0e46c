"""A service from its first request to the end of its last."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import text

from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError


class Lifetime:
    """Opens what a service needs once, and lets its requests end before that is closed.

    Args:
        open: is called again where it failed.
        close: is called when no request is under way.
    """

    def __init__(
        self, open: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]
    ) -> None:
        self._open = open
        self._close = close
        self._starting = asyncio.Lock()
        self._is_started = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Open what is needed, unless that was done. Raises what opening does."""
        if self._is_started:
            return
        async with self._starting:
            if not self._is_started:
                await self._open()
                self._is_started = True

    async def close(self) -> None:
        """Let go of it; requests under way end first."""
        await self._idle.wait()
        await self._close()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is under way."""
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()


async def check_table(database: Database, table: str) -> None:
    """Raises ConfigurationError unless the database has the table."""
    async with database.read() as connection:
        found = await connection.execute(text("SELECT to_regclass(:table)"), {"table": table})
        if found.scalar_one() is None:
            raise ConfigurationError(f"The database has no table {table}")
