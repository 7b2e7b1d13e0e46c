"""Copies tables from one Postgres to another as the bytes of COPY, without looking at a row.

Several workers read ranges of pages in one snapshot. Each range is a transaction on the target,
with its checkpoint, so that a move which is killed goes on with the ranges that are left.
"""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import LiteralString

from psycopg import AsyncConnection, AsyncCopy, DataError, Error, errors
from psycopg.sql import SQL, Composed
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.errors import AmphibaseError, MoveFailed
from amphibase.move.catalog import CatalogTable, TableName
from amphibase.move.journal import Journal
from amphibase.move.parallel import run_all
from amphibase.move.progress import NoProgress, Progress
from amphibase.move.tables.base import Selection, TablePair
from amphibase.move.tables.constraints import Constraints
from amphibase.move.tables.postgres import REJECTIONS
from amphibase.move.tables.postgres_session import (
    column_list,
    connect,
    qualified,
    relation,
    settings_for,
)
from amphibase.move.tables.ranges import PageRange, Part, RangeCheckpoints, read_parts, split
from amphibase.move.tables.snapshot import Snapshot, hold_snapshot

WORKERS = 3
"""Each has a connection to both sides. One reads while another waits for the target's disk."""

LARGE = 4096
"""Pages, of 8 kB each: from where on it pays to build indexes after a load."""

BLOCK = 128 * 1024
"""Bytes that are sent at once."""

END = b"\xff\xff"
"""What binary COPY ends with (PostgreSQL docs, COPY, "File Trailer")."""

MOST_REJECTED = 100
"""Ranges of a table that are halved because of rows in them that the target rejects."""

TYPES: LiteralString = """
    WITH RECURSIVE used AS (
        SELECT atttypid AS oid FROM pg_attribute
         WHERE attrelid = %s::regclass AND attname = ANY(%s)
        UNION
        SELECT part.oid
          FROM used JOIN pg_type type ON type.oid = used.oid
         CROSS JOIN LATERAL (
               SELECT typbasetype
         UNION SELECT typelem WHERE typcategory = 'A'
         UNION SELECT atttypid FROM pg_attribute
                WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped
         UNION SELECT rngsubtype FROM pg_range WHERE type.oid IN (rngtypid, rngmultitypid)
               ) part (oid)
         WHERE part.oid <> 0)
    SELECT coalesce(bool_or(typsend = 0 OR typreceive = 0
                            OR typnamespace = 'pg_catalog'::regnamespace AND typname ~ '^reg'),
                    false),
           coalesce(bool_or(type.oid = 'interval'::regtype), false)
      FROM used JOIN pg_type type ON type.oid = used.oid
"""
"""Whether a type of a table's columns, or one within it, has no binary form, or one that is not the
same on another server, as the numbers of `regclass` are not; and whether one is an interval."""

INFINITE_INTERVALS = 170000
"""The version that has them; an older one reads their bytes as 178956970 years."""


