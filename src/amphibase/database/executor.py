"""Who runs what: an executor chooses the connection, and has the database know the caller.

With row level security, the role and the claims of the caller are set for the transaction only: in
the same round trip as the queries, or as the first statement of a transaction for writing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import orjson
import psycopg
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from amphibase.backend import Caller, Isolation
from amphibase.database.compiled import Query, Row
from amphibase.database.connection import Call, Statement
from amphibase.database.engine import Database
from amphibase.database.errors import translate, translated_errors
from amphibase.database.pool import PipelinePool

_BECOME = "select set_config('role', {}, true), set_config('request.jwt.claims', {}, true)"
BECOME_IN_PIPELINE = Statement(_BECOME.format("$1", "$2"))
BECOME = text(_BECOME.format(":role", ":claims"))
BECOME_SERVICE = text("select set_config('role', 'none', true)")


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


class Identities:
    """How the database learns who the caller is.

    Args:
        rls: whether it has to: its policies decide. Else access is a predicate of each statement.
    """

    def __init__(self, rls: bool) -> None:
        self.rls = rls

    def calls(self, caller: Caller) -> tuple[Call, ...]:
        """What goes before the caller's own calls in a pipeline."""
        if not self._is_told(caller):
            return ()
        return (Call(BECOME_IN_PIPELINE, (*_identity(caller).values(),)),)

    async def become(self, caller: Caller, connection: AsyncConnection) -> None:
        """Be the caller until the transaction ends."""
        if self._is_told(caller):
            await connection.execute(BECOME, _identity(caller))

    def accompany(self, caller: Caller, session: AsyncSession) -> None:
        """Be the caller in each transaction that the session begins."""
        if self._is_told(caller):

            @event.listens_for(session.sync_session, "after_begin")
            def become(session: Any, transaction: Any, connection: Connection) -> None:
                connection.execute(BECOME, _identity(caller))

    def _is_told(self, caller: Caller) -> bool:
        # The service is the connection's own user, whom the tables belong to.
        return self.rls and caller.role != "service_role"


def _identity(caller: Caller) -> dict[str, str]:
    claims: dict[str, Any] = {"role": caller.role, **caller.claims}
    if caller.user_id is not None:
        claims["sub"] = str(caller.user_id)
    return {"role": caller.role, "claims": orjson.dumps(claims, default=str).decode()}


class EngineExecutor:
    """Runs everything on the engine."""

    builds_json = False

    def __init__(self, database: Database, identities: Identities) -> None:
        self._database = database
        self._identities = identities

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self.reading(caller) as connection:
            return [await _rows(connection, query) for query in queries]

    @asynccontextmanager
    async def reading(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        async with self._database.read() as connection:
            await self._identities.become(caller, connection)
            yield connection

    @asynccontextmanager
    async def writing(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        async with self._database.write() as connection:
            await self._identities.become(caller, connection)
            yield connection

    def accompany(self, caller: Caller, session: AsyncSession) -> None:
        """Be the caller in each transaction that the session begins."""
        self._identities.accompany(caller, session)

    @asynccontextmanager
    async def transaction(
        self, caller: Caller, isolation: Isolation | None
    ) -> AsyncIterator["TransactionExecutor"]:
        """An executor whose work is committed at the end of the block."""
        async with self._database.write(isolation) as connection:
            await self._identities.become(caller, connection)
            yield TransactionExecutor(connection, caller, self._identities)


class PipelineExecutor(EngineExecutor):
    """Runs queries over libpq's pipeline, one round trip and one implicit transaction each; what
    changes something, on the engine."""

    builds_json = True

    def __init__(self, database: Database, identities: Identities, pool: PipelinePool) -> None:
        super().__init__(database, identities)
        self._pool = pool

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        before = self._identities.calls(caller)
        try:
            results = await self._pool.run(*before, *[query.call() for query in queries])
        except psycopg.Error as error:
            raise translate(error) or error from error
        results = results[len(before) :]
        return [query.plan.rows(rows) for query, rows in zip(queries, results, strict=True)]


class TransactionExecutor:
    """Runs everything on the connection of one transaction, one thing at a time."""

    builds_json = False

    def __init__(self, connection: AsyncConnection, caller: Caller, identities: Identities) -> None:
        self._connection = connection
        self._caller = caller
        self._identities = identities
        self._turn = asyncio.Lock()

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self.writing(caller) as connection:
            if caller.role == self._caller.role or not self._identities.rls:
                return [await _rows(connection, query) for query in queries]
            # What the service alone may read, for the caller's sake. Undoing the savepoint makes
            # the connection the caller's again, however the reading ends.
            async with connection.begin_nested() as savepoint:
                await connection.execute(BECOME_SERVICE)
                found = [await _rows(connection, query) for query in queries]
                await savepoint.rollback()
            return found

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


def build_executor(database: Database, *, rls: bool) -> EngineExecutor:
    """Build the executor for a database.

    Args:
        rls: whether policies of the database decide who sees what.
    """
    identities = Identities(rls)
    if database.pipeline is None:
        return EngineExecutor(database, identities)
    return PipelineExecutor(database, identities, database.pipeline)
