"""A Postgres that is reached over libpq's pipeline alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.conninfo import make_conninfo
from sqlalchemy import Executable
from sqlalchemy.engine import URL

from amphibase.database.compiled_call import CallCache
from amphibase.database.errors import translated_errors
from amphibase.database.pipeline_connection import (
    PipelineConnection,
    PipelineResult,
    PipelineTransaction,
)
from amphibase.database.pool import PipelinePool
from amphibase.database.sql_connection import Values
from amphibase.database.url import POOLER_PORT, parse_url, to_conninfo


class PipelineDatabase:
    """One Postgres: its pool, and how to begin to read and to write.

    Args:
        url: as `parse_url` takes it.
        size: the most connections that are open at a time.

    Attributes:
        url: of the database.

    Raises:
        ValueError: the URL is not of a supported database.
    """

    def __init__(self, url: str, size: int) -> None:
        self.url: URL = parse_url(url)
        self._pool = PipelinePool(
            make_conninfo(to_conninfo(self.url), fallback_application_name="amphibase"),
            size=size,
            prepare=self.url.port != POOLER_PORT,
        )
        self._calls = CallCache()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[PipelineConnection]:
        """Read, each statement in a transaction of its own and one round trip; errors come out as
        Amphibase's.

        A statement whose connection breaks is sent once more: the block is for what may be
        repeated.
        """
        with translated_errors():
            yield PipelineConnection(self._pool, self._calls, self._pool.run_results)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[PipelineTransaction]:
        """Begin a transaction, committed at the end; errors come out as Amphibase's."""
        with translated_errors():
            async with self._pool.open_transaction() as transaction:
                yield PipelineTransaction(self._pool, self._calls, transaction)

    async def fetch(self, *statements: tuple[Executable, Values]) -> list[PipelineResult]:
        """Read by several statements, each with its values, in one round trip."""
        async with self.read() as connection:
            return await connection.fetch(*statements)

    async def close(self) -> None:
        """Close every connection; one that is in use, as soon as it is given back."""
        await self._pool.close()
