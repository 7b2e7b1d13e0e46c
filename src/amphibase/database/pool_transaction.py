"""A transaction of several runs on one connection of a pool."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from psycopg.errors import InFailedSqlTransaction

from amphibase.database.connection import Connection, Message
from amphibase.database.statement import Call, Statement

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_COMMIT = Call(Statement("commit"))
_SAVEPOINT = Call(Statement("savepoint amphibase"))
_UNDO = Call(Statement("rollback to savepoint amphibase"))
# Undone, a savepoint is still there: in place of one around it, which has the same name.
_RELEASE = Call(Statement("release savepoint amphibase"))


class PoolTransaction:
    """Sends what begins the transaction with its first run, and its end with its last.

    Args:
        begin: The calls that begin it.
        prepare: Whether its statements may be prepared. One that has become invalid, since the
            schema has changed, then fails once on each connection: it has failed the transaction,
            and cannot be sent again in it.

    Attributes:
        is_begun: whether the database knows of it.
    """

    def __init__(self, connection: Connection, begin: Sequence[Call], *, prepare: bool) -> None:
        self.is_begun = False
        self._connection = connection
        self._begin = begin
        self._queued: list[Message] = []
        self._prepare = prepare
        self._role = ""

    def queue(self, *calls: Call) -> None:
        """Send calls with the next run, or with the end; an error of the database is raised there.

        Raises:
            psycopg.Error: a value cannot be adapted.
        """
        self._queued += self._connection.messages(calls, self._role)

    async def run(self, *calls: Call) -> "list[PGresult]":
        """Run calls in one round trip, after what is queued, and return their results.

        Raises:
            psycopg.Error: one of them failed, and with it the transaction.
        """
        begin = [] if self.is_begun else self._connection.messages(self._begin)
        before = [*begin, *self._queued]
        messages = [*before, *self._connection.messages(calls, self._role)]
        self.is_begun, self._queued = True, []
        results = await self._connection.send(messages, prepare=self._prepare, in_transaction=True)
        for call in calls:
            self._role = call.assumes or self._role
        return results[len(before) :]

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        """Undo what the block does, its role and its settings too, however it ends."""
        role = self._role
        self.queue(_SAVEPOINT)
        try:
            yield
        finally:
            self.queue(_UNDO, _RELEASE)
            self._role = role

    async def commit(self) -> None:
        """Commit, in the round trip of what is queued.

        Raises:
            psycopg.Error: nothing of the transaction is stored.
        """
        if not (self.is_begun or self._queued):
            return
        (result,) = await self.run(_COMMIT)
        if result.command_status == b"ROLLBACK":  # the block went on after an error
            raise InFailedSqlTransaction("a statement of the transaction had failed")
