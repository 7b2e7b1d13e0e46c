"""Deletes from the target what the move wrote, as far as nobody has changed or used it since."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from amphibase.move.journal import Journal
from amphibase.move.stage import Kept
from amphibase.move.tables.base import Key, Row, TableReader, TableWriter
from amphibase.move.tables.compare import KeySet, pair_rows, read_fingerprints
from amphibase.move.tables.deletions import delete_by_halves
from amphibase.move.tables.merge import WrittenKeys
from amphibase.move.tables.moved_table import MovedTable
from amphibase.move.tables.referrers import Referrers


class Undo:
    """Deletes the rows that are as the source has them.

    Rows that something refers to which the move has not written stay, so that no foreign key
    deletes with them what people have added.

    Args:
        tables: in the order in which they refer to one another.
    """

    def __init__(
        self,
        source: TableReader,
        target: TableWriter,
        tables: Sequence[MovedTable],
        referrers: Referrers,
        journal: Journal,
    ) -> None:
        self._source, self._target = source, target
        self._tables = [table for table in tables if journal.get("table", table.name) is not None]
        self._referrers = referrers
        self._journal = journal

    async def run(self) -> AsyncIterator[Kept]:
        """Delete rows, and yield those that are kept."""
        cycles = [table for table in self._tables if table.postponed]
        for table in self._tables:
            await self._index(table)
        for table in cycles:
            await self._open_cycle(table)
        for table in reversed(self._tables):
            kept = self._delete_rows(table) if table.plan.key else self._delete_all(table)
            async for each in kept:
                yield each
        for table in cycles:
            await self._close_cycle(table)
        for table in self._tables:
            self._journal.delete("table", table.name)
            WrittenKeys(self._journal, table).forget()

    async def _index(self, table: MovedTable) -> None:
        """Let the database find at once which rows of a cycle refer to one that is deleted; they
        are there still, as those of other tables are not."""
        selection = table.pair.target
        columns = {selection.columns[place] for place in table.postponed}
        for referrer in self._referrers.of(table):
            if referrer.table == selection.table.name:
                columns.add(referrer.columns[0])
        for column in sorted(columns):
            await self._target.index(selection.table, column)

    async def _unchanged(
        self, table: MovedTable
    ) -> AsyncGenerator[tuple[list[tuple[Row, Row]], list[Key]], None]:
        """Yield the move's rows by chunks: each as the source and as the target has it, and the
        keys of those that have changed. A row whose postponed columns are NULL has not."""
        written = WrittenKeys(self._journal, table)
        async with aclosing(self._source.read(table.pair.source)) as chunks:
            async for chunk in chunks:
                rows = table.for_target(chunk.rows)
                ours = [row for row in rows if row in written]
                same: list[tuple[Row, Row]] = []
                changed: list[Key] = []
                for row, other in await pair_rows(table, self._target, ours):
                    if other is None:
                        continue
                    (cleared,) = table.without_postponed([row])
                    if table.are_equal(row, other) or table.are_equal(cleared, other):
                        same.append((row, other))
                    else:
                        changed.append(table.key_of(other))
                yield same, changed

    async def _open_cycle(self, table: MovedTable) -> None:
        """Let the rows refer to nothing in the columns that were filled last."""
        async with aclosing(self._unchanged(table)) as chunks:
            async for same, _ in chunks:
                cleared = table.without_postponed([row for _, row in same])
                await self._target.upsert(table.pair.target, cleared)

    async def _close_cycle(self, table: MovedTable) -> None:
        """Let the rows that are kept refer to what they did, where it is still there."""
        async with aclosing(self._unchanged(table)) as chunks:
            async for same, _ in chunks:
                await self._target.upsert(table.pair.target, [row for row, _ in same])

    async def _delete_rows(self, table: MovedTable) -> AsyncIterator[Kept]:
        selection = table.pair.target
        referrers = self._referrers.of(table)
        if any(each.table == selection.table.name for each in referrers):
            while await self._delete_unreferred(table):
                pass
        with KeySet() as seen:
            async with aclosing(self._unchanged(table)) as chunks:
                async for same, changed in chunks:
                    keys = [table.key_of(row) for _, row in same]
                    await delete_by_halves(self._target, selection, keys, referrers)
                    used = list(await self._target.rows(selection, keys))
                    seen.add([*used, *changed])
                    for key in changed:
                        yield _kept(table, key, "changed since the move")
                    for key in used:
                        yield _kept(table, key, "in use by rows that the move did not write")
            written = WrittenKeys(self._journal, table)
            reason = "gone from the source" if table.plan.merge else "not of the move"
            async with aclosing(self._target.read(selection)) as rest:
                async for chunk in rest:
                    keys = [table.key_of(row) for row in chunk.rows if row in written]
                    for key in seen.missing(keys):
                        yield _kept(table, key, reason)

    async def _delete_unreferred(self, table: MovedTable) -> int:
        """Delete the rows to which none of their own table refers; return how many there were."""
        deleted = 0
        referrers = self._referrers.of(table)
        async with aclosing(self._unchanged(table)) as chunks:
            async for same, _ in chunks:
                keys = [table.key_of(row) for _, row in same]
                deleted += await delete_by_halves(self._target, table.pair.target, keys, referrers)
        return deleted

    async def _delete_all(self, table: MovedTable) -> AsyncIterator[Kept]:
        """Delete the rows of a table without a key, if they are all as the source has them."""
        fingerprints = await read_fingerprints(table, self._source, self._target)
        if fingerprints.are_equal:
            await self._target.clear(table.pair.target.table)
        elif fingerprints.target.rows:
            reason = f"{fingerprints.target.rows} rows that differ, and no key tells which"
            yield Kept(table.name, "all", reason)


def _kept(table: MovedTable, key: Key, reason: str) -> Kept:
    return Kept(table.name, ", ".join(key), reason)
