"""The rows that a merged table of the target held before: they stay as they are."""

from contextlib import aclosing

from amphibase.move.journal import Journal
from amphibase.move.tables.base import Key, TableReader, TableWriter
from amphibase.move.tables.compare import RowDifference, lookup
from amphibase.move.tables.moved_table import MovedTable

HELD = "held"


class Held:
    """The keys of a merged table that both sides had before its first row was copied."""

    def __init__(self, journal: Journal, table: MovedTable) -> None:
        self._journal = journal
        self._table = table
        self.keys: frozenset[Key] = frozenset()
        if table.plan.merge:
            chunks = journal.get(HELD, table.name) or []
            self.keys = frozenset(tuple(key) for key in chunks)

    async def read(self, source: TableReader, target: TableWriter) -> None:
        """Write down which keys both sides have; once, before anything is copied."""
        table = self._table
        if not table.plan.merge or self._journal.get(HELD, table.name) is not None:
            return
        keys: list[Key] = []
        async with aclosing(source.read(table.pair.source)) as chunks:
            async for chunk in chunks:
                wanted = [table.key_of(row) for row in table.for_target(chunk.rows)]
                keys += await lookup(target, table.pair.target, wanted)
        self._journal.put(HELD, table.name, keys)
        self.keys = frozenset(keys)

    def explains(self, difference: RowDifference) -> bool:
        """Return whether a merge is why a row differs: it was there before, or is not of ours."""
        if not self._table.plan.merge:
            return False
        return difference.source is None or difference.key in self.keys
