"""Verifies a table of the plan: reads both sides again and compares every row."""

from contextlib import aclosing

from amphibase.move.context import MoveContext
from amphibase.move.journal import Journal
from amphibase.move.plan import NotMoved
from amphibase.move.stage import SideDifference, Verification
from amphibase.move.tables.compare import RowDifference
from amphibase.move.tables.comparison import TableComparison, compare
from amphibase.move.tables.merge import WrittenKeys
from amphibase.move.tables.moved_table import MovedTable
from amphibase.move.tables.sequences import COUNTER, counter_statement, counters_behind
from amphibase.move.tables.sides import Sides, counters_of

MAX_NAMED = 100
"""Rows of a table that a verification names; of more, it counts them."""


class TableVerification:
    """Compares tables, one after the other.

    Args:
        verified: gets what each shows.
    """

    def __init__(self, sides: Sides, context: MoveContext, verified: Verification) -> None:
        self._sides = sides
        self._context = context
        self._verified = verified

    async def verify(self, table: MovedTable) -> None:
        """Compare the rows of a table, how many each side counts, and its counters."""
        await self._verify_rows(table)
        await self._verify_counters(table)

    async def _verify_rows(self, table: MovedTable) -> None:
        sides, verified = self._sides, self._verified
        before = await _counts(table, sides)
        async with compare(table, sides.source, sides.target) as comparison:
            verified.counts[table.name] = comparison.counts
            verified.checksums[table.name] = comparison.checksums
            verified.marks[table.name] = await mark_of(
                table, sides, comparison, self._context.journal
            )
            if table.plan.merge or self._context.quarantine.keys(table.name):
                verified.partial.add(table.name)
            if not comparison.are_equal:
                await self._name_differences(table, comparison)
        after = await _counts(table, sides)
        for read, *counted in zip(comparison.counts, before, after, strict=True):
            if not min(counted) <= read <= max(counted):
                message = f"{read} rows were read, where {counted[1]} are counted"
                verified.differences.append(SideDifference(table.name, None, message))

    async def _verify_counters(self, table: MovedTable) -> None:
        source, target = counters_of(self._context.source), counters_of(self._context.target)
        if target is None:
            if statement := counter_statement(table.pair.target):
                what = f"the counter of {table.name}"
                self._verified.not_moved.append(
                    NotMoved(what=what, reason=COUNTER.format(statement))
                )
            return
        for column in await counters_behind(source, target, table.pair):
            message = f"the counter of {column} is behind; run again"
            self._verified.differences.append(SideDifference(table.name, None, message))

    async def _name_differences(self, table: MovedTable, comparison: TableComparison) -> None:
        verified = self._verified
        if not table.plan.key:
            message = "the rows differ; the table has no key by which to name them"
            verified.differences.append(SideDifference(table.name, None, message))
            return
        written = WrittenKeys(self._context.journal, table)
        quarantined = self._context.quarantine.keys(table.name)
        number = 0
        async with aclosing(comparison.differences()) as differing:
            async for differences in differing:
                for difference in differences:
                    if difference.key in quarantined or written.explains(difference):
                        continue
                    number += 1
                    if number <= MAX_NAMED:
                        verified.differences.append(_named(table, difference))
        if number > MAX_NAMED:
            message = f"{number - MAX_NAMED} more rows differ"
            verified.differences.append(SideDifference(table.name, None, message))


async def mark_of(
    table: MovedTable, sides: Sides, comparison: TableComparison, journal: Journal
) -> str:
    """Return the checksum of what the move has written to the target's table."""
    if table.plan.merge:
        return await WrittenKeys(journal, table).mark(sides.target)
    return comparison.mark


async def _counts(table: MovedTable, sides: Sides) -> tuple[int, int]:
    """Return the rows of the source and of the target, as each counts them itself."""
    pair = table.pair
    return (
        await sides.source.count(pair.source.table),
        await sides.target.count(pair.target.table),
    )


def _named(table: MovedTable, difference: RowDifference) -> SideDifference:
    message = difference.message
    if difference.source is not None and difference.target is not None:
        rows = table.comparable([difference.source, difference.target])
        compared = zip(table.pair.target.columns, *rows, strict=True)
        message += f": {', '.join(name for name, here, there in compared if here != there)}"
    return SideDifference(table.name, ", ".join(difference.key), message)