class Passthrough:
    """Copies tables that are empty on the target, or that it began to copy before.

    Args:
        plan: the name of the move's plan, by which its checkpoints are told from others'.
    """

    def __init__(
        self,
        source: URL,
        target: URL,
        plan: str,
        journal: Journal,
        *,
        progress: Progress | None = None,
        workers: int = WORKERS,
    ) -> None:
        self._source, self._target = source, target
        self._checkpoints = RangeCheckpoints(plan)
        self._progress = progress or NoProgress()
        self._constraints = Constraints(target, journal, self._progress)
        self._workers = workers

    async def copy(self, pairs: Sequence[TablePair]) -> None:
        """Copy the ranges that have not been copied yet, of all tables.

        Keys, indexes and foreign keys of the target that slow the copying down are off meanwhile.
        Rows that the target rejects are left out, with a few of their neighbours: the comparison
        that follows copies them one by one, and says which are rejected and why.

        Args:
            pairs: a table that another one refers to before that one.

        Raises:
            MoveFailed: a table of the target has rows which no earlier run has copied, or a row of
                a table without a key is rejected.
            Unavailable: a server does not respond.
        """
        tables = [pair.source.table.name for pair in pairs]
        try:
            with translated_errors():
                async with hold_snapshot(self._source, tables) as snapshot:
                    await self._copy(await self._plan(snapshot, pairs), snapshot)
        except Exception:
            with suppress(AmphibaseError):  # the first error says more
                await self._constraints.put_back(deletes=False)
            raise
        for table in tables:
            self._progress.finish(str(table))
        await self._constraints.put_back()

    @asynccontextmanager
    async def _opened_target(self) -> AsyncIterator[AsyncConnection]:
        connection = await connect(self._target)
        try:
            yield connection
        finally:
            await connection.close()

    async def _plan(self, snapshot: Snapshot, pairs: Sequence[TablePair]) -> deque["Job"]:
        """Return what is to be copied, having written it down."""
        queue: deque[Job] = deque()
        async with snapshot.reader() as source, self._opened_target() as target:
            await self._checkpoints.create(target)
            for pair in pairs:
                table = pair.source.table.name
                parts = await read_parts(source, table)
                rows = sum(part.rows for part in parts)
                self._progress.start(str(table), rows or None, "rows")
                async with target.transaction():
                    if not await self._checkpoints.has(target, table):
                        await _check_is_empty(target, pair.target.table)
                        ranges = [pages for part in parts for pages in split(table, part)]
                        await self._checkpoints.add(target, ranges)
                table_copy = CopiedTable(
                    pair,
                    {part.name: part for part in parts},
                    is_binary=await _is_binary(source, target, pair),
                )
                remaining = await self._checkpoints.remaining(target, table)
                queue += [Job(table_copy, pages) for pages in remaining]
        return queue

    async def _copy(self, queue: deque["Job"], snapshot: Snapshot) -> None:
        tables = {job.table.pair.target.table.name: job.table for job in queue}
        large = {name for name, table in tables.items() if table.pages >= LARGE}
        staying = await self._constraints.take_off(tables, large=large)
        # Where foreign keys stay, tables arrive one after the other.
        workers = 1 if staying else self._workers
        await run_all(self._work(snapshot, queue) for _ in range(workers))

    async def _work(self, snapshot: Snapshot, queue: deque["Job"]) -> None:
        """Copy ranges until none is left."""
        if not queue:
            return
        async with snapshot.reader() as source, self._opened_target() as target:
            while queue:
                job = queue.popleft()
                try:
                    rows = await self._copy_range(source, target, job)
                except REJECTIONS as error:
                    queue.extendleft(await self._halve(target, job, error))
                except errors.DiskFull:
                    raise MoveFailed(
                        "The target's disk is full; make room on it and run again"
                    ) from None
                else:
                    self._progress.advance(str(job.pages.table), rows)

    async def _copy_range(
        self, source: AsyncConnection, target: AsyncConnection, job: "Job"
    ) -> int:
        """Copy a range with its checkpoint, both or neither; return the number of rows."""
        # A savepoint, as the snapshot is lost with the transaction.
        async with source.transaction(), target.transaction():
            await target.execute(settings_for(target))
            # What a crash may lose of the last commits, it loses of rows and checkpoints alike.
            await target.execute("SET LOCAL synchronous_commit = off")
            async with (
                source.cursor() as reader,
                target.cursor() as writer,
                reader.copy(job.read_statement) as out,
            ):
                async with writer.copy(job.write_statement) as into:
                    await _pass(out, into, is_binary=job.table.is_binary)
                rows = writer.rowcount
            await self._checkpoints.copied(target, job.pages, rows)
        return rows

    async def _halve(
        self, target: AsyncConnection, job: "Job", error: DataError | Error
    ) -> list["Job"]:
        """Put halves in the place of a range that has a rejected row, or leave the range out."""
        table = job.table
        if not table.pair.source.key:
            raise MoveFailed(
                f"{job.pages.table}: the target rejects a row: {_describe(error)}. The table has "
                "no key, so that its rows cannot be copied one by one"
            ) from None
        table.rejected += 1
        halves = job.pages.halves(table.parts[job.pages.part].pages)
        if halves is None or table.rejected > MOST_REJECTED:
            await self._checkpoints.copied(target, job.pages, 0)
            return []
        await self._checkpoints.replace(target, job.pages, halves)
        return [Job(table, pages) for pages in reversed(halves)]


