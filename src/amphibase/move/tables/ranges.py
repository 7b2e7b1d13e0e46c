"""Ranges of a table's pages: what one worker copies in one transaction, and their checkpoints.

A range is one of pages and not of keys, since pages are read in the order in which they are stored,
whatever the key is: with random UUIDs a range of keys reads the whole table. The price is that a
row which is updated between a run that was killed and the next one may be in another range by then,
and so be copied twice or not at all. `Constraints.put_back` deletes what is there twice, and the
comparison that follows each run copies what is missing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Composed, Identifier

from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.tables.postgres_session import OUR_SCHEMA, create_schema, qualified, relation

PAGES = 2048
"""Of a range, of 8 kB each."""

MOST_RANGES = 5_000
"""Of a table; the ranges of a larger one have more pages."""

RANGES = Identifier(OUR_SCHEMA, "copied_ranges")

CREATE = SQL(
    "CREATE TABLE IF NOT EXISTS {} (plan text, table_name text, part text, first bigint, "
    "last bigint, copied_rows bigint, PRIMARY KEY (plan, table_name, part, first))"
)

PARTS = """
    SELECT namespace.nspname, class.relname,
           class.relkind = 'r' AND am.amname = 'heap',
           CASE WHEN class.relkind IN ('r', 'p') THEN pg_relation_size(class.oid) ELSE 0 END
           / current_setting('block_size')::int,
           greatest(class.reltuples, 0)::bigint,
           has_table_privilege(class.oid, 'SELECT')
      FROM pg_class class
      JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
      LEFT JOIN pg_am am ON am.oid = class.relam
     WHERE class.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::regclass) WHERE isleaf)
        OR class.oid = %(table)s::regclass AND class.relkind <> 'p'
     ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A table, or a partition: what has pages of its own.

    Args:
        pages: how many there are now; 0 where the storage has none that a query can name.
        rows: an estimate.
        is_partitioned: whether it is all partitions of a table at once.
    """

    name: TableName
    pages: int
    rows: int
    is_partitioned: bool = False

    @property
    def relation(self) -> Composed:
        """What a query reads its rows from, without those of tables that inherit from it."""
        return relation(self.name, is_partitioned=self.is_partitioned)


@dataclass(frozen=True, slots=True)
class PageRange:
    """Some pages of a part.

    Args:
        table: which moves, as the source calls it; the part is one of its partitions, or itself.
        last: not included; None for all that follow.
    """

    table: TableName
    part: TableName
    first: int = 0
    last: int | None = None

    @property
    def condition(self) -> Composed | SQL:
        """What a query of the part selects."""
        first = SQL("ctid >= {}::tid").format(f"({self.first},0)")
        if self.last is None:
            return first if self.first else SQL("true")
        return first + SQL(" AND ctid < {}::tid").format(f"({self.last},0)")

    def halves(self, pages: int) -> "tuple[PageRange, PageRange] | None":
        """Return two that are half as large; None where it is as small as they get.

        Args:
            pages: of the part, where the range is open.
        """
        last = pages if self.last is None else self.last
        if last - self.first <= 1:
            return None
        middle = (self.first + last) // 2
        return replace(self, last=middle), replace(self, first=middle)


async def read_parts(connection: AsyncConnection, table: TableName) -> list[Part]:
    """Return the partitions of a table, or itself, which is all where they may not be read."""
    name = qualified(table).as_string(connection)
    cursor = await connection.execute(PARTS, {"table": name})
    rows = await cursor.fetchall()
    if not all(may_read for *_, may_read in rows):
        is_partitioned = any((row[0], row[1]) != table for row in rows)
        return [Part(table, 0, sum(row[4] for row in rows), is_partitioned)]
    return [
        Part(TableName(schema, relation), pages if has_pages else 0, estimate)
        for schema, relation, has_pages, pages, estimate, _ in rows
    ]


def split(table: TableName, part: Part, pages: int | None = None) -> Iterator[PageRange]:
    """Yield the ranges of a part; the last is open, as the table may have grown meanwhile.

    Args:
        pages: of a range.
    """
    step = pages or max(PAGES, part.pages // MOST_RANGES + 1)
    starts = range(0, max(part.pages, 1), step)
    for first in starts:
        last = None if first == starts[-1] else first + step
        yield PageRange(table, part.name, first, last)


class RangeCheckpoints:
    """Which ranges of a move are to be copied and which have been, in a table of the target.

    Args:
        plan: the name of the move's plan, by which its checkpoints are told from others'.
    """

    def __init__(self, plan: str) -> None:
        self._plan = plan

    async def create(self, connection: AsyncConnection) -> None:
        """Make the table, if it is missing.

        Raises:
            MoveFailed: the role may not.
        """
        try:
            await create_schema(connection)
            await connection.execute(CREATE.format(RANGES))
        except errors.InsufficientPrivilege:
            raise MoveFailed(
                f"The checkpoints need a schema {OUR_SCHEMA} on the target; grant CREATE on the "
                "database to the role"
            ) from None

    async def add(self, connection: AsyncConnection, ranges: Sequence[PageRange]) -> None:
        """Write down ranges that are to be copied."""
        add = SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s)").format(RANGES)
        async with connection.cursor() as cursor:
            await cursor.executemany(add, [(*self._key(pages), pages.last) for pages in ranges])

    async def has(self, connection: AsyncConnection, table: TableName) -> bool:
        """Return whether ranges of a table have been written down."""
        query = SQL("SELECT FROM {} WHERE plan = %s AND table_name = %s LIMIT 1").format(RANGES)
        cursor = await connection.execute(query, (self._plan, json.dumps(table)))
        return await cursor.fetchone() is not None

    async def remaining(self, connection: AsyncConnection, table: TableName) -> list[PageRange]:
        """Return the ranges of a table that have not been copied."""
        query = SQL(
            "SELECT part, first, last FROM {} WHERE plan = %s AND table_name = %s "
            "AND copied_rows IS NULL ORDER BY part, first"
        ).format(RANGES)
        cursor = await connection.execute(query, (self._plan, json.dumps(table)))
        return [
            PageRange(table, TableName(*json.loads(part)), first, last)
            async for part, first, last in cursor
        ]

    async def copied(self, connection: AsyncConnection, pages: PageRange, rows: int) -> None:
        """Mark a range as copied, in the transaction that copied it."""
        mark = SQL(
            "UPDATE {} SET copied_rows = %s "
            "WHERE plan = %s AND table_name = %s AND part = %s AND first = %s"
        ).format(RANGES)
        await connection.execute(mark, (rows, *self._key(pages)))

    async def replace(
        self, connection: AsyncConnection, pages: PageRange, halves: Sequence[PageRange]
    ) -> None:
        """Write down halves in the place of a range, both in one transaction."""
        delete = SQL(
            "DELETE FROM {} WHERE plan = %s AND table_name = %s AND part = %s AND first = %s"
        ).format(RANGES)
        async with connection.transaction():
            await connection.execute(delete, self._key(pages))
            await self.add(connection, halves)

    async def forget(self, connection: AsyncConnection) -> None:
        """Remove them; also the table and its schema, where no other plan needs them."""
        name = RANGES.as_string(connection)
        cursor = await connection.execute("SELECT to_regclass(%s)", (name,))
        if await cursor.fetchone() == (None,):
            return
        await connection.execute(
            SQL("DELETE FROM {} WHERE plan = %s").format(RANGES), (self._plan,)
        )
        cursor = await connection.execute(SQL("SELECT FROM {} LIMIT 1").format(RANGES))
        if await cursor.fetchone() is not None:
            return
        await connection.execute(SQL("DROP TABLE {}").format(RANGES))
        try:
            drop = SQL("DROP SCHEMA IF EXISTS {} RESTRICT")
            await connection.execute(drop.format(Identifier(OUR_SCHEMA)))
        except errors.DependentObjectsStillExist:
            return

    def _key(self, pages: PageRange) -> tuple[str, str, str, int]:
        return self._plan, json.dumps(pages.table), json.dumps(pages.part), pages.first
