"""A transaction: everything on one connection, until it ends or a statement in it fails."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from amphibase.backend import Caller
from amphibase.database.caller_roles import CallerRoles
from amphibase.database.compiled import Query
from amphibase.database.errors import is_of_driver, translate, translated_errors
from amphibase.database.impersonation import as_connection_user
from amphibase.errors import TransactionClosed
from amphibase.records.values import Row

STATUS = "amphibase_transaction"
"""The execution option that holds a connection's transaction status."""


@dataclass(slots=True)
class TransactionStatus:
    """Whether a transaction can do more.

    Args:
        failure: the error that the database raised first, and no savepoint has undone yet.
        ended: its block was left.
    """

    failure: BaseException | None = None
    ended: bool = False

    def require_open(self) -> None:
        """Raise TransactionClosed where nothing more can be done.

        Postgres aborts a transaction at the first error, and a COMMIT after it is a ROLLBACK.
        SQLite undoes the statement alone; what works there has to work on Postgres too.
        """
        if self.failure is not None:
            first = translate(self.failure)
            if first is None:
                raise TransactionClosed from self.failure
            raise TransactionClosed(
                f"{TransactionClosed.default}. The error was: {first.detail}"
            ) from self.failure
        if self.ended:
            raise TransactionClosed("The transaction has ended: use it inside its block only")


class TransactionExecutor:
    """Runs everything on the connection of one transaction, one thing at a time.

    Attributes:
        session: a SQLAlchemy session on the same connection. Its `commit` sends what is pending and
            ends nothing; what is pending is also sent before each other statement.
    """

    builds_json = False
    holds_locks = True

    def __init__(
        self,
        connection: AsyncConnection,
        caller: Caller,
        roles: CallerRoles,
        status: TransactionStatus,
    ) -> None:
        self._connection = connection
        self._caller = caller
        self._roles = roles
        self._status = status
        self._turn = asyncio.Lock()
        self.session = AsyncSession(
            connection, expire_on_commit=False, join_transaction_mode="rollback_only"
        )
        self.session.info["caller"] = caller

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self.writing(caller) as connection:
            if caller.role == self._caller.role or not self._roles.rls:
                return [await fetch_rows(connection, query) for query in queries]
            # What the service alone may read, for the caller's sake.
            async with as_connection_user(connection):
                return [await fetch_rows(connection, query) for query in queries]

    @asynccontextmanager
    async def reading(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        async with self._statements():  # a stream stays open while other things are done
            yield self._connection

    @asynccontextmanager
    async def writing(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        async with self._turn, self._statements():
            yield self._connection

    @asynccontextmanager
    async def nested(self) -> AsyncIterator[None]:
        """Begin a savepoint, which an error inside the block is undone to."""
        self._status.require_open()
        with translated_errors():
            try:
                async with self.session.begin_nested():
                    await self.session.connection()  # sets the savepoint, which waits for its use
                    yield
                    self._status.require_open()
            finally:
                self._status.failure = None

    async def finish(self) -> None:
        """Send what is pending, before the commit. Raises TransactionClosed."""
        self._status.require_open()
        await self.session.flush()

    @asynccontextmanager
    async def _statements(self) -> AsyncIterator[None]:
        self._status.require_open()
        with translated_errors():
            try:
                if self.session.new or self.session.dirty or self.session.deleted:
                    await self.session.flush()
                yield
            except Exception as error:
                if is_of_driver(error):  # raised below SQLAlchemy, as COPY does
                    self._status.failure = self._status.failure or error
                raise


@asynccontextmanager
async def open_transaction(
    connection: AsyncConnection, caller: Caller, roles: CallerRoles
) -> AsyncIterator[TransactionExecutor]:
    """Run the block on a connection that is in a transaction; its owner commits."""
    status = TransactionStatus()
    connection = await connection.execution_options(**{STATUS: status})
    executor = TransactionExecutor(connection, caller, roles, status)
    try:
        yield executor
        await executor.finish()
    finally:
        status.ended = True
        await executor.session.close()


async def fetch_rows(connection: AsyncConnection, query: Query) -> list[Row]:
    """Return the rows of a query, as tuples."""
    result = await connection.execute(query.select, query.values or None)
    return [tuple(row) for row in result]


@event.listens_for(Engine, "handle_error")
def _note_failure(context: ExceptionContext) -> None:
    if context.connection is None:
        return
    status = context.connection.get_execution_options().get(STATUS)
    if status is not None and isinstance(context.sqlalchemy_exception, DBAPIError):
        status.failure = status.failure or context.sqlalchemy_exception
