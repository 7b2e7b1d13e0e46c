"""Which rows of a merged table are the move's: all others are the target's own, and stay."""

import json
from collections.abc import Sequence
from contextlib import aclosing
from hashlib import blake2b

from amphibase.move.journal import Journal
from amphibase.move.tables.base import Row, TableReader
from amphibase.move.tables.compare import RowDifference, pair_rows
from amphibase.move.tables.moved_table import MovedTable


class WrittenKeys:
    """The keys of a merged table that the move has written, in the journal before the rows are.

    Of a table that is not merged every row is the move's, and nothing is written down.
    """

    def __init__(self, journal: Journal, table: MovedTable) -> None:
        self._journal = journal
        self._table = table
        self._kind = f"written {table.name}"

    async def claim(self, target: TableReader, rows: Sequence[Row]) -> Sequence[Row]:
        """Write down the keys of rows that the target lacks.

        Returns:
            Those of the rows that the move may write: the target's own are not among them.
        """
        if not self._table.plan.merge:
            return rows
        pairs = await pair_rows(self._table, target, rows)
        ours = [row for row, there in pairs if there is None or row in self]
        self._journal.put_all(self._kind, {self._name(row): True for row in ours})
        return ours

    def __contains__(self, row: Row) -> bool:
        """Return whether a row of the target, or for it, is the move's."""
        return not self._table.plan.merge or self._journal.has(self._kind, self._name(row))

    def explains(self, difference: RowDifference) -> bool:
        """Return whether a merge is why a row differs: the one on the target is not the move's."""
        return difference.target is not None and difference.target not in self

    async def mark(self, target: TableReader) -> str:
        """Return what changes with the move's rows on the target."""
        number = total = 0
        async with aclosing(target.read(self._table.pair.target)) as chunks:
            async for chunk in chunks:
                for row in self._table.comparable([row for row in chunk.rows if row in self]):
                    number += 1
                    total += int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest())
        return f"{number} {total % 2**64:016x}"

    def forget(self) -> None:
        """Delete the keys: what was moved is undone."""
        self._journal.delete_all(self._kind)

    def _name(self, row: Row) -> str:
        (comparable,) = self._table.comparable([row])
        return json.dumps(self._table.key_of(comparable))
