"""The connection by which one lane of changes asks the database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.adapt import Transformer

from amphibase.database.connecting import connect_session
from amphibase.database.connection import Connection
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.session_settings import SESSION_SETTINGS
from amphibase.database.statement import Call, Statement
from amphibase.database.url import to_conninfo
from amphibase.errors import Unavailable
from amphibase.gateway.realtime.changes.arrays import register

CONNECT_SECONDS = 10

Rows = Sequence[tuple[Any, ...]]

# A statement whose arguments are arrays would be planned anew for each of them, and would read a
# small table whole, and with it evaluate the policies for each row, where it wants a few by their
# keys: 130 µs for a caller and a table of 2,000 rows, and 20 µs by the keys.
_SETTINGS = {
    **SESSION_SETTINGS,
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_seqscan": "off",
}
_SET = [Call(Statement(f"SET {name} TO '{value}'")) for name, value in _SETTINGS.items()]


class _Check(NamedTuple):
    first: Call
    last: Call
    accept: Callable[[Rows, Rows], None]


class QuestionSession:
    """One connection that stays open, and with it the plans of what it asks again and again.

    Args:
        database: where it connects to.

    Attributes:
        number: of connections so far; what belongs to one, such as a temporary function, ends with
            it.
    """

    def __init__(self, database: PipelineDatabase) -> None:
        self._conninfo = to_conninfo(database.url)
        self._connection: Connection | None = None
        self._transformer = Transformer()
        self._check: _Check | None = None
        self._is_checked = False
        self.number = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and not self._connection.closed

    @contextmanager
    def checking(
        self, first: Call, last: Call, accept: Callable[[Rows, Rows], None]
    ) -> Iterator[None]:
        """Let each run of the block carry a call before its own and one after them, so that these
        take no round trip; `run` without calls sends them alone, if there was no other run.

        Args:
            accept: gets the rows of both, and raises an error where nothing that the block has come
                to may count.
        """
        self._check, self._is_checked = _Check(first, last, accept), False
        try:
            yield
        finally:
            self._check = None

    async def run(self, *calls: Call, prepare: bool = True) -> list[Rows]:
        """Run calls in one transaction and one round trip, on a new connection where that before
        has ended.

        Args:
            prepare: whether the statements come again.

        Returns:
            The rows of each.

        Raises:
            psycopg.Error: one of them failed, so that all are undone; or the connection has ended.
            Unavailable: the database cannot be reached.
        """
        check = self._check
        if not calls and (check is None or self._is_checked):
            return []
        sent = calls if check is None else (check.first, *calls, check.last)
        connection = self._connection if self.is_open else await self._connect()
        assert connection is not None
        results = await connection.run(sent, prepare=prepare)
        rows: list[Rows] = []
        for result in results:
            self._transformer.set_pgresult(result)
            rows.append(self._transformer.load_rows(0, result.ntuples, tuple))
        if check is not None:
            first, *rows, last = rows
            self._is_checked = True
            check.accept(first, last)
        return rows

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and not self._connection.closed:
            self._connection.close()

    async def _connect(self) -> Connection:
        try:
            session: AsyncConnection[Any] = await connect_session(
                self._conninfo, connect_timeout=CONNECT_SECONDS
            )
        except psycopg.Error as error:
            # Not psycopg's own exception: its connection has the password.
            raise Unavailable(f"The database cannot be reached: {error}") from None
        register(session)
        self._connection = Connection(session, True, on_lost=Connection.close)
        self.number += 1
        await self._connection.run(_SET, prepare=False)
        return self._connection