async def forget_ranges(target: URL, plan: str) -> None:
    """Remove the checkpoints of a plan."""
    with translated_errors():
        connection = await connect(target)
        try:
            await RangeCheckpoints(plan).forget(connection)
        finally:
            await connection.close()


@dataclass(slots=True)
class CopiedTable:
    """A table that is being copied.

    Args:
        parts: of the source's, by name.
        rejected: how many ranges had a row that the target rejects.
    """

    pair: TablePair
    parts: Mapping[TableName, Part]
    is_binary: bool
    rejected: int = 0

    @property
    def pages(self) -> int:
        """How many there are on the source."""
        return sum(part.pages for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class Job:
    """A range of a table that is to be copied."""

    table: CopiedTable
    pages: PageRange

    @property
    def read_statement(self) -> Composed:
        return SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT ({})").format(
            column_list(self.table.pair.source.columns),
            self.table.parts[self.pages.part].relation,
            self.pages.condition,
            self._format,
        )

    @property
    def write_statement(self) -> Composed:
        selection = self.table.pair.target
        return SQL("COPY {} ({}) FROM STDIN ({})").format(
            qualified(selection.table.name), column_list(selection.columns), self._format
        )

    @property
    def _format(self) -> SQL:
        return SQL("FORMAT binary" if self.table.is_binary else "FORMAT text")


async def _pass(out: AsyncCopy, into: AsyncCopy, *, is_binary: bool) -> None:
    """Write what a COPY reads, block by block."""
    connection = out.connection.pgconn
    while data := await out.read():
        block = bytearray(data)
        # Without asking the event loop for each row, which takes longer than to copy it. After the
        # end, which is as short as no row, it is left to `read` to see how the query ended.
        is_end = not is_binary or data[-len(END) :] == END
        while not is_end and len(block) < BLOCK:
            length, row = connection.get_copy_data(1)
            if length == 0:
                connection.consume_input()
                length, row = connection.get_copy_data(1)
                if length == 0:
                    break
            block += row
            is_end = length <= len(END)
        await into.write(block)


async def _is_binary(source: AsyncConnection, target: AsyncConnection, pair: TablePair) -> bool:
    """Return whether both sides write the same bytes for the same values of all columns."""
    if _types(pair.source) != _types(pair.target):
        return False
    name = qualified(pair.source.table.name).as_string(source)
    cursor = await source.execute(TYPES, (name, list(pair.source.columns)))
    row = await cursor.fetchone()
    assert row is not None
    has_textual, has_intervals = row
    versions = {side.info.server_version >= INFINITE_INTERVALS for side in (source, target)}
    return not has_textual and not (has_intervals and len(versions) > 1)


def _types(selection: Selection) -> list[str]:
    return [selection.table.column(name).type for name in selection.columns]


async def _check_is_empty(connection: AsyncConnection, table: CatalogTable) -> None:
    rows = relation(table.name, is_partitioned=table.partitions)
    query = SQL("SELECT FROM {} LIMIT 1").format(rows)
    if await (await connection.execute(query)).fetchone() is not None:
        raise MoveFailed(
            f"{table.name} has rows on the target; empty it, or let the plan merge the table"
        )


def _describe(error: Error) -> str:
    """Return a rejection in the words of the database, with the line where it has one."""
    parts = (error.diag.message_primary, error.diag.message_detail, error.diag.context)
    return "; ".join(part for part in parts if part)
