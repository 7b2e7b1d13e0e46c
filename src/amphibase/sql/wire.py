"""The hot path to Postgres: libpq in pipeline mode on the event loop, one round trip a run.

psycopg opens the connections, adapts the values and sends the cancel requests; all else speaks to
libpq directly, without a driver's or an ORM's overhead a query.
"""

from __future__ import annotations

import asyncio
import re
import selectors
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus

if TYPE_CHECKING:
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

# Text, not binary: psycopg reads an unregistered type (an enum, a vector, a tsvector) as a string
# in text but as raw bytes in binary; and with loaders written in C, binary measures no faster.
_RESULT_FORMAT = 0

# What the values' text form, and any SQL that turns a time into a date, depend on.
_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres"}

_STATEMENTS_KEPT = 500
_CANCEL_LIMIT = 5.0
_CANCEL_AGAIN = 0.5


class ConnectionLost(psycopg.OperationalError):
    """The connection broke before it gave a result, or the reason why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL command with `$1`, `$2` … placeholders; prepared once a connection."""

    sql: str


class Call(NamedTuple):
    """A statement and its values: any Python values psycopg can adapt, `None` being NULL."""

    statement: Statement
    values: Sequence[object] = ()


# A prepared statement belongs to one SQL text and the types its values were dumped as.
_Key: TypeAlias = tuple[str, tuple[int, ...]]
_Message: TypeAlias = "tuple[_Key, Sequence[Buffer | None], Sequence[int]]"


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
        self._idle: list[_Connection] = []
        self._waiters: OrderedDict[asyncio.Future[_Connection | None], None] = OrderedDict()
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

    async def _acquire(self) -> _Connection:
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

    async def _wait(self) -> _Connection | None:
        waiter: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
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

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                session = await psycopg.AsyncConnection.connect(**self._params)
            return _Connection(session, self._prepare, on_lost=self._drop)
        except TimeoutError:
            reason = f"no connection to Postgres within {self._connect_timeout:g} s"
        except psycopg.Error as error:
            reason = str(error)
        # Not psycopg's own exception, nor chained to it: its `pgconn` carries the password.
        raise psycopg.OperationalError(reason)

    def _release(self, connection: _Connection | None) -> None:
        """Pass on a connection, or as `None` the right to open one."""
        if connection and (self._closed or not connection.clean):
            self._drop(connection)
        elif waiter := next((waiter for waiter in self._waiters if not waiter.done()), None):
            waiter.set_result(connection)
        elif connection:
            self._idle.append(connection)
        else:
            self._taken -= 1

    def _drop(self, connection: _Connection) -> None:
        if not connection.closed:
            connection.close()
            if connection in self._idle:
                self._idle.remove(connection)
            self._release(None)

    async def _abandon(self, connection: _Connection) -> None:
        """Stop what a cancelled run left on the connection, so that it can be used again."""
        try:
            async with asyncio.timeout(_CANCEL_LIMIT):
                await connection.cancel()
            self._release(connection)
        except BaseException as error:
            self._drop(connection)
            if not isinstance(error, psycopg.Error | TimeoutError):
                raise


