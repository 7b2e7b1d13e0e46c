"""Compares a table of both sides, row by row, in a memory that does not grow with it.

Two databases sort texts in different ways, so that their rows cannot be read side by side. Each
side is read once in its own order, and each row's digest is added to one of many sums, chosen by
its key. Only the rows of sums that differ are read again and compared by key.
"""

import asyncio
import json
import sqlite3
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Self

from amphibase.errors import InvalidValue
from amphibase.move.tables.base import Key, Row, Selection, TableReader
from amphibase.move.tables.moved_table import MovedTable

SUMS = 1 << 16
BLOCK = 1 << 8
MASK = (1 << 64) - 1


@dataclass(slots=True)
class Fingerprint:
    """The sums of a side's rows.

    Args:
        total: of all rows' digests, modulo 2^64.
    """

    rows: int = 0
    total: int = 0
    counts: "array[int]" = field(default_factory=lambda: array("Q", bytes(8 * SUMS)))
    sums: "array[int]" = field(default_factory=lambda: array("Q", bytes(8 * SUMS)))

    def add(self, table: MovedTable, rows: Sequence[Row]) -> None:
        """Add rows, in canonical texts."""
        for row in rows:
            place = _place(table.key_of(row))
            digest = _digest(row)
            self.counts[place] += 1
            self.sums[place] = (self.sums[place] + digest) & MASK
            self.total += digest
        self.rows += len(rows)
        self.total &= MASK

    def differing(self, other: "Fingerprint") -> frozenset[int]:
        """Return the places of the sums that differ."""
        places: list[int] = []
        for start in range(0, SUMS, BLOCK):  # most are equal, and compared at once
            block = slice(start, start + BLOCK)
            own = self.sums[block], self.counts[block]
            if own != (other.sums[block], other.counts[block]):
                places += [
                    place
                    for place in range(start, start + BLOCK)
                    if self.sums[place] != other.sums[place]
                    or self.counts[place] != other.counts[place]
                ]
        return frozenset(places)


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that both sides do not hold alike.

    Args:
        key: as the target has it.
        source: the row for the target; None where the source has lost it.
        target: None where the target lacks it.
    """

    key: Key
    source: Row | None
    target: Row | None

    @property
    def message(self) -> str:
        """Say how the row differs, without its values."""
        if self.source is None:
            return "is on the target alone"
        return "is missing on the target" if self.target is None else "differs"


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Both sides of a table."""

    source: Fingerprint
    target: Fingerprint

    @property
    def are_equal(self) -> bool:
        return not self.source.differing(self.target)


async def read_fingerprints(
    table: MovedTable, source: TableReader, target: TableReader
) -> Fingerprints:
    """Read both sides of a table at once."""
    own, other = await asyncio.gather(
        _fingerprint(table, source, table.pair.source, is_source=True),
        _fingerprint(table, target, table.pair.target, is_source=False),
    )
    return Fingerprints(own, other)


async def read_differences(
    table: MovedTable, source: TableReader, target: TableReader, fingerprints: Fingerprints
) -> AsyncGenerator[list[RowDifference], None]:
    """Yield the rows that differ, those of the source first, a chunk at a time.

    Rows that change while they are read may or may not be among them.
    """
    places = fingerprints.source.differing(fingerprints.target)
    if not places:
        return
    with KeySet() as of_source:
        async for rows in _rows_at(table, source, places, is_source=True):
            of_source.add([table.key_of(comparable) for comparable, _ in rows])
            pairs = await pair_rows(table, target, [row for _, row in rows])
            differences = [
                RowDifference(table.key_of(row), row, other)
                for row, other in pairs
                if other is None or not table.are_equal(row, other)
            ]
            yield differences
        async for rows in _rows_at(table, target, places, is_source=False):
            keys = [table.key_of(comparable) for comparable, _ in rows]
            lost = of_source.missing(keys)
            yield [
                RowDifference(table.key_of(row), None, row)
                for key, (_, row) in zip(keys, rows, strict=True)
                if key in lost
            ]


async def pair_rows(
    table: MovedTable, target: TableReader, rows: Sequence[Row]
) -> list[tuple[Row, Row | None]]:
    """Return rows of the source, as they are for the target, each with the target's row of the
    same key; None where it is missing."""
    keys = [table.key_of(row) for row in rows]
    there = await lookup(target, table.pair.target, keys)
    others = list(there.values())
    by_key = dict(zip(map(table.key_of, table.comparable(others)), others, strict=True))
    return [
        (row, by_key.get(table.key_of(comparable)))
        for row, comparable in zip(rows, table.comparable(rows), strict=True)
    ]


async def _fingerprint(
    table: MovedTable, side: TableReader, selection: Selection, *, is_source: bool
) -> Fingerprint:
    fingerprint = Fingerprint()
    async with aclosing(side.read(selection)) as chunks:
        async for chunk in chunks:
            rows = table.for_target(chunk.rows) if is_source else chunk.rows
            fingerprint.add(table, table.comparable(rows))
    return fingerprint


async def _rows_at(
    table: MovedTable, side: TableReader, places: frozenset[int], *, is_source: bool
) -> AsyncIterator[list[tuple[Row, Row]]]:
    """Yield the rows whose sums are at these places, each in canonical texts and as it is."""
    selection = table.pair.source if is_source else table.pair.target
    async with aclosing(side.read(selection)) as chunks:
        async for chunk in chunks:
            rows = table.for_target(chunk.rows) if is_source else chunk.rows
            pairs = zip(table.comparable(rows), rows, strict=True)
            chosen = [pair for pair in pairs if _place(table.key_of(pair[0])) in places]
            if chosen:
                yield chosen


async def lookup(side: TableReader, selection: Selection, keys: Sequence[Key]) -> Mapping[Key, Row]:
    """Return the rows with these keys; one that the side's type does not take is of no row."""
    try:
        return await side.rows(selection, keys)
    except (InvalidValue, ValueError):
        if len(keys) == 1:
            return {}
    middle = len(keys) // 2
    first = await lookup(side, selection, keys[:middle])
    return {**first, **await lookup(side, selection, keys[middle:])}


class KeySet:
    """Keys in a temporary file, which is gone after the block."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # which SQLite deletes when it is closed
        self._database.execute("CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def add(self, keys: Sequence[Key]) -> None:
        """Add keys; no matter which are in it."""
        self._database.executemany(
            "INSERT INTO keys VALUES (?) ON CONFLICT DO NOTHING", [(json.dumps(k),) for k in keys]
        )

    def missing(self, keys: Sequence[Key]) -> set[Key]:
        """Return those of the keys that are not in it."""
        query = "SELECT 1 FROM keys WHERE key = ?"
        return {
            key for key in keys if not self._database.execute(query, (json.dumps(key),)).fetchone()
        }

    def batches(self, size: int) -> Iterator[list[Key]]:
        """Yield all keys."""
        cursor = self._database.execute("SELECT key FROM keys")
        while rows := cursor.fetchmany(size):
            yield [tuple(json.loads(key)) for (key,) in rows]

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _place(key: Key) -> int:
    return hash(key) % SUMS


def _digest(row: Row) -> int:
    return int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest())
