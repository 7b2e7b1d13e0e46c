"""The stage of tables: their rows, in the order of their foreign keys."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from sqlalchemy.engine import URL

from amphibase.errors import AmphibaseError, MoveFailed
from amphibase.move.context import MoveContext
from amphibase.move.stage import (
    Kept,
    Outcome,
    PreflightCheck,
    SideDifference,
    Verification,
    task_of,
)
from amphibase.move.tables.comparison import compare
from amphibase.move.tables.constraint_definitions import INDEX, TakenOff
from amphibase.move.tables.constraints import Constraints
from amphibase.move.tables.copy import copy_table
from amphibase.move.tables.direct import copy_directly, passes_through, postgres_url
from amphibase.move.tables.mapping_tables import (
    create_mapping_tables,
    drop_mapping_tables,
    mapping_tables,
    missing_mapping_tables,
)
from amphibase.move.tables.moved_table import MovedTable, in_order, moved_tables
from amphibase.move.tables.passthrough import forget_ranges
from amphibase.move.tables.reconcile import RECONCILE, Reconciliation
from amphibase.move.tables.referrers import Referrers
from amphibase.move.tables.sequences import (
    COUNTER,
    advance_counters,
    advance_sequences,
    counter_statement,
    sequences_behind,
)
from amphibase.move.tables.sides import Sides, counters_of, open_tables
from amphibase.move.tables.sqlite import SqliteTables
from amphibase.move.tables.sqlite_catalog import rowid_of
from amphibase.move.tables.triggers import restore_triggers, triggers_off
from amphibase.move.tables.undo import Undo
from amphibase.move.tables.verification import TableVerification, mark_of


class TablesStage:
    """Moves the tables that a plan names."""

    name = "tables"

    def __init__(self, context: MoveContext) -> None:
        self._context = context
        self._opened = AsyncExitStack()
        self._sides: Sides | None = None

    async def check(self) -> list[PreflightCheck]:
        """Look at the tables of both sides: their keys, their order, and whether the target's are
        empty."""
        try:
            sides = await self._open()
            return [check async for check in self._checks(sides)]
        except AmphibaseError as error:
            return [PreflightCheck(Outcome.FAIL, self.name, str(error))]

    async def run(self) -> None:
        """Copy what is not on the target yet."""
        sides = await self._open()
        if sides.missing:
            context = self._context
            await create_mapping_tables(context.target, sides.missing, context.journal)
            await self.close()
            sides = await self._open()
        direct = [table for table in sides.tables if passes_through(table, self._context)]
        async with self._triggers_off(sides):
            async with self._cycles_open(sides):
                for table in sides.tables:
                    if table not in direct:
                        await copy_table(table, sides.source, sides.target, self._context)
            if direct:
                await copy_directly(direct, self._context)
            if sides.taken_off:
                await self._put_back()

    async def reconcile(self) -> int:
        """Copy what has changed on the source, and delete what it has lost."""
        sides = await self._open()
        self._context.progress.start(RECONCILE, len(sides.tables), "tables")
        async with self._triggers_off(sides):
            changes = await Reconciliation(
                sides.source, sides.target, sides.tables, sides.referrers, self._context
            ).run()
        if (target := counters_of(self._context.target)) is not None:
            pairs = [table.pair for table in sides.tables]
            await advance_counters(counters_of(self._context.source), target, pairs)
        if sides.sequences:
            await advance_sequences(*self._databases(), sides.sequences)
        return changes

    async def verify(self) -> Verification:
        """Read both sides again and compare every row."""
        sides = await self._open()
        verified = Verification()
        task = task_of(self.name, "verify")
        self._context.progress.start(task, len(sides.tables), "tables")
        verification = TableVerification(sides, self._context, verified)
        for table in sides.tables:
            await verification.verify(table)
            self._context.progress.advance(task, 1)
        if sides.sequences:
            for sequence in await sequences_behind(*self._databases(), sides.sequences):
                message = "the sequence is behind; run again"
                verified.differences.append(SideDifference(str(sequence), None, message))
        for part in self._taken_off():
            message = f"{part.name} is not back on the target; run again"
            verified.differences.append(SideDifference(str(part.table), None, message))
        return verified

    async def marks(self) -> dict[str, str]:
        """Return the checksums of the target's tables."""
        sides = await self._open()
        marks = {}
        for table in sides.tables:
            async with compare(table, sides.source, sides.target) as comparison:
                marks[table.name] = await mark_of(table, sides, comparison, self._context.journal)
        return marks

    async def undo(self) -> AsyncIterator[Kept]:
        """Delete the rows that are as the source has them; yield the others, which are kept."""
        if (database := self._context.target.database) is not None:
            await restore_triggers(database, self._context.journal)
        await self._put_back()
        sides = await self._open()
        undo = Undo(
            sides.source, sides.target, sides.tables, sides.referrers, self._context.journal
        )
        number = 0
        # Also triggers: one that counts changes would make rows others than those of the move.
        async with self._triggers_off(sides):
            async for kept in undo.run():
                number += 1
                yield kept
        if not number:
            await drop_mapping_tables(self._context.target, self._context.journal)
            await self.close()

    async def finish(self) -> None:
        """Remove the checkpoints."""
        sides = await self._open()
        await sides.target.forget_checkpoints()
        if (target := postgres_url(self._context.target)) is not None:
            await forget_ranges(target, self._context.plan.name)

    async def close(self) -> None:
        """Close the connections."""
        await self._opened.aclose()
        self._sides = None

    async def _open(self) -> Sides:
        if self._sides is None:
            context = self._context
            plan = context.plan
            source = await self._opened.enter_async_context(open_tables(context.source, plan.name))
            target = await self._opened.enter_async_context(
                open_tables(context.target, plan.name, context.journal)
            )
            own, other = await source.catalog(), await target.catalog()
            over_api = context.target.database is None
            tables = mapping_tables(plan, own, other)
            tables += moved_tables(plan, own, other, over_api=over_api)
            missing = missing_mapping_tables(plan, other)
            sequences = [
                name
                for name in own.sequences
                if str(name) in plan.sequences and name in other.sequences
            ]
            self._sides = Sides(
                source,
                target,
                *in_order(tables),
                Referrers(other),
                missing,
                sequences,
                self._taken_off(),
            )
            if self._sides.unsatisfied and isinstance(target, SqliteTables):
                await target.ignore_foreign_keys()
        return self._sides

    def _databases(self) -> tuple[URL, URL]:
        source, target = self._context.source.database, self._context.target.database
        assert source is not None
        assert target is not None
        return source, target

    def _taken_off(self) -> list[TakenOff]:
        target = postgres_url(self._context.target)
        return [] if target is None else Constraints(target, self._context.journal).taken_off()

    async def _put_back(self) -> None:
        """Put keys and foreign keys back on the target, and read its tables anew with them."""
        if (target := postgres_url(self._context.target)) is not None:
            await Constraints(target, self._context.journal, self._context.progress).put_back()
        await self.close()

    async def _checks(self, sides: Sides) -> AsyncIterator[PreflightCheck]:
        is_over_api = self._context.target.database is None
        without_keys = {part.table for part in sides.taken_off if part.kind == INDEX}
        for foreign_key in sides.unsatisfied if is_over_api else ():
            message = (
                f"{foreign_key} closes a cycle of tables that refer to one another, of which no "
                "column may be NULL: let one be NULL for the move, or give the database's URL, by "
                "which the constraint is taken off meanwhile"
            )
            yield PreflightCheck(Outcome.FAIL, self.name, message)
        if sides.missing and is_over_api:
            for name in sides.missing:
                message = (
                    "the new ids are not written down, as the Data API creates no table: create it "
                    "with the columns old_id (text, the key) and new_id (uuid)"
                )
                yield PreflightCheck(Outcome.WARN, str(name), message)
        for table in sides.tables:
            if table.without_null:
                message = (
                    "the value null of JSON columns becomes NULL: the Data API writes no other"
                )
                yield PreflightCheck(Outcome.WARN, table.name, message)
            if is_over_api and (statement := counter_statement(table.pair.target)):
                message = f"its counter does not move: {COUNTER.format(statement)}"
                yield PreflightCheck(Outcome.WARN, table.name, message)
            if reason := await sides.target.write_error(table.pair.target):
                message = (
                    f"the target does not take the plan's columns: {reason}. Take a generated "
                    "column off the plan; let an identity be GENERATED BY DEFAULT for the move, or "
                    "give the database's URL"
                )
                yield PreflightCheck(Outcome.FAIL, table.name, message)
            target = table.pair.target.table
            for message in _key_errors(table) if target.name not in without_keys else ():
                yield PreflightCheck(Outcome.FAIL, table.name, message)
            rows = await sides.target.count(target)
            if rows and not table.plan.merge and not self._has_begun(table):
                message = (
                    f"{target.name} has {rows} rows on the target: empty it, or set merge = true, "
                    "by which they stay"
                )
                yield PreflightCheck(Outcome.FAIL, table.name, message)

    @asynccontextmanager
    async def _triggers_off(self, sides: Sides) -> AsyncIterator[None]:
        target = self._context.target.database
        if target is None:
            yield
            return
        triggers = {
            table.pair.target.table.name: [
                name
                for name in table.pair.target.table.triggers
                if table.plan.triggers.get(name, "off") == "off"
            ]
            for table in sides.tables
        }
        async with triggers_off(target, sides.target, self._context.journal, triggers):
            yield

    @asynccontextmanager
    async def _cycles_open(self, sides: Sides) -> AsyncIterator[None]:
        """Take foreign keys off that no order satisfies, while rows are copied."""
        target = postgres_url(self._context.target)
        if target is None or not sides.unsatisfied:
            yield
            return
        constraints = Constraints(target, self._context.journal, self._context.progress)
        loaded = [
            table.pair.target.table.name
            for table in sides.tables
            if not table.plan.merge and not passes_through(table, self._context)
        ]
        await constraints.take_off(loaded, large=())
        try:
            yield
        except Exception:
            with suppress(AmphibaseError):  # the first error says more
                await constraints.put_back(deletes=False)
            raise
        await constraints.put_back()

    def _has_begun(self, table: MovedTable) -> bool:
        return self._context.journal.get("table", table.name) is not None


def _key_errors(table: MovedTable) -> Iterator[str]:
    selection = table.pair.target
    if not selection.key:
        if table.plan.merge:
            yield "has no key, so that its rows cannot be told from those of the target"
        for side in (table.pair.source.table, selection.table):
            if side.name.schema is None:
                try:
                    rowid_of(side)
                except MoveFailed as error:
                    yield str(error)
        return
    if not any(set(key) == set(selection.key) for key in selection.table.unique_keys):
        yield (
            f"the target's {', '.join(selection.key)} is not unique by a constraint, so that a row "
            "could arrive twice: add one, or choose another key in the plan"
        )
