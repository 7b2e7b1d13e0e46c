"""Executors: each chooses the connection for a caller's queries, and impersonates the caller there.

With row level security, that is done in the same round trip as the queries, or by the first
statement of a transaction for writing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from amphibase.backend import Caller, Isolation
from amphibase.database.compiled import Query, Row
from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.database.impersonation import Impersonation, as_connection_user, impersonate


class Executor(Protocol):
    """Runs what a caller asks."""

    builds_json: bool
    """Whether the database writes rows as JSON on the quickest way."""

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        """The rows of each query, all read in one transaction. Raises Unavailable."""

    def reading(self, caller: Caller) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for more than queries; errors come out as ours."""

    def writing(self, caller: Caller) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for changes, which are committed at the end of the block."""


class CallerRoles:
    """Decides which callers the database runs transactions of as another role.

    Args:
        rls: whether its policies decide who sees what. Else access is a predicate of each
            statement, and every transaction is the connection's own user's.
    """

    def __init__(self, rls: bool) -> None:
        self.rls = rls

    def impersonation(self, caller: Caller) -> Impersonation | None:
        """Return whom a caller's transaction runs as; None for the connection's own user."""
        # The service is the connection's own user, whom the tables belong to.
        if not self.rls or caller.role == "service_role":
            return None
        claims: dict[str, Any] = {"role": caller.role, **caller.claims}
        if caller.user_id is not None:
            claims["sub"] = str(caller.user_id)
        return Impersonation(caller.role, orjson.dumps(claims, default=str).decode())

    async def impersonate(self, caller: Caller, connection: AsyncConnection) -> None:
        """Run the rest of a transaction as the caller."""
        impersonation = self.impersonation(caller)
        if impersonation is not None:
            await impersonate(connection, impersonation)


class EngineExecutor:
    """Runs everything on the engine."""

    builds_json = False

    def __init__(self, database: Database, roles: CallerRoles) -> None:
        self._database = database
        self._roles = roles

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self.reading(caller) as connection:
            return [await _rows(connection, query) for query in queries]

    @asynccontextmanager
    async def reading(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        async with self._database.read() as connection:
            await self._roles.impersonate(caller, connection)
            yield connection

    @asynccontextmanager
    async def writing(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        async with self._database.write() as connection:
            await self._roles.impersonate(caller, connection)
            yield connection

    def impersonate_in(self, session: AsyncSession, caller: Caller) -> None:
        """Run each transaction that the session begins as the caller."""
        impersonation = self._roles.impersonation(caller)
        if impersonation is not None:

            @event.listens_for(session.sync_session, "after_begin")
            def begin(session: Any, transaction: Any, connection: Connection) -> None:
                impersonation.impersonate(connection)

    @asynccontextmanager
    async def transaction(
        self, caller: Caller, isolation: Isolation | None
    ) -> AsyncIterator["TransactionExecutor"]:
        """An executor whose work is committed at the end of the block."""
        async with self._database.write(isolation) as connection:
            await self._roles.impersonate(caller, connection)
            yield TransactionExecutor(connection, caller, self._roles)


class TransactionExecutor:
    """Runs everything on the connection of one transaction, one thing at a time."""

    builds_json = False

    def __init__(self, connection: AsyncConnection, caller: Caller, roles: CallerRoles) -> None:
        self._connection = connection
        self._caller = caller
        self._roles = roles
        self._turn = asyncio.Lock()

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self.writing(caller) as connection:
            if caller.role == self._caller.role or not self._roles.rls:
                return [await _rows(connection, query) for query in queries]
            # What the service alone may read, for the caller's sake.
            async with as_connection_user(connection):
                return [await _rows(connection, query) for query in queries]

    @asynccontextmanager
    async def reading(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        with translated_errors():  # a stream stays open while other things are done
            yield self._connection

    @asynccontextmanager
    async def writing(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        with translated_errors():
            async with self._turn:
                yield self._connection

    @asynccontextmanager
    async def nested(self) -> AsyncIterator[None]:
        """A savepoint."""
        with translated_errors():
            async with self._connection.begin_nested():
                yield


async def _rows(connection: AsyncConnection, query: Query) -> list[Row]:
    found = await connection.execute(query.select, query.values or None)
    return [tuple(row) for row in found]
