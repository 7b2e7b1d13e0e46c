"""What sources of changes have in common, by whichever way the database sends them."""

from collections.abc import Container, Iterable, Sequence
from typing import Any, Protocol

from psycopg import AsyncConnection

from amphibase.replication.change import RowChange

CONNECT_SECONDS = 10

PUBLICATIONS = "SELECT pubname FROM pg_catalog.pg_publication"


class StreamFailed(Exception):
    """The stream could not begin, or has ended; says why, without any secret."""


class StreamUnused(StreamFailed):
    """The stream has ended because nobody needs it."""


class ChangeSource(Protocol):
    """What is committed from the moment on at which it was opened.

    Attributes:
        delays_writers: whether it costs those who write, so that it is to end when nobody needs it.
    """

    @property
    def delays_writers(self) -> bool: ...

    async def read(self) -> Sequence[RowChange]:
        """Return the next changes, those of each row in the order of the commits; none where
        nothing was changed.

        Raises:
            StreamFailed: the stream has ended.
        """

    async def check(self, connection: AsyncConnection[Any]) -> None:
        """Do what has to be done every few seconds.

        Args:
            connection: to the same database, in autocommit.

        Raises:
            StreamFailed: the stream has to end; says why.
            psycopg.Error: the database could not be asked.
        """

    def fail(self, error: StreamFailed) -> None:
        """Let whoever reads get an error, now or next."""

    async def close(self) -> None:
        """End the stream, and remove what it has in the database."""


async def check_publications(connection: AsyncConnection[Any], publications: Sequence[str]) -> None:
    """Raise StreamFailed where one of the publications is missing."""
    cursor = await connection.execute(PUBLICATIONS)
    require_publications(publications, {name for (name,) in await cursor.fetchall()})


def require_publications(publications: Iterable[str], present: Container[str]) -> None:
    """Raise StreamFailed, in the server's words, where a publication is not among those present."""
    for publication in publications:
        if publication not in present:
            raise StreamFailed(f'publication "{publication}" does not exist')