class _Connection:
    """One connection in pipeline mode: it sends a run, and resolves one future at its Sync."""

    def __init__(
        self,
        session: psycopg.AsyncConnection,
        prepare: bool,
        on_lost: Callable[[_Connection], None],
    ) -> None:
        self.runs = 0
        self.closed = False
        self._session, self._pg = session, session.pgconn
        self._transformer = Transformer(session)
        self._prepare = prepare
        self._on_lost = on_lost
        self._names: OrderedDict[_Key, bytes] = OrderedDict()
        self._named = 0
        self._evicted: list[bytes] = []
        # The results of a run that are not rows, by index; with the key when one is prepared.
        self._extra: dict[int, _Key | None] = {}
        self._results: list[PGresult] = []
        self._reply: asyncio.Future[list[PGresult]] | None = None
        self._farewell: str | None = None
        self._loop = asyncio.get_running_loop()
        self._pg.enter_pipeline_mode()
        session.add_notice_handler(self._on_notice)
        self._socket = self._pg.socket  # kept, since libpq forgets it when it closes it by itself
        # Once a socket has an error, such as a reset, uvloop calls its reader one last time, even
        # if more is to be read. A selector in between has no error of its own.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._loop.add_reader(self._selector, self._on_readable)

    @property
    def clean(self) -> bool:
        """Whether the connection is alive and outside any transaction."""
        return self._pg.transaction_status == TransactionStatus.IDLE

    async def run(self, calls: Sequence[Call]) -> list[PGresult]:
        """Send the calls and return their results, or those up to an error's."""
        self.runs += 1
        if self.runs > 1:
            # A server that hung up meanwhile has said so already, which costs one read to learn;
            # sending first would leave open whether the run or the idle connection was ended.
            self._on_readable()
            if self.closed:
                raise ConnectionLost("the server closed the connection while it was idle")
        messages = [self._dump(call) for call in calls]
        results = await self._send(messages)
        if self._forget_invalid(messages, results):
            results = await self._send(messages)
        return results

    def _dump(self, call: Call) -> _Message:
        transformer, values = self._transformer, call.values
        dumped = transformer.dump_sequence(values, (PyFormat.AUTO,) * len(values))
        return (call.statement.sql, transformer.types or ()), dumped, transformer.formats or ()

    def _send(self, messages: list[_Message]) -> asyncio.Future[list[PGresult]]:
        pg, names, extra = self._pg, self._names, self._extra
        for name in self._evicted:
            pg.send_close_prepared(name)
            extra[len(extra)] = None
        self._evicted.clear()
        for index, (key, values, formats) in enumerate(messages):
            sql, types = key
            if not self._prepare:
                pg.send_query_params(sql.encode(), values, types, formats, _RESULT_FORMAT)
                continue
            if key not in names:
                self._named += 1
                names[key] = b"amphibase_%d" % self._named
                pg.send_prepare(names[key], sql.encode(), types)
                extra[index + len(extra)] = key
            names.move_to_end(key)
            pg.send_query_prepared(names[key], values, formats, _RESULT_FORMAT)
        pg.pipeline_sync()
        if pg.flush():
            self._loop.add_writer(self._socket, self._on_writable)
        self._reply = self._loop.create_future()
        return self._reply

    def _forget_invalid(self, messages: list[_Message], results: list[PGresult]) -> bool:
        """Forget the messages' prepared statements if the results say that one is invalid."""
        error = next(
            (result for result in results if result.status == ExecStatus.FATAL_ERROR), None
        )
        # The message "cached plan must not change result type" is translated; its origin is not.
        if error is None or (
            error.error_field(DiagnosticField.SQLSTATE) != b"26000"
            and error.error_field(DiagnosticField.SOURCE_FUNCTION) != b"RevalidateCachedQuery"
        ):
            return False
        names = [self._names.pop(key) for key, _, _ in messages if key in self._names]
        self._evicted += names
        return bool(names)

    async def cancel(self) -> None:
        """Have the server cancel the run, and read what is left of its results.

        Raises:
            psycopg.Error: The connection or the cancel request failed.
        """
        if self._reply is None:
            return
        self._reply = drained = self._loop.create_future()
        while not drained.done():
            # Repeated, as the server ignores a request that reaches it between two messages.
            await self._session.cancel_safe(timeout=_CANCEL_LIMIT)
            await asyncio.wait([drained], timeout=_CANCEL_AGAIN)
        drained.result()

    def close(self) -> None:
        """Close the socket; to be called once."""
        self.closed = True
        self._loop.remove_reader(self._selector)
        self._selector.close()
        self._loop.remove_writer(self._socket)
        self._pg.finish()

    def _on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # libpq treats the farewell to an idle connection as a notice.
        if notice.severity_nonlocalized == "FATAL":
            self._farewell = notice.message_primary

    def _on_writable(self) -> None:
        try:
            if not self._pg.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._fail(error)

    def _on_readable(self) -> None:
        pg, results = self._pg, self._results
        between = False  # two queries: the results of each end in a None, and the Sync's do not
        try:
            pg.consume_input()
            while not pg.is_busy():
                result = pg.get_result()
                if result is not None:
                    between = False
                    if result.status == ExecStatus.PIPELINE_SYNC:
                        return self._complete()
                    results.append(result)
                    if result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT):
                        raise psycopg.NotSupportedError("COPY cannot run in a pipeline")
                elif self._farewell or between:
                    raise psycopg.OperationalError(self._farewell or "libpq lost the pipeline")
                elif self._reply is None:
                    return None
                else:
                    between = True
        except psycopg.Error as error:
            self._fail(error)

    def _complete(self) -> None:
        results, self._results = self._results, []
        reply, self._reply = self._reply, None
        if extra := self._extra:
            for index, key in extra.items():
                if key and results[index].status != ExecStatus.COMMAND_OK:
                    del self._names[key]
            failed = ExecStatus.FATAL_ERROR
            results = [r for i, r in enumerate(results) if i not in extra or r.status == failed]
            extra.clear()
            while len(self._names) > _STATEMENTS_KEPT:
                self._evicted.append(self._names.popitem(last=False)[1])
        if reply and not reply.done():
            reply.set_result(results)

    def _fail(self, error: psycopg.Error) -> None:
        results, reply = self._results, self._reply
        self._on_lost(self)
        if reply and not reply.done():
            said = [result for result in results if result.status == ExecStatus.FATAL_ERROR]
            if said:
                error = error_from_result(said[-1])  # why the server hung up
            elif not results:
                error = ConnectionLost(str(error))
            reply.set_exception(error)


def _parse(conninfo: str) -> dict[str, Any]:
    # An "@" or "/" in the password, unless encoded, makes libpq take a part of the password for
    # the host, the port or the database, and quote it in its messages.
    if not re.match(r"postgres(ql)?://([^@/]*@)?+[^?]*@", conninfo):
        with suppress(psycopg.ProgrammingError):
            return psycopg.conninfo.conninfo_to_dict(conninfo)
    raise psycopg.ProgrammingError(
        "the connection string is not valid; in a URL, percent-encode the user and the password"
    )
