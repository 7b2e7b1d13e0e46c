"""One connection to Postgres in libpq's pipeline mode, on the event loop: what a run sends goes out
together and comes back together, without a driver's or an ORM's overhead a query."""

from __future__ import annotations

import asyncio
import selectors
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus

from amphibase.database.statement import Call

if TYPE_CHECKING:
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

# Text, not binary: psycopg reads an unregistered type (an enum, a vector, a tsvector) as a string
# in text but as raw bytes in binary; and with loaders written in C, binary measures no faster.
_RESULT_FORMAT = 0

# Named here, since to look a member up in its class takes as long as a call, and these are asked
# for with every result.
_AUTO = PyFormat.AUTO
_IDLE = TransactionStatus.IDLE
_COMMAND_OK, _FATAL_ERROR = ExecStatus.COMMAND_OK, ExecStatus.FATAL_ERROR
_SYNC, _ABORTED = ExecStatus.PIPELINE_SYNC, ExecStatus.PIPELINE_ABORTED
_COPIES = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT)
_NO_STATEMENT, _NO_FUNCTION = b"26000", b"42883"  # PostgreSQL docs, appendix A

_STATEMENTS_KEPT = 500
# Characters. What is longer is rarely the same again, and 500 of it would fill the memory.
_LONGEST_KEPT = 20_000
# How long a connection may have been idle that is used without a look at it, which is a system
# call. What hangs up on it in this time could have done so a moment later, during the run.
_UNCHECKED_SECONDS = 0.002
CANCEL_LIMIT = 5.0
_CANCEL_AGAIN = 0.5


class ConnectionLost(psycopg.OperationalError):
    """The connection broke before it gave a result, or the reason why.

    Attributes:
        unsent: Whether it broke before anything of the run was sent.
    """

    unsent = False


# A prepared statement belongs to one SQL text, the types its values were dumped as, and a role:
# under row level security Postgres discards its plan when another role executes it.
_Key: TypeAlias = tuple[str, tuple[int, ...], str]
Message: TypeAlias = "tuple[_Key, Sequence[Buffer | None], Sequence[int]]"
"""A call with its values as the server reads them."""


