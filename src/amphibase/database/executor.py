"""Executors: each chooses the connection for a caller's queries, and impersonates the caller there.

With row level security, that is done in the same round trip as the queries, or by the first
statement of a transaction for writing.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Protocol

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from amphibase.backend import Caller, Isolation
from amphibase.database.caller_roles import CallerRoles
from amphibase.database.compiled import Query
from amphibase.database.engine import Database
from amphibase.database.transaction import TransactionExecutor, fetch_rows, open_transaction
from amphibase.records.values import Row


class Executor(Protocol):
    """Runs statements for a caller."""

    builds_json: bool
    """Whether the database writes rows as JSON on the quickest way."""
    holds_locks: bool
    """Whether a lock on a row is held after its statement: in a transaction."""

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        """Return the rows of each query, all read in one transaction. Raises Unavailable."""

    def reading(self, caller: Caller) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection for more than queries; errors come out as ours."""

    def writing(self, caller: Caller) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection for changes, which are committed at the end of the block."""

    def nested(self) -> AbstractAsyncContextManager[None]:
        """Let an error inside the block undo the block alone."""


class EngineExecutor:
    """Runs everything on the engine."""

    builds_json = False
    holds_locks = False

    def __init__(self, database: Database, roles: CallerRoles) -> None:
        self._database = database
        self._roles = roles

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self.reading(caller) as connection:
            return [await fetch_rows(connection, query) for query in queries]

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

    def nested(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()  # each block of `reading` and `writing` is a transaction of its own

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
    ) -> AsyncIterator[TransactionExecutor]:
        """Open an executor whose work is committed at the end of the block."""
        async with (
            self._database.write(isolation) as connection,
            self.transaction_on(connection, caller) as executor,
        ):
            yield executor

    @asynccontextmanager
    async def transaction_on(
        self, connection: AsyncConnection, caller: Caller
    ) -> AsyncIterator[TransactionExecutor]:
        """Run the block in the transaction of a connection, which its owner commits.

        The rest of that transaction is the caller's; the service's is the connection's own user's.
        """
        await self._roles.impersonate(caller, connection)
        async with open_transaction(connection, caller, self._roles) as executor:
            yield executor
