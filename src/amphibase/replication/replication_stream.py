"""A stream of logical replication, by libpq as psycopg wraps it, in the event loop.

Its slot is temporary: the server drops it with the connection, so that nothing keeps its log after
a crash.
"""

import asyncio
import re
import secrets
from collections.abc import Sequence
from struct import Struct
from time import monotonic
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.conninfo import make_conninfo

from amphibase.database.connecting import connect
from amphibase.replication.change import RowChange
from amphibase.replication.change_source import (
    CONNECT_SECONDS,
    PUBLICATIONS,
    StreamFailed,
    check_publications,
    require_publications,
)
from amphibase.replication.pgoutput import Decoder

STATUS_SECONDS = 10
"""The server ends a stream from which it hears nothing for 60 seconds (`wal_sender_timeout`)."""

COMMIT = b"C"
"""The last message of a transaction."""

MAX_MESSAGES = 2000
"""That are read at once."""

# Values are written as these settings say, and not as the database's own.
SESSION = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=1 "
    "-c bytea_output=hex -c lock_timeout=10s"
)

_DATA = Struct("!cQQq")
_KEEPALIVE = Struct("!cQqb")
_STATUS = Struct("!cQQQqb")


class ReplicationStream:
    """What is committed from the moment on at which it was opened; satisfies `ChangeSource`."""

    delays_writers = False

    def __init__(self, connection: pq.abc.PGconn, publications: Sequence[str]) -> None:
        self._connection = connection
        self._publications = publications
        self._decoder = Decoder()
        self._position = 0
        self._reported = monotonic()
        self._ready = asyncio.Event()
        self._failure: StreamFailed | None = None

    @classmethod
    async def open(cls, url: str, publications: Sequence[str], slot_prefix: str) -> Self:
        """Open a stream: every later commit is part of it.

        Args:
            url: of the database, as a role with REPLICATION.
            publications: which tables it has.
            slot_prefix: what the name of its temporary slot begins with.

        Raises:
            StreamFailed: the server does not offer it.
        """
        connection = await asyncio.to_thread(_connect, url, publications, slot_prefix)
        return cls(connection, publications)

    async def read(self) -> Sequence[RowChange]:
        """Return the changes that are there: whole transactions, except of a large one."""
        decoded = map(self._decoder.decode, await self._read_messages())
        return [change for change in decoded if change is not None]

    async def check(self, connection: AsyncConnection[Any]) -> None:
        """Check the publications: servers since 18 send nothing more where one was dropped."""
        await check_publications(connection, self._publications)

    async def _read_messages(self) -> list[bytes]:
        messages: list[bytes] = []
        is_drained = False  # whether nothing more has come since the last message
        while len(messages) < MAX_MESSAGES:
            size, data = self._connection.get_copy_data(1)
            if size > 0:
                self._receive(bytes(data[:size]), messages)
            elif size < 0:
                raise StreamFailed(_reason(self._connection.get_result(), self._connection))
            elif messages and messages[-1][:1] == COMMIT and is_drained:
                break
            elif messages and not is_drained:
                self._consume()
                is_drained = True
                continue
            else:
                await self._wait()
                self._report_in_time()
            is_drained = False
        self._report_in_time()
        return messages

    def fail(self, error: StreamFailed) -> None:
        self._failure = error
        self._ready.set()

    async def close(self) -> None:
        self._connection.finish()

    def _receive(self, data: bytes, messages: list[bytes]) -> None:
        if data[:1] == b"w":
            _, start, _, _ = _DATA.unpack_from(data)
            self._position = max(self._position, start)
            messages.append(data[_DATA.size :])
        elif data[:1] == b"k":
            _, end, _, replies = _KEEPALIVE.unpack_from(data)
            self._position = max(self._position, end)
            if replies:
                self._report()

    async def _wait(self) -> None:
        """Wait until the server sends something, or the next report is due."""
        loop, descriptor = asyncio.get_running_loop(), self._connection.socket
        self._ready.clear()
        loop.add_reader(descriptor, self._ready.set)
        try:
            async with asyncio.timeout(STATUS_SECONDS):
                if self._failure is None:
                    await self._ready.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(descriptor)
        if self._failure is not None:
            raise self._failure
        self._consume()

    def _consume(self) -> None:
        """Take what the server has sent."""
        try:
            self._connection.consume_input()
        except Exception as error:
            raise StreamFailed(_reason(None, self._connection)) from error

    def _report_in_time(self) -> None:
        if monotonic() - self._reported > STATUS_SECONDS:
            self._report()

    def _report(self) -> None:
        """Report how far the stream was read, so that the server keeps no more of its log."""
        self._reported = monotonic()
        place = self._position + 1
        self._connection.put_copy_data(_STATUS.pack(b"r", place, place, place, 0, 0))
        self._connection.flush()


_OFFER = """
SELECT (rolreplication OR rolsuper) AND current_setting('wal_level') = 'logical'
    AND pg_backend_pid() = %s
    AND current_setting('max_wal_senders')::int > 0
    AND current_setting('max_replication_slots')::int > 0
FROM pg_catalog.pg_roles WHERE rolname = current_user
"""


async def offers_replication(url: str) -> bool:
    """Return whether a server offers logical replication to a role; so it does where it cannot be
    asked, and what failed may be tried again. Poolers, which have processes of other numbers than
    the server's, do not pass it on (PgBouncer before 1.23, Supavisor).

    Args:
        url: of the database, as the role.
    """
    try:
        async with await connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            row = await (await connection.execute(_OFFER, [connection.info.backend_pid])).fetchone()
    except psycopg.Error:
        return True
    return row is None or bool(row[0])


def _connect(url: str, publications: Sequence[str], slot_prefix: str) -> pq.abc.PGconn:
    conninfo = make_conninfo(
        url, replication="database", options=SESSION, connect_timeout=CONNECT_SECONDS
    )
    connection = pq.PGconn.connect(conninfo.encode())
    try:
        if connection.status != pq.ConnStatus.OK:
            raise StreamFailed(_reason(None, connection))
        _check_publications(connection, publications)
        slot = f"{slot_prefix}_{secrets.token_hex(8)}"
        names = ",".join(f'"{name}"' for name in publications)
        for command, expected in (
            (
                f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')",
                pq.ExecStatus.TUPLES_OK,
            ),
            (
                f"START_REPLICATION SLOT {slot} LOGICAL 0/0 "
                f"(proto_version '1', publication_names '{names}')",
                pq.ExecStatus.COPY_BOTH,
            ),
        ):
            result = connection.exec_(command.encode())
            if result.status != expected:
                raise StreamFailed(_reason(result, connection))
        connection.nonblocking = 1
    except BaseException:
        connection.finish()
        raise
    return connection


def _check_publications(connection: pq.abc.PGconn, publications: Sequence[str]) -> None:
    """Raise StreamFailed where one is missing: servers since 18 stream nothing then, and say so
    nowhere but in their log."""
    result = connection.exec_(PUBLICATIONS.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise StreamFailed(_reason(result, connection))
    names = {(result.get_value(row, 0) or b"").decode() for row in range(result.ntuples)}
    require_publications(publications, names)


def _reason(result: pq.abc.PGresult | None, connection: pq.abc.PGconn) -> str:
    text = result.get_error_message() if result is not None else ""
    text = text or connection.get_error_message() or "the connection has ended"
    words = [line for line in text.splitlines() if not line.startswith(("DETAIL:", "HINT:"))]
    return re.sub("^.*(?:ERROR|FATAL):", "", words[-1]).strip()
