"""Opening connections of psycopg, so that a cancelled call leaves none behind."""

import asyncio
from typing import Any

from psycopg import AsyncConnection

_abandoned: set[asyncio.Task[AsyncConnection[Any]]] = set()


async def connect(conninfo: str = "", **parameters: Any) -> AsyncConnection[Any]:
    """Open a connection; when the call is cancelled, what it had begun is completed and closed.

    psycopg leaves it to the garbage collection. Until that runs, the server waits for the rest of
    the handshake, by default for a minute (`authentication_timeout`), and every `DROP DATABASE`
    waits for the server.

    Args:
        conninfo: a URL or a libpq connection string.
        parameters: as `AsyncConnection.connect` takes them.

    Raises:
        psycopg.OperationalError: the server cannot be reached, or rejects the connection.
    """
    connecting = asyncio.ensure_future(AsyncConnection.connect(conninfo, **parameters))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        _abandoned.add(connecting)
        connecting.add_done_callback(_close)
        raise


def _close(connecting: asyncio.Task[AsyncConnection[Any]]) -> None:
    _abandoned.discard(connecting)
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().pgconn.finish()
