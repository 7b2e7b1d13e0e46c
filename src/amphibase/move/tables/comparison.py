"""Compares a table of both sides: in SQL between two Postgres servers, else row by row."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from amphibase.move.tables.base import TableReader
from amphibase.move.tables.compare import (
    Fingerprints,
    KeySet,
    RowDifference,
    lookup,
    read_differences,
    read_fingerprints,
)
from amphibase.move.tables.moved_table import MovedTable
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.sql_checksums import SqlChecksums, SqlFingerprints, open_sql_checksums

KEYS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class TableComparison:
    """What reading both sides of a table once has shown.

    Args:
        differences: reads the rows that differ, a chunk at a time; of a table with a key.
    """

    fingerprints: Fingerprints | SqlFingerprints
    differences: Callable[[], AsyncGenerator[list[RowDifference], None]]

    @property
    def are_equal(self) -> bool:
        return self.fingerprints.are_equal

    @property
    def counts(self) -> tuple[int, int]:
        """The rows of the source and of the target."""
        return self.fingerprints.source.rows, self.fingerprints.target.rows

    @property
    def checksums(self) -> tuple[str, str]:
        """The checksums of the source and of the target, in hex."""
        own, other = self.fingerprints.source, self.fingerprints.target
        return f"{own.total:016x}", f"{other.total:016x}"

    @property
    def mark(self) -> str:
        """What changes with the rows of the target."""
        return f"{self.counts[1]} {self.checksums[1]}"


@asynccontextmanager
async def compare(
    table: MovedTable, source: TableReader, target: TableReader
) -> AsyncIterator[TableComparison]:
    """Read both sides of a table, and hold what is needed to read what differs.

    Raises:
        MoveFailed: a table is locked or may not be read.
        Unavailable: a side does not respond.
    """
    if (
        isinstance(source, PostgresTables)
        and isinstance(target, PostgresTables)
        and table.has_equal_types
    ):
        async with open_sql_checksums(source.url, target.url, [table.pair]) as checksums:
            in_sql = await checksums.read_fingerprints(table.pair)
            differences = partial(_differences, table, source, target, checksums, in_sql)
            yield TableComparison(in_sql, differences)
        return
    by_row = await read_fingerprints(table, source, target)
    yield TableComparison(by_row, partial(read_differences, table, source, target, by_row))


async def _differences(
    table: MovedTable,
    source: TableReader,
    target: TableReader,
    checksums: SqlChecksums,
    fingerprints: SqlFingerprints,
) -> AsyncGenerator[list[RowDifference], None]:
    """Yield the rows that differed and still do."""
    pair = table.pair
    with KeySet() as seen:
        async with aclosing(checksums.read_differing_keys(pair, fingerprints)) as differing:
            async for differing_keys in differing:
                new = sorted(seen.missing(differing_keys))
                seen.add(new)
                for first in range(0, len(new), KEYS_AT_ONCE):
                    keys = new[first : first + KEYS_AT_ONCE]
                    own = await lookup(source, pair.source, keys)
                    other = await lookup(target, pair.target, keys)
                    yield [
                        RowDifference(key, own.get(key), other.get(key))
                        for key in keys
                        if own.get(key) != other.get(key)
                    ]
