"""Opening connections of psycopg, so that a cancelled call leaves none behind."""

import asyncio
from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from psycopg import AsyncConnection, OperationalError

from amphibase.errors import ConfigurationError

NO_SESSIONS = (
    "The database is behind a pooler in transaction mode, which gives a session to whoever comes "
    "next: name the pooler's port for sessions (5432 on Supabase) or the database itself"
)

# A pooler tells its clients other numbers of processes than the server's own. Nothing is set of a
# session that may be somebody else's a moment later.
_OPEN = """
SELECT pid, CASE WHEN pid = %s THEN pg_catalog.num_nonnulls({}) END
FROM pg_catalog.pg_backend_pid() AS pid
"""
_PROCESS = "SELECT pg_catalog.pg_backend_pid()"

_PROBE_SECONDS = 5

_abandoned: set[asyncio.Task[AsyncConnection[Any]]] = set()
_session_poolers: set[tuple[str, int, str, str]] = set()
"""By what a pooler's mode may depend on; it does not change while a process runs."""


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
    return await _uninterrupted(AsyncConnection.connect(conninfo, **parameters))


async def connect_session(
    conninfo: str = "",
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    otherwise: str = "",
    **parameters: Any,
) -> AsyncConnection[Any]:
    """Open a connection that has a session of the server for as long as it is open, as `connect`.

    What is prepared, set or listened to in a session that others get in between is lost or is
    theirs, and a statement that another client has prepared runs in place of one's own.

    Args:
        settings: of the session. By a statement, as poolers reject libpq's `options` or ignore
            them (PgBouncer docs, `ignore_startup_parameters`).
        otherwise: what else to do about a pooler that keeps no sessions, for the message.
        parameters: as `AsyncConnection.connect` takes them.

    Raises:
        ConfigurationError: the pooler on the way gives out sessions for a transaction at a time.
        psycopg.OperationalError: the server cannot be reached, or rejects the connection.
    """
    return await _uninterrupted(_open_session(conninfo, settings, otherwise, parameters))


async def _open_session(
    conninfo: str, settings: Mapping[str, str], otherwise: str, parameters: Mapping[str, Any]
) -> AsyncConnection[Any]:
    connection = await AsyncConnection.connect(conninfo, **parameters)
    autocommit = connection.autocommit
    try:
        await connection.set_autocommit(True)
        is_own = await _set_in_own(connection, settings)
        if not is_own and not await _keeps_sessions(connection, conninfo, parameters):
            raise ConfigurationError(NO_SESSIONS + otherwise)
        if not is_own and settings:
            await connection.execute(f"SELECT {_set(settings)}".encode(), prepare=False)
        await connection.set_autocommit(autocommit)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _set_in_own(connection: AsyncConnection[Any], settings: Mapping[str, str]) -> bool:
    """Set what the session needs where there is no pooler; return whether there is none."""
    query = _OPEN.format(_set(settings)).encode()
    cursor = await connection.execute(query, [connection.info.backend_pid], prepare=False)
    row = await cursor.fetchone()
    assert row is not None
    return bool(row[0] == connection.info.backend_pid)


def _set(settings: Mapping[str, str]) -> str:
    calls = (
        f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in settings.items()
    )
    return ", ".join(calls) or "NULL"


async def _keeps_sessions(
    connection: AsyncConnection[Any], conninfo: str, parameters: Mapping[str, Any]
) -> bool:
    """Whether a pooler gives out sessions for as long as a client is connected.

    Then two connections have two processes of the server, and always the same ones.
    """
    info = connection.info
    pooler = info.host, info.port, info.dbname, info.user
    if pooler in _session_poolers:
        return True
    before = await _process(connection)
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            # In a transaction until it is closed, so that its process is nobody else's.
            async with await AsyncConnection.connect(
                conninfo, **{**parameters, "autocommit": False}
            ) as other:
                if await _process(other) == before or await _process(connection) != before:
                    return False
    except (OperationalError, TimeoutError):  # the pooler has no session left to compare with
        return True
    _session_poolers.add(pooler)
    return True


async def _process(connection: AsyncConnection[Any]) -> int:
    row = await (await connection.execute(_PROCESS, prepare=False)).fetchone()
    assert row is not None
    return int(row[0])


async def _uninterrupted(
    opening: Coroutine[Any, Any, AsyncConnection[Any]],
) -> AsyncConnection[Any]:
    connecting = asyncio.ensure_future(opening)
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
