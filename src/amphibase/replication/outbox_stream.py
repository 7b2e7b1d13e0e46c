"""A stream of the changes that triggers write to an outbox, for a server that offers no logical
replication.

What is read is in the order in which rows were written, which is that of the commits for each row,
and for transactions that follow one another. A transaction is read once a snapshot sees it, however
long it took. The outbox is looked into again and again: commits that notify queue behind one lock
of the server and share no flush of its log, so that concurrent writers lose half of their rate.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Self
from uuid import UUID, uuid4

import orjson
import psycopg
from psycopg import AsyncConnection

from amphibase.redaction import redacted_logger
from amphibase.replication import outbox
from amphibase.replication.change import Operation, Relation, Row, RowChange
from amphibase.replication.change_source import StreamFailed, check_publications
from amphibase.replication.row_text import read_row

logger = redacted_logger("amphibase.replication")

MIN_PAUSE_SECONDS = 0.005
MAX_PAUSE_SECONDS = 0.05
"""Between two looks into the outbox; the pauses grow while nothing comes."""

MAX_CHANGES = 2000
MAX_CHARACTERS = 8 * 1024 * 1024
"""Of what is passed on at once."""

MAX_RELATIONS = 1000

CLOSE_SECONDS = 5.0

# A snapshot does not see the transactions that ran then, and those that had not begun.
_LOOK = """
SELECT pg_current_snapshot()::text,
    EXISTS (
        SELECT FROM realtime.outbox_readers WHERE id = %(id)s AND expires_at > clock_timestamp()
    ),
    EXISTS (
        SELECT FROM realtime.outbox
        WHERE transaction >= pg_snapshot_xmax(%(after)s::text::pg_snapshot)
    ) OR EXISTS (
        SELECT FROM realtime.outbox
        WHERE transaction = ANY (ARRAY(SELECT pg_snapshot_xip(%(after)s::text::pg_snapshot)))
    )
"""
_READ = """
SELECT relation, operation, transaction::text, changed_at, old, new
FROM realtime.outbox
WHERE pg_visible_in_snapshot(transaction, %(until)s::text::pg_snapshot) AND (
    transaction >= pg_snapshot_xmax(%(after)s::text::pg_snapshot)
    OR transaction = ANY (ARRAY(SELECT pg_snapshot_xip(%(after)s::text::pg_snapshot)))
)
ORDER BY id
"""


class OutboxStream:
    """What is committed from the moment on at which it was opened; satisfies `ChangeSource`."""

    delays_writers = True

    def __init__(
        self,
        url: str,
        publications: Sequence[str],
        connection: AsyncConnection[Any],
        id: UUID,
        position: str,
    ) -> None:
        self._url = url
        self._publications = publications
        self._connection = connection
        self._id = id
        self._position = position
        self._rounds = self._read_rounds()
        self._relations: dict[str, _RowReader] = {}
        self._failure: StreamFailed | None = None

    @classmethod
    async def open(cls, url: str, publications: Sequence[str]) -> Self:
        """Open a stream: every later commit is part of it.

        Args:
            url: of a project's database, as a role that owns the outbox.
            publications: that have to be there.

        Raises:
            StreamFailed: it cannot be opened; says why.
        """
        id = uuid4()
        try:
            connection: AsyncConnection[Any] = await outbox.open_connection(url, reads_outbox=True)
            try:
                await check_publications(connection, publications)
                position = await outbox.begin_reading(url, id)
            except BaseException:
                await connection.close()
                raise
        except psycopg.Error as error:
            raise StreamFailed(outbox.reason_of(error)) from None
        return cls(url, publications, connection, id, position)

    async def read(self) -> Sequence[RowChange]:
        try:
            return await anext(self._rounds)
        except psycopg.Error as error:
            raise StreamFailed(outbox.reason_of(error)) from None

    async def check(self, connection: AsyncConnection[Any]) -> None:
        await check_publications(connection, self._publications)
        await outbox.renew(connection, self._id, self._position)

    def fail(self, error: StreamFailed) -> None:
        self._failure = error

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close()
                await outbox.end_reading(self._url, self._id)
        except (psycopg.Error, TimeoutError) as error:
            logger.warning("The outbox of Realtime is left to expire: %s", error)

    async def _read_rounds(self) -> AsyncIterator[Sequence[RowChange]]:
        pause = MIN_PAUSE_SECONDS
        while True:
            if self._failure is not None:
                raise self._failure
            values = {"id": self._id, "after": self._position}
            row = await (await self._connection.execute(_LOOK, values)).fetchone()
            assert row is not None
            until, is_reader, has_more = row
            if not is_reader:
                raise StreamFailed(outbox.EXPIRED)
            if has_more:
                async for changes in self._read_until(until):
                    yield changes
                pause = MIN_PAUSE_SECONDS
            self._position = until
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _read_until(self, until: str) -> AsyncIterator[Sequence[RowChange]]:
        """Yield what one snapshot does not see and a later one does."""
        changes: list[RowChange] = []
        characters = 0
        rows = self._connection.cursor().stream(_READ, {"after": self._position, "until": until})
        async for relation, operation, transaction, changed_at, old, new in rows:
            reader = self._relations.get(relation)
            if reader is None:
                if len(self._relations) >= MAX_RELATIONS:
                    self._relations.clear()
                reader = self._relations[relation] = _RowReader(relation)
            changes.append(
                reader.read(Operation(operation), int(transaction), changed_at, old, new)
            )
            characters += len(old or "") + len(new or "")
            if len(changes) >= MAX_CHANGES or characters >= MAX_CHARACTERS:
                yield changes
                changes, characters = [], 0
        if changes:
            yield changes


class _RowReader:
    """Reads the rows of a table as it was when a trigger was created on it.

    Args:
        text: the JSON that the trigger has as an argument.
    """

    def __init__(self, text: str) -> None:
        content = orjson.loads(text)
        published = {*content["published"]}
        self._columns: Sequence[str] = content["columns"]
        self._hidden = {name for name in self._columns if name not in published}
        names = [name for name in self._columns if name in published]
        is_full: bool = content["is_full"]
        self.relation = Relation(
            content["oid"],
            content["schema"],
            content["table"],
            names,
            frozenset(names if is_full else content["identity"]),
            is_full,
        )

    def read(
        self,
        operation: Operation,
        transaction: int,
        changed_at: datetime,
        old: str | None,
        new: str | None,
    ) -> RowChange:
        """Return a change; of the old row what logical replication would send.

        Raises:
            StreamFailed: the table has other columns by now.
        """
        new_row = None if new is None else self._row(new)
        old_row = None if old is None else self._row(old)
        if old_row is not None and not self.relation.is_full:
            identity = self.relation.identity
            old_row = {name: value for name, value in old_row.items() if name in identity}
            if new_row is not None and all(new_row[name] == old_row[name] for name in old_row):
                old_row = None
        xid = transaction & 0xFFFFFFFF
        return RowChange(self.relation, operation, xid, changed_at, new_row, old_row)

    def _row(self, text: str) -> Row:
        values = read_row(text) if self._columns else []
        if len(values) != len(self._columns):
            raise StreamFailed(
                f"a row of {self.relation.schema}.{self.relation.table} has other columns than "
                "its trigger: event triggers are switched off"
            )
        row: Row = dict(zip(self._columns, values, strict=True))
        for name in self._hidden:
            del row[name]
        return row
