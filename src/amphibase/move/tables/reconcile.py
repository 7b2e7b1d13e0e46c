"""Makes the target equal to the source again: writes what differs, deletes what is gone."""

from collections.abc import Sequence
from contextlib import ExitStack, aclosing

from amphibase.move.context import MoveContext
from amphibase.move.stage import task_of
from amphibase.move.tables.base import (
    Chunk,
    Key,
    Rejected,
    Row,
    TableReader,
    TableWriter,
)
from amphibase.move.tables.compare import KeySet
from amphibase.move.tables.comparison import compare
from amphibase.move.tables.deletions import delete_by_halves
from amphibase.move.tables.merge import WrittenKeys
from amphibase.move.tables.moved_table import MovedTable
from amphibase.move.tables.referrers import Referrers

RECONCILE = task_of("tables", "reconcile")
"""Of the progress; it counts tables."""

MAX_TRIED_AGAIN = 20_000
"""Rejected rows of a table that are tried again; more are not kept in memory."""

BATCH = 1_000
"""Keys that are deleted at once."""


class Reconciliation:
    """One round over all tables.

    A row may be rejected for one that is written, changed or deleted later in the round, in its
    table or another. So those that are rejected are tried again at the end, as long as that helps.

    Args:
        tables: in the order in which they refer to one another.
    """

    def __init__(
        self,
        source: TableReader,
        target: TableWriter,
        tables: Sequence[MovedTable],
        referrers: Referrers,
        context: MoveContext,
    ) -> None:
        self._source, self._target = source, target
        self._tables = tables
        self._referrers = referrers
        self._quarantine = context.quarantine
        self._journal = context.journal
        self._progress = context.progress
        self._unfilled: set[str] = set()
        self._rejected: dict[str, list[Rejected]] = {table.name: [] for table in tables}

    async def run(self) -> int:
        """Return how many rows were written or deleted."""
        changes = 0
        with ExitStack() as opened:
            lost = {table.name: opened.enter_context(KeySet()) for table in self._tables}
            for table in self._tables:
                self._quarantine.clear(table.name)
                if table.plan.key:
                    changes += await self._write_differences(table, lost[table.name])
                else:
                    changes += await self._copy_again(table)
                self._progress.advance(RECONCILE, 1)
            for table in self._tables:
                if table.name in self._unfilled:
                    changes += await self._write_differences(table, lost[table.name], fills=True)
            for table in self._tables:
                if table.postponed:
                    for keys in lost[table.name].batches(BATCH):
                        await self._clear_postponed(table, keys)
            for table in reversed(self._tables):
                referrers = self._referrers.beside(table, self._tables)
                for keys in lost[table.name].batches(BATCH):
                    changes += await delete_by_halves(
                        self._target, table.pair.target, keys, referrers
                    )
        while (written := await self._try_again()) > 0:
            changes += written
        for table in self._tables:
            for rejected in self._rejected[table.name]:
                self._put_aside(table, rejected)
        return changes

    async def _write_differences(
        self, table: MovedTable, lost: KeySet, *, fills: bool = False
    ) -> int:
        """Write the rows that differ, and add the keys of those that the source has lost.

        Args:
            fills: whether missing rows are written with the columns that refer to later ones.
        """
        changes = 0
        written = WrittenKeys(self._journal, table)
        async with (
            compare(table, self._source, self._target) as comparison,
            aclosing(comparison.differences()) as differing,
        ):
            async for differences in differing:
                ours = [each for each in differences if not written.explains(each)]
                new = [each.source for each in ours if each.source and not each.target]
                claimed = {*await written.claim(self._target, new)}
                ours = [each for each in ours if each.target or each.source in claimed]
                lost.add([each.key for each in ours if each.source is None])
                rows = [each.source for each in ours if each.source]
                if table.postponed and not fills:
                    missing = [each.source for each in ours if each.source and not each.target]
                    if missing:
                        self._unfilled.add(table.name)
                        changes += await self._upsert(table, table.without_postponed(missing))
                        rows = [each.source for each in ours if each.source and each.target]
                changes += await self._upsert(table, rows)
        return changes

    async def _upsert(self, table: MovedTable, rows: Sequence[Row]) -> int:
        rejected = await self._target.upsert(table.pair.target, rows) if rows else []
        for each in rejected:
            if len(self._rejected[table.name]) < MAX_TRIED_AGAIN:
                self._rejected[table.name].append(each)
            else:
                self._put_aside(table, each)
        return len(rows) - len(rejected)

    async def _copy_again(self, table: MovedTable) -> int:
        """Copy a table without a key as a whole, if it differs at all."""
        async with compare(table, self._source, self._target) as comparison:
            if comparison.are_equal:
                return 0
        await self._target.clear(table.pair.target.table)
        written = 0
        async with aclosing(self._source.read(table.pair.source)) as chunks:
            async for chunk in chunks:
                rows = table.for_target(chunk.rows)
                written += await self._insert(table, rows)
        return 0 if self._rejected[table.name] else written

    async def _insert(self, table: MovedTable, rows: Sequence[Row]) -> int:
        rejected = await self._target.insert(table.pair.target, Chunk(rows, ()))
        self._rejected[table.name] += rejected
        return len(rows) - len(rejected)

    async def _try_again(self) -> int:
        """Write the rejected rows, and return how many were taken.

        Rows that have exchanged a unique value are rejected until they are deleted first.
        """
        written = 0
        for table in self._tables:
            again, self._rejected[table.name] = self._rejected[table.name], []
            if not again or not table.plan.key:
                self._rejected[table.name] = again
                continue
            selection = table.pair.target
            conflicting = [table.key_of(each.row) for each in again if each.is_conflict]
            if conflicting:
                referrers = self._referrers.of_others(table)
                await delete_by_halves(self._target, selection, conflicting, referrers)
            written += await self._upsert(table, [each.row for each in again])
        return written

    async def _clear_postponed(self, table: MovedTable, keys: Sequence[Key]) -> None:
        """Let rows that will be deleted refer to nothing, as others in a cycle may."""
        selection = table.pair.target
        rows = list((await self._target.rows(selection, keys)).values())
        await self._target.upsert(selection, table.without_postponed(rows))

    def _put_aside(self, table: MovedTable, rejected: Rejected) -> None:
        row = dict(zip(table.pair.target.columns, rejected.row, strict=True))
        key = list(table.key_of(rejected.row))
        self._quarantine.add(table.name, key, row, rejected.reason)
