"""The hot path to Postgres: a pool of connections in pipeline mode, one round trip a run.

psycopg opens the connections, adapts the values and sends the cancel requests; all else talks to
libpq directly (`connection.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.adapt import Transformer

from amphibase.backend import Isolation
from amphibase.database.adapters import strict_context
from amphibase.database.connecting import connect, connect_session
from amphibase.database.connection import CANCEL_LIMIT, Connection, ConnectionLost
from amphibase.database.pool_transaction import PoolTransaction
from amphibase.database.session_settings import SESSION_SETTINGS, set_locally
from amphibase.database.statement import Call, Statement

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Cells: TypeAlias = tuple[bytes | None, ...]
"""A row's values as the server wrote them."""

RunInTransaction: TypeAlias = Callable[..., Awaitable[list[list[Cells]]]]


class PoolTimeout(psycopg.OperationalError):
    """No connection was free in time."""


class PoolClosed(psycopg.OperationalError):
    """The pool was closed."""


class PipelinePool:
    """A pool of pipeline-mode connections to one Postgres, bound to one event loop.

    Args:
        conninfo: A `postgresql://` URL or a libpq connection string.
        size: The most connections open at a time; they are opened as they are needed.
        prepare: Whether statements are prepared and cached. Turn it off behind a pooler in
            transaction mode: the session's settings then travel with every run.
        connect_timeout: Seconds to wait for a new connection.
        acquire_timeout: Seconds to wait for a free connection while all are busy.
        statement_timeout: Seconds after which the server cancels a statement; `None` leaves the
            server's own limit.
        session_settings: What each connection sets of its session.
        otherwise: As `connect_session` takes it.

    Raises:
        psycopg.ProgrammingError: `conninfo` cannot be parsed. The message never quotes it.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        size: int = 20,
        prepare: bool = True,
        connect_timeout: float = 10,
        acquire_timeout: float = 10,
        statement_timeout: float | None = None,
        session_settings: Mapping[str, str] = SESSION_SETTINGS,
        otherwise: str = "",
    ) -> None:
        self._size = size
        self._prepare = prepare
        self._connect_timeout = connect_timeout
        self._acquire_timeout = acquire_timeout
        self._params = _parse(conninfo) | {"client_encoding": "UTF8"}
        settings = dict(session_settings)
        if statement_timeout is not None:
            settings["statement_timeout"] = str(round(statement_timeout * 1000))
        self._session_settings = settings
        self._otherwise = otherwise
        self._preamble: list[Call] = []
        if settings and not prepare:
            self._preamble.append(Call(Statement(set_locally(settings))))
        # Only for reading: without a connection it gives every timestamptz in UTC.
        self._transformer = Transformer(strict_context())
        self._schema_version = 0
        self._taken = 0  # connections open, being opened, and promised to a waiter
        self._idle: list[Connection] = []
        # Who waits for a connection, in turn, with the loop's time until which; one timer for all.
        self._waiters: OrderedDict[asyncio.Future[Connection | None], float] = OrderedDict()
        self._rejection: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def run(self, *calls: Call) -> list[list[tuple[Any, ...]]]:
        """Run the calls in one implicit transaction and one round trip.

        For reads and idempotent calls only: when a pooled connection breaks before it gave the
        first result, all calls are sent once more on another, and whether the first sending took
        effect is then unknown. Settings local to the transaction (a role, claims) end
        with it; a call must not change the session's.

        Args:
            calls: Run in order; the first one to fail undoes all.

        Returns:
            The rows of each call, in the calls' order; none for a command that returns no rows.

        Raises:
            psycopg.Error: The server rejected a call: the class of its SQLSTATE, with `diag`. Or a
                value cannot be adapted or loaded (`ProgrammingError`, `DataError`).
            PoolTimeout: No connection was free in time.
            psycopg.OperationalError: None could be opened, or it broke.
        """
        return self.load(await self._results(calls, again=True))

    async def run_results(self, *calls: Call) -> list[PGresult]:
        """Run calls as `run` does, and return what libpq does."""
        return await self._results(calls, again=True)

    async def run_raw(self, *calls: Call, again: bool, skip: int = 0) -> list[list[Cells]]:
        """Run calls as `run` does, but leave the values the bytes that the server wrote.

        Args:
            skip: how many of the first calls have rows that nobody reads; these are left out.
            again: Whether the calls may be sent once more where nobody knows what became of the
                first sending. What was never sent is sent again in any case.
        """
        return [_cells(result) for result in (await self._results(calls, again=again))[skip:]]

    @asynccontextmanager
    async def transaction(
        self, isolation: Isolation | None = None
    ) -> AsyncIterator[RunInTransaction]:
        """Begin a transaction as `open_transaction` does, of which nothing is prepared.

        The block gets a function that runs calls as `run_raw` does.
        """
        async with self.open_transaction(isolation, prepare=False) as transaction:

            async def run(*calls: Call) -> list[list[Cells]]:
                return [_cells(result) for result in await transaction.run(*calls)]

            yield run

    @asynccontextmanager
    async def open_transaction(
        self, isolation: Isolation | None = None, *, prepare: bool = True
    ) -> AsyncIterator[PoolTransaction]:
        """Begin a transaction of several round trips, where what one brings decides the next.

        At the block's end the transaction is committed, or rolled back if the block raises.

        Args:
            isolation: `None` leaves the server's own level.
            prepare: Whether its statements come again, and are prepared where the pool's are.

        Raises:
            psycopg.Error: As from `run`.
        """
        connection = await self._acquire_alive()
        start = f"begin isolation level {isolation}" if isolation else "begin"
        begin = (Call(Statement(start)), *self._preamble)
        transaction = PoolTransaction(connection, begin, prepare=prepare)
        try:
            yield transaction
            await transaction.commit()
        except asyncio.CancelledError:
            self._abandon_later(connection)  # which ends the transaction with the connection
            raise
        except BaseException:
            if transaction.is_begun:
                await self._roll_back(connection)
            else:
                self._release(connection)
            raise
        self._release(connection)

    async def _roll_back(self, connection: Connection) -> None:
        try:
            if not connection.closed:
                await connection.run((Call(Statement("rollback")),), prepare=False)
        except psycopg.Error:
            pass  # the connection is lost, and the transaction with it
        except BaseException:
            self._drop(connection)
            raise
        if not connection.closed:
            self._release(connection)

    async def _acquire_alive(self) -> Connection:
        """A connection that the server has not hung up on."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                break
        else:
            connection = await self._acquire()
        self._check_schema_version(connection)
        return connection

    def _check_schema_version(self, connection: Connection) -> None:
        if connection.schema_version != self._schema_version:
            connection.forget_statements(self._schema_version)

    async def _results(self, calls: Sequence[Call], *, again: bool) -> list[PGresult]:
        sent = (*self._preamble, *calls)
        reconnect = True
        while True:
            connection = self._idle.pop() if self._idle else await self._acquire()
            self._check_schema_version(connection)
            try:
                results = await connection.run(sent)
            except asyncio.CancelledError:
                self._abandon_later(connection)
                raise
            except ConnectionLost as lost:
                if connection.runs == 1 or not reconnect or not (again or lost.unsent):
                    raise
                # Whatever ended this one, such as a restart, has likely ended the idle ones too.
                reconnect = False
                for idle in tuple(self._idle):
                    self._drop(idle)
                continue
            except BaseException:
                self._release(connection)
                raise
            self._release(connection)
            return results[len(self._preamble) :]

    def forget_statements(self) -> None:
        """Have every connection prepare its statements anew, after a change of the schema.

        A prepared statement keeps the types that its parameters had, so that one of a column whose
        type has changed would fail, or compare as the old type.
        """
        self._schema_version += 1

    async def close(self) -> None:
        """Close the idle connections and reject new runs; runs under way end on their own."""
        self._closed = True
        if self._rejection is not None:
            self._rejection.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(PoolClosed("the pool is closed"))
        for connection in tuple(self._idle):
            self._drop(connection)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def load(self, results: Sequence[PGresult]) -> list[list[tuple[Any, ...]]]:
        """Read the rows of results. Raises psycopg.Error where a value cannot be loaded."""
        transformer = self._transformer
        rows = []
        try:
            for result in results:
                transformer.set_pgresult(result)
                rows.append(transformer.load_rows(0, result.ntuples, tuple))
        finally:
            transformer.set_pgresult(None)  # or it would keep the last result in memory
        return rows

    async def _acquire(self) -> Connection:
        if self._closed:
            raise PoolClosed("the pool is closed")
        if self._taken < self._size:
            self._taken += 1
        elif connection := await self._wait():
            return connection
        try:
            return await self._connect()
        except BaseException:
            self._release(None)
            raise

    async def _wait(self) -> Connection | None:
        loop = self._loop
        if loop is None:  # asked for once, since it takes a system call (getpid) each time
            loop = self._loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiters[waiter] = end = loop.time() + self._acquire_timeout
        if self._rejection is None:
            self._rejection = loop.call_at(end, self._reject_late, loop)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and not waiter.exception():
                self._release(waiter.result())  # served in the turn of the loop it gave up in
            raise
        finally:
            del self._waiters[waiter]

    def _reject_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reject the requests that have waited too long, and schedule the next check."""
        self._rejection = None
        limit, size = self._acquire_timeout, self._size
        message = f"no connection free within {limit:g} s, all {size} in use"
        for waiter, end in self._waiters.items():
            if end > loop.time():
                self._rejection = loop.call_at(end, self._reject_late, loop)
                break
            if not waiter.done():
                waiter.set_exception(PoolTimeout(message))

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                if self._prepare:
                    session = await connect_session(
                        settings=self._session_settings, otherwise=self._otherwise, **self._params
                    )
                else:
                    session = await connect(**self._params)
            return Connection(session, self._prepare, on_lost=self._drop)
        except TimeoutError:
            reason = f"no connection to Postgres within {self._connect_timeout:g} s"
        except psycopg.Error as error:
            reason = str(error)
        # Not psycopg's own exception, nor chained to it: its `pgconn` carries the password.
        raise psycopg.OperationalError(reason)

    def _release(self, connection: Connection | None) -> None:
        """Pass on a connection, or as `None` the right to open one."""
        if connection and (self._closed or not connection.clean):
            self._drop(connection)
        elif self._waiters and (waiter := self._first_waiter()):
            waiter.set_result(connection)
        elif connection:
            self._idle.append(connection)
        else:
            self._taken -= 1

    def _first_waiter(self) -> asyncio.Future[Connection | None] | None:
        for waiter in self._waiters:
            if not waiter.done():
                return waiter
        return None

    def _drop(self, connection: Connection) -> None:
        if not connection.closed:
            connection.close()
            if connection in self._idle:
                self._idle.remove(connection)
            self._release(None)

    def _abandon_later(self, connection: Connection) -> None:
        task = asyncio.create_task(self._abandon(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _abandon(self, connection: Connection) -> None:
        """Stop what a cancelled run left on the connection, so that it can be used again."""
        try:
            async with asyncio.timeout(CANCEL_LIMIT):
                await connection.cancel()
            self._release(connection)
        except BaseException as error:
            self._drop(connection)
            if not isinstance(error, psycopg.Error | TimeoutError):
                raise


def _cells(result: PGresult) -> list[Cells]:
    columns, value = range(result.nfields), result.get_value
    return [tuple([value(row, column) for column in columns]) for row in range(result.ntuples)]


def _parse(conninfo: str) -> dict[str, Any]:
    # An "@" or "/" in the password, unless encoded, makes libpq take a part of the password for
    # the host, the port or the database, and quote it in its messages.
    if not re.match(r"postgres(ql)?://([^@/]*@)?+[^?]*@", conninfo):
        with suppress(psycopg.ProgrammingError):
            return psycopg.conninfo.conninfo_to_dict(conninfo)
    raise psycopg.ProgrammingError(
        "the connection string is not valid; in a URL, percent-encode the user and the password"
    )
