"""The lifetime of a service: from its first request to the end of its last."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import text

from amphibase.database.sql_connection import SqlDatabase
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
        """Close it; requests under way end first."""
        await self._idle.wait()
        await self._close()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as under way, for as long as the block runs."""
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()


CALLER_ROLES = ("anon", "authenticated", "service_role")

_RIGHTS = text("""
SELECT
    current_user,
    (
        -- Without to_regclass, which needs a right on the schema.
        SELECT pg_has_role(relowner, 'USAGE')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname || '.' || relname = :table
    ),
    ARRAY(
        SELECT name FROM unnest(CAST(:roles AS text[])) AS name
        WHERE NOT coalesce(pg_has_role(to_regrole(name), 'MEMBER'), false)
    )
""")


async def check_rights(
    database: SqlDatabase, table: str, admin: str, callers: Sequence[str] = ()
) -> None:
    """Check that a service can work as the role that it signs in as.

    Args:
        table: one of those that the service has to own.
        admin: the role that owns them in a project.
        callers: the roles that it has to become.

    Raises:
        ConfigurationError: the table is missing, or a right; says what to grant.
    """
    async with database.read() as connection:
        values = {"table": table, "roles": list(callers)}
        user, owns, apart = (await connection.execute(_RIGHTS, values)).one()
    if owns is None:
        raise ConfigurationError(f"The database has no table {table}")
    if not owns:
        raise ConfigurationError(
            f"The role {user} does not own {table}: connect as {admin}, or GRANT {admin} TO {user}"
        )
    if apart:
        raise ConfigurationError(
            f"The role {user} may not become {', '.join(apart)}: GRANT authenticator TO {user}"
        )
