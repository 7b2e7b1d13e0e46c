"""The hot path to Postgres: a pool of connections in pipeline mode, one round trip a run.

psycopg opens the connections, adapts the values and sends the cancel requests; all else speaks to
libpq directly (`pipeline.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from amphibase.sql.pipeline import CANCEL_LIMIT, Call, Connection, ConnectionLost, Statement

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

# What the values' text form, and any SQL that turns a time into a date, depend on.
_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres"}


class Wire:
    """A pool of pipeline-mode connections to one Postgres, bound to one event loop.

    Args:
        conninfo: A `postgresql://` URL or a libpq connection string.
        size: The most connections open at a time; they are opened as they are needed.
        prepare: Whether statements are prepared and kept. Turn it off behind a pooler in
            transaction mode: the session's settings, which such poolers refuse at connect, then
            travel with every run.
        connect_timeout: Seconds to wait for a new connection.
        acquire_timeout: Seconds to wait for a free connection while all are busy.
        statement_timeout: Seconds after which the server cancels a statement; `None` leaves the
            server's own limit.

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
    ) -> None:
        self._size = size
        self._prepare = prepare
        self._connect_timeout = connect_timeout
        self._acquire_timeout = acquire_timeout
        self._params = _parse(conninfo) | {"client_encoding": "UTF8"}
        settings = dict(_SETTINGS)
        if statement_timeout is not None:
            settings["statement_timeout"] = str(round(statement_timeout * 1000))
        self._preamble: list[Call] = []
        if prepare:
            options = " ".join(f"-c {name}={value}" for name, value in settings.items())
            self._params["options"] = f"{self._params.get('options', '')} {options}"
        else:
            local = [f"set_config('{name}', '{value}', true)" for name, value in settings.items()]
            self._preamble.append(Call(Statement("select " + ", ".join(local))))
        # Only for reading: without a connection it gives every timestamptz in UTC.
        self._transformer = Transformer()
        self._taken = 0  # connections open, being opened, and promised to a waiter
        self._idle: list[Connection] = []
        self._waiters: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, *calls: Call) -> list[list[tuple[Any, ...]]]:
        """Run the calls in one implicit transaction and one round trip.

        For reads and idempotent calls only: when a pooled connection breaks before it gave the
        first result, all calls are sent once more on another, and whether the first sending took
        effect is then unknown. Settings made local to the transaction (a role, claims) end
        with it; a call must not change the session's.

        Args:
            calls: Run in order; the first one to fail undoes all.

        Returns:
            The rows of each call, in the calls' order; none for a command that returns no rows.

        Raises:
            psycopg.Error: The server refused a call: the class of its SQLSTATE, with `diag`. Or a
                value cannot be adapted or loaded (`ProgrammingError`, `DataError`).
            psycopg.OperationalError: No connection could be had in time, or it broke.
        """
        sent = (*self._preamble, *calls)
        reconnect = True
        while True:
            connection = self._idle.pop() if self._idle else await self._acquire()
            try:
                results = await connection.run(sent)
            except asyncio.CancelledError:
                task = asyncio.create_task(self._abandon(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                raise
            except ConnectionLost:
                if connection.runs == 1 or not reconnect:
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
            return self._load(results)[len(self._preamble) :]

    async def close(self) -> None:
        """Close the idle connections and refuse new runs; runs under way end on their own."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(psycopg.OperationalError("the wire is closed"))
        for connection in tuple(self._idle):
            self._drop(connection)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _load(self, results: list[PGresult]) -> list[list[tuple[Any, ...]]]:
        transformer = self._transformer
        rows = []
        try:
            for result in results:
                if result.status == ExecStatus.FATAL_ERROR:
                    raise error_from_result(result)
                transformer.set_pgresult(result)
                rows.append(transformer.load_rows(0, result.ntuples, tuple))
        finally:
            transformer.set_pgresult(None)  # or it would keep the last result in memory
        return rows

    async def _acquire(self) -> Connection:
        if self._closed:
            raise psycopg.OperationalError("the wire is closed")
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
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            async with asyncio.timeout(self._acquire_timeout):
                return await waiter
        except (asyncio.CancelledError, TimeoutError) as error:
            if not waiter.cancelled() and not waiter.exception():
                self._release(waiter.result())  # served in the turn of the loop it gave up in
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            del self._waiters[waiter]
        message = f"no connection free within {self._acquire_timeout:g} s, all {self._size} in use"
        raise psycopg.OperationalError(message)

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                session = await psycopg.AsyncConnection.connect(**self._params)
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
        elif waiter := next((waiter for waiter in self._waiters if not waiter.done()), None):
            waiter.set_result(connection)
        elif connection:
            self._idle.append(connection)
        else:
            self._taken -= 1

    def _drop(self, connection: Connection) -> None:
        if not connection.closed:
            connection.close()
            if connection in self._idle:
                self._idle.remove(connection)
            self._release(None)

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


def _parse(conninfo: str) -> dict[str, Any]:
    # An "@" or "/" in the password, unless encoded, makes libpq take a part of the password for
    # the host, the port or the database, and quote it in its messages.
    if not re.match(r"postgres(ql)?://([^@/]*@)?+[^?]*@", conninfo):
        with suppress(psycopg.ProgrammingError):
            return psycopg.conninfo.conninfo_to_dict(conninfo)
    raise psycopg.ProgrammingError(
        "the connection string is not valid; in a URL, percent-encode the user and the password"
    )