class Connection:
    """One connection in pipeline mode: it sends a run, and resolves one future at its Sync."""

    def __init__(
        self,
        session: psycopg.AsyncConnection,
        prepare: bool,
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.runs = 0
        self.closed = False
        self.schema_version = 0  # the pool's, when the first of the cached statements was prepared
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
        self._used_at = 0.0  # the loop's time
        self._pg.enter_pipeline_mode()
        session.add_notice_handler(self._on_notice)
        self._socket = self._pg.socket  # stored, since libpq forgets it when it closes it by itself
        # Once a socket has an error, such as a reset, uvloop calls its reader one last time, even
        # if more is to be read. A selector in between has no error of its own.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._loop.add_reader(self._selector, self._on_readable)

    @property
    def clean(self) -> bool:
        """Whether the connection is alive and outside any transaction."""
        return self._pg.transaction_status == _IDLE

    def is_alive(self) -> bool:
        """Return whether the server has not hung up; if it has, the connection is closed now."""
        if self.runs and self._loop.time() - self._used_at > _UNCHECKED_SECONDS:
            # A server that hung up has sent a message already, which one read shows; sending first
            # would leave open whether the run or the idle connection was ended.
            self._on_readable()
        return not self.closed

    def run(self, calls: Sequence[Call], *, prepare: bool = True) -> Awaitable[list[PGresult]]:
        """Send the calls and return their results.

        Args:
            prepare: Whether statements may be prepared and cached.

        Raises:
            psycopg.Error: The server rejected one, or the connection broke.
        """
        return self.send(self.messages(calls), prepare=prepare)

    def messages(self, calls: Sequence[Call], role: str = "") -> list[Message]:
        """Return the calls as they are sent.

        Args:
            role: Which the transaction has assumed before.

        Raises:
            psycopg.Error: A value cannot be adapted.
        """
        messages: list[Message] = []
        for call in calls:
            messages.append(self._dump(call, role))
            role = call.assumes or role
        return messages

    async def send(
        self, messages: list[Message], *, prepare: bool = True, in_transaction: bool = False
    ) -> list[PGresult]:
        """Send what `messages` has returned; see `run`.

        Args:
            in_transaction: Whether it is in a transaction that began before or goes on after it, so
                that it cannot be sent again.
        """
        if not self.is_alive():
            lost = ConnectionLost("the server closed the connection while it was idle")
            lost.unsent = True
            self.runs += 1
            raise lost
        self.runs += 1
        prepare = prepare and self._prepare
        results = await self._send(messages, prepare)
        error = _find_error(results)
        if error and prepare and self._forget_invalid(messages, error) and not in_transaction:
            results = await self._send(messages, prepare)
            error = _find_error(results)
        if error:
            raise error_from_result(error)
        return results

    def _dump(self, call: Call, role: str) -> Message:
        transformer, values = self._transformer, call.values
        dumped = transformer.dump_sequence(values, (_AUTO,) * len(values))
        key = call.statement.sql, transformer.types or (), role
        return key, dumped, transformer.formats or ()

    def _send(self, messages: list[Message], prepare: bool) -> asyncio.Future[list[PGresult]]:
        assert self._reply is None, "a connection runs one thing at a time"
        pg, names, extra = self._pg, self._names, self._extra
        for evicted in self._evicted:
            pg.send_close_prepared(evicted)
            extra[len(extra)] = None
        self._evicted.clear()
        for index, (key, values, formats) in enumerate(messages):
            sql, types, _ = key
            if not prepare or len(sql) > _LONGEST_KEPT:
                pg.send_query_params(sql.encode(), values, types, formats, _RESULT_FORMAT)
                continue
            name = names.get(key)
            if name is None:
                self._named += 1
                names[key] = name = b"amphibase_%d" % self._named
                pg.send_prepare(name, sql.encode(), types)
                extra[index + len(extra)] = key
            names.move_to_end(key)
            pg.send_query_prepared(name, values, formats, _RESULT_FORMAT)
        pg.pipeline_sync()
        if pg.flush():
            self._loop.add_writer(self._socket, self._on_writable)
        self._reply = self._loop.create_future()
        return self._reply

    def _forget_invalid(self, messages: list[Message], error: PGresult) -> bool:
        """Forget the messages' prepared statements if the error says that one is invalid, or may
        be; return whether they can be sent again."""
        # The message "cached plan must not change result type" is translated; its origin is not.
        is_invalid = (
            error.error_field(DiagnosticField.SQLSTATE) == _NO_STATEMENT
            or error.error_field(DiagnosticField.SOURCE_FUNCTION) == b"RevalidateCachedQuery"
        )
        # A statement keeps the types of the function that it called when it was prepared, and never
        # finds one of other types in its place. As often, there never was such a function.
        if not is_invalid and error.error_field(DiagnosticField.SQLSTATE) != _NO_FUNCTION:
            return False
        names = [self._names.pop(key) for key, _, _ in messages if key in self._names]
        self._evicted += names
        return is_invalid and bool(names)

    def forget_statements(self, schema_version: int) -> None:
        """Prepare all statements anew from the next run on. To be called between runs."""
        self.schema_version = schema_version
        self._evicted += self._names.values()
        self._names.clear()

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
            await self._session.cancel_safe(timeout=CANCEL_LIMIT)
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
                    status = result.status
                    if status == _SYNC:
                        return self._complete()
                    results.append(result)
                    if status in _COPIES:
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
        self._used_at = self._loop.time()
        if extra := self._extra:
            for index, key in extra.items():
                if key and results[index].status != _COMMAND_OK:
                    del self._names[key]
            results = [
                r for i, r in enumerate(results) if i not in extra or r.status == _FATAL_ERROR
            ]
            extra.clear()
            while len(self._names) > _STATEMENTS_KEPT:
                self._evicted.append(self._names.popitem(last=False)[1])
        if reply and not reply.done():
            reply.set_result(results)

    def _fail(self, error: psycopg.Error) -> None:
        results, reply = self._results, self._reply
        self._on_lost(self)
        if reply and not reply.done():
            errors = [result for result in results if result.status == _FATAL_ERROR]
            if errors:
                error = error_from_result(errors[-1])  # why the server hung up
            elif not results:
                error = ConnectionLost(str(error))
            reply.set_exception(error)


def _find_error(results: list[PGresult]) -> PGresult | None:
    """Return the error among a run's results; all that follow one are of aborted commands."""
    if not results or results[-1].status not in (_FATAL_ERROR, _ABORTED):
        return None
    return next((result for result in results if result.status == _FATAL_ERROR), None)
