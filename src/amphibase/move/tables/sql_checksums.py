"""Compares a table of two Postgres servers by checksums that the servers compute themselves.

Each side is read once, in the order in which it is stored, and each row's hash is added to one of
many sums, chosen by the hash. A row that differs makes two sums differ: that of what the source has
and that of what the target has. Only the rows of those are read again.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.move.parallel import run_all
from amphibase.move.tables.base import Key, Selection, TablePair
from amphibase.move.tables.postgres_session import column_list
from amphibase.move.tables.ranges import Part, read_parts, split
from amphibase.move.tables.snapshot import Snapshot, hold_snapshot
from amphibase.move.tables.types import INTEGERS, TIME, TIMESTAMP, TIMESTAMPTZ, parse_type

PAGES = 8192
"""Of each query, of 8 kB each."""

READERS = 2
"""Connections to each side."""

ROWS_PER_PAGE = 30
"""Of a table without statistics: 270 bytes a row."""

MOST_SUMS = 1 << 16
ROWS_PER_SUM = 500
ROWS_AT_ONCE = 50_000
"""Keys and hashes that are in memory at the same time, of each side."""

MASK = (1 << 64) - 1

TEXTS = frozenset({"text", "character varying"})
EXACT = TEXTS | INTEGERS | {"boolean", "uuid", "bytea", "date", TIME, TIMESTAMP, TIMESTAMPTZ}
"""Types of which only equal values have equal hashes. Of others, 1.0 and 1.00, 0 and -0, or '1 day'
and '24:00' have the same, and some have none: they are hashed as texts."""


@dataclass(slots=True)
class SqlFingerprint:
    """The sums of a side's rows.

    Args:
        total: of all rows' hashes, modulo 2^64.
        sums: place → number of rows and sum of their hashes.
    """

    rows: int = 0
    total: int = 0
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, place: int, rows: int, total: int) -> None:
        """Add rows whose sum is at a place."""
        before, sum_before = self.sums.get(place, (0, 0))
        self.sums[place] = (before + rows, (sum_before + total) & MASK)
        self.rows += rows
        self.total = (self.total + total) & MASK


@dataclass(frozen=True, slots=True)
class SqlFingerprints:
    """Both sides of a table.

    Args:
        places: how many sums there are; a power of two.
    """

    source: SqlFingerprint
    target: SqlFingerprint
    places: int

    @property
    def are_equal(self) -> bool:
        return self.source.sums == self.target.sums

    def differing(self) -> Iterator[list[int]]:
        """Yield the places of sums that differ, as many as may be compared at the same time."""
        own, other = self.source.sums, self.target.sums
        some: list[int] = []
        rows = 0
        for place in sorted(own.keys() | other.keys()):
            if own.get(place) != other.get(place):
                some.append(place)
                rows += max(own.get(place, (0, 0))[0], other.get(place, (0, 0))[0])
                if rows >= ROWS_AT_ONCE:
                    yield some
                    some, rows = [], 0
        if some:
            yield some


class SqlChecksums:
    """Compares tables of two states that do not change meanwhile."""

    def __init__(self, source: Snapshot, target: Snapshot) -> None:
        self._source, self._target = source, target
        servers = [side.holder.info for side in (source, target)]
        # Hashes of values are the same within a major version alone, and those of texts in all.
        majors = {server.server_version // 10_000 for server in servers}
        encodings = {server.parameter_status("server_encoding") for server in servers}
        self._has_one_encoding = len(encodings) == 1
        self._hashes_values = self._has_one_encoding and len(majors) == 1

    async def read_fingerprints(self, pair: TablePair) -> SqlFingerprints:
        """Read both sides of a table at once.

        Raises:
            Unavailable: a server does not respond.
        """
        with translated_errors():
            parts = await _read_parts(self._source, pair.source)
            # The statistics know nothing of a table that was filled just now.
            rows = sum(max(part.rows, part.pages * ROWS_PER_PAGE) for part in parts)
            places = 256
            while places < min(rows / ROWS_PER_SUM, MOST_SUMS):
                places *= 2
            own, other = await run_all(
                self._fingerprint(side, selection, places) for side, selection in self._sides(pair)
            )
        return SqlFingerprints(own, other, places)

    async def read_differing_keys(
        self, pair: TablePair, fingerprints: SqlFingerprints
    ) -> AsyncGenerator[list[Key], None]:
        """Yield the keys, as COPY writes them, of rows that both sides do not hold alike.

        A key may be yielded twice, where the row differs and there are many that do.

        Args:
            pair: with a key.
        """
        for places in fingerprints.differing():
            with translated_errors():
                own, other = await run_all(
                    self._hashes(side, selection, places, fingerprints.places)
                    for side, selection in self._sides(pair)
                )
            differing = [key for key, hash in own.items() if other.pop(key, None) != hash]
            yield [*differing, *other]

    def _sides(self, pair: TablePair) -> Iterator[tuple[Snapshot, Selection]]:
        yield self._source, pair.source
        yield self._target, pair.target

    async def _fingerprint(
        self, side: Snapshot, selection: Selection, places: int
    ) -> SqlFingerprint:
        fingerprint = SqlFingerprint()
        parts = await _read_parts(side, selection)
        queue = deque(
            (part, pages) for part in parts for pages in split(selection.table.name, part, PAGES)
        )
        query = SQL(
            "SELECT hash & {}, count(*), sum(hash) FROM (SELECT {} AS hash FROM {} WHERE {}) "
            "AS rows GROUP BY 1"
        )

        async def work() -> None:
            async with side.reader() as connection:
                while queue:
                    part, pages = queue.popleft()
                    cursor = await connection.execute(
                        query.format(
                            places - 1, self._hash(selection), part.relation, pages.condition
                        )
                    )
                    async for place, rows, total in cursor:
                        fingerprint.add(place, rows, int(total))

        await run_all(work() for _ in range(min(READERS, len(queue))))
        return fingerprint

    async def _hashes(
        self, side: Snapshot, selection: Selection, some: Sequence[int], places: int
    ) -> dict[Key, str]:
        """Return the hashes of the rows whose sums are at these places, by key."""
        query = SQL(
            "COPY (SELECT {key}, {hash} FROM (SELECT *, {value} AS {hash} FROM {relation}) AS rows "
            "WHERE {hash} & {mask} = ANY({some})) TO STDOUT"
        )
        hashes: dict[Key, str] = {}
        for part in await _read_parts(side, selection):
            copy_out = query.format(
                key=column_list(selection.key),
                hash=Identifier("amphibase hash"),
                value=self._hash(selection),
                relation=part.relation,
                mask=places - 1,
                some=list(some),
            )
            async with side.reader() as connection, connection.cursor().copy(copy_out) as copy:
                async for *key, hash in copy.rows():
                    hashes[tuple(key)] = hash
        return hashes

    def _hash(self, selection: Selection) -> Composed:
        """Return the hash of a row: of its values, or of its text where the servers differ."""
        if self._hashes_values:
            values = SQL(", ").join(_exact(selection, name) for name in selection.columns)
            return SQL("hash_record_extended(ROW({}), 0)").format(values)
        text = SQL("ROW({})::text").format(column_list(selection.columns))
        if not self._has_one_encoding:
            text = SQL("encode(convert_to({}, 'UTF8'), 'hex')").format(text)
        return SQL('hashtextextended({} COLLATE "C", 0)').format(text)


@asynccontextmanager
async def open_sql_checksums(
    source: URL, target: URL, pairs: Sequence[TablePair]
) -> AsyncIterator[SqlChecksums]:
    """Hold a state of both sides until the block ends, to compare these tables.

    Raises:
        MoveFailed: a table is locked or may not be read.
        Unavailable: a server does not respond.
    """
    own = [pair.source.table.name for pair in pairs]
    other = [pair.target.table.name for pair in pairs]
    async with hold_snapshot(source, own) as first, hold_snapshot(target, other) as second:
        yield SqlChecksums(first, second)


async def _read_parts(side: Snapshot, selection: Selection) -> list[Part]:
    async with side.reader() as connection:
        return await read_parts(connection, selection.table.name)


def _exact(selection: Selection, name: str) -> Composed | Identifier:
    """Return a column, as text where equal hashes do not mean equal values."""
    column = Identifier(name)
    type = parse_type(selection.table.column(name).base_type)
    if type.is_array or type.name not in EXACT:
        return SQL("{}::text").format(column)
    return SQL('{} COLLATE "C"').format(column) if type.name in TEXTS else column
