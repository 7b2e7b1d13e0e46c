"""Compares the rows of accounts on both sides: what has to be written, and what stays."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from amphibase.move.accounts.base import AccountSource, AccountTarget
from amphibase.move.accounts.marks import AccountMark, AccountMarks, password_mark
from amphibase.move.accounts.rows import (
    AuthTable,
    Values,
    digest,
    journal_name,
    key_of,
    prepared,
)
from amphibase.move.context import MoveContext

HELD = "accounts held"
"""Of a table: whether the target held rows when the move began."""

FINISHED = "accounts finished"
"""Whether a run has succeeded: a row that is missing since was deleted on the target."""

PARENTS = {
    AuthTable.IDENTITIES: (AuthTable.USERS, "user_id"),
    AuthTable.FACTORS: (AuthTable.USERS, "user_id"),
    AuthTable.SESSIONS: (AuthTable.USERS, "user_id"),
    AuthTable.CLAIMS: (AuthTable.SESSIONS, "session_id"),
    AuthTable.REFRESH_TOKENS: (AuthTable.SESSIONS, "session_id"),
}

SHOWN_ALONE = (AuthTable.USERS, AuthTable.IDENTITIES, AuthTable.FACTORS)
"""Of these a row on the target alone is a difference; sessions begin with each sign-in."""


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row that differs.

    Args:
        sent: as the target should have it.
        there: as the target has it.
        columns: that differ.
    """

    sent: Values
    there: Values
    columns: list[str]


@dataclass(slots=True)
class ComparedRows:
    """How some rows of a table compare.

    Args:
        missing: rows that the target lacks.
        lost: rows that the move has written and the source has no more.
        own: what is the target's own and stays: of a row's name in the journal, how it differs.
    """

    changes: list[ChangedRow] = field(default_factory=list)
    missing: list[Values] = field(default_factory=list)
    lost: list[Values] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ComparedTotals:
    """How many rows were compared, and their checksums."""

    source: int = 0
    target: int = 0
    source_sum: int = 0
    target_sum: int = 0


class AccountComparison:
    """Finds how the tables of accounts differ.

    Args:
        left_out: ids of users who do not move, few.
    """

    def __init__(
        self,
        source: AccountSource,
        target: AccountTarget,
        context: MoveContext,
        marks: AccountMarks,
        left_out: Collection[str],
    ) -> None:
        self._source = source
        self._target = target
        self._context = context
        self._journal = context.journal
        self._marks = marks
        self._left_out = frozenset(left_out)

    @property
    def is_finished(self) -> bool:
        """Whether a run has succeeded, and what it left is not to be overwritten."""
        return self._journal.has(FINISHED, "run") and not self._context.overwrite

    async def compare(
        self, table: AuthTable, totals: ComparedTotals | None = None
    ) -> AsyncIterator[ComparedRows]:
        """Yield how both sides differ, a part at a time.

        The side whose rows cost a request each to find is the one that is listed.

        Args:
            totals: are added up.
        """
        columns = await self.columns(table)
        if not columns:
            return
        totals = totals or ComparedTotals()
        if not self._source.finds_rows:
            present = 0
            async for page in self._source.read(table, columns):
                rows = await self.sent(table, page.rows)
                there = await self._target.rows(
                    table, columns, [key_of(table, row) for row in rows]
                )
                by_key = {key_of(table, row): row for row in rows}
                found = self._compared(table, columns, by_key, there, totals)
                self._add_missing(table, found, rows, there, totals)
                yield found
                present += sum(self._marks.get(table, row) is not None for row in rows)
            if table is AuthTable.USERS:  # with which all else goes
                async for found in self._lost(table, columns, present, totals):
                    yield found
            return
        matched = 0
        async for page in self._target.read(table, columns):
            there = {key_of(table, row): row for row in page.rows}
            sent = await self.sent_of(table, columns, [*there])
            matched += len(sent)
            yield self._compared(table, columns, sent, there, totals)
        if matched < await self._source.count(table):
            async for page in self._source.read(table, columns):
                rows = await self.sent(table, page.rows)
                keys = [key_of(table, row) for row in rows]
                there = {**await self._target.rows(table, (table.key,), keys)}
                found = ComparedRows()
                self._add_missing(table, found, rows, there, totals)
                yield found

    def _compared(
        self,
        table: AuthTable,
        columns: frozenset[str],
        sent: Mapping[str, Values],
        there: Mapping[str, Values],
        totals: ComparedTotals,
    ) -> ComparedRows:
        found = ComparedRows()
        for key, row in there.items():
            mark = self._marks.get(table, row)
            if key not in sent:
                self._add_alone(table, columns, found, row, mark, totals)
                continue
            if mark is None and self.is_merging(table):
                continue  # it was there before, and stays
            names = self._target.differences(table, sent[key], row)
            if mark and "encrypted_password" not in row:
                names += ["encrypted_password"] * (mark.password != password_mark(sent[key]))
            if names and self._is_ours(table, row, mark, columns):
                found.changes.append(ChangedRow(sent[key], row, names))
            elif names:
                how = "changed on the target since" if mark else "added on the target too"
                found.own[journal_name(table, row)] = f"was {how}, and differs: {listed(names)}"
            totals.source += 1
            totals.target += 1
            totals.source_sum = (totals.source_sum + digest(sent[key], columns)) % 2**64
            totals.target_sum = (totals.target_sum + digest(row, columns)) % 2**64
        return found

    def _add_missing(
        self,
        table: AuthTable,
        found: ComparedRows,
        rows: Sequence[Values],
        there: Mapping[str, Values],
        totals: ComparedTotals,
    ) -> None:
        """Add what the target lacks: what it has had once was deleted by somebody."""
        for row in rows:
            if key_of(table, row) in there:
                continue
            totals.source += 1
            if self.is_finished and self._marks.get(table, row) is not None:
                found.own[journal_name(table, row)] = "was deleted on the target since"
            else:
                found.missing.append(row)

    def _add_alone(
        self,
        table: AuthTable,
        columns: frozenset[str],
        found: ComparedRows,
        row: Values,
        mark: AccountMark | None,
        totals: ComparedTotals,
    ) -> None:
        """Add a row that the target has, and the source has not."""
        if mark is None:
            # Over the API only users are written; Auth makes the identities by itself.
            is_shown = table in SHOWN_ALONE and (
                self._target.finds_rows or table is AuthTable.USERS
            )
            if self.is_merging(table) or not is_shown:
                return
        if self._is_ours(table, row, mark, columns):
            found.lost.append(row)
        elif mark is None:
            found.own[journal_name(table, row)] = "is on the target alone"
        else:
            reason = "is gone from the source, and was changed on the target since"
            found.own[journal_name(table, row)] = reason
        totals.target += 1

    def _is_ours(
        self, table: AuthTable, row: Values, mark: AccountMark | None, columns: frozenset[str]
    ) -> bool:
        """Return whether a row of the target may be changed or deleted."""
        if self._context.overwrite:
            return True
        return mark is not None and self._marks.is_unchanged(table, row, mark, columns)

    async def _lost(
        self, table: AuthTable, columns: frozenset[str], present: int, totals: ComparedTotals
    ) -> AsyncIterator[ComparedRows]:
        """Yield the rows of the target that the source has not.

        Args:
            present: how many of those that the move has written the source has.
        """
        moved = 0
        async for page in self._target.read(table, (table.key,)):
            moved += sum(self._marks.get(table, row) is not None for row in page.rows)
        async for page in self._target.read(table, columns):
            marks = {key_of(table, row): self._marks.get(table, row) for row in page.rows}
            # A request for each: only for those of whom some must be missing.
            keys = [key for key, mark in marks.items() if mark is None or moved > present]
            known = await self._source.rows(table, (table.key,), keys) if keys else {}
            found = ComparedRows()
            for row in page.rows:
                key = key_of(table, row)
                if key in keys and key not in known:
                    self._add_alone(table, columns, found, row, marks[key], totals)
            yield found

    async def sent_of(
        self, table: AuthTable, columns: frozenset[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        """Return the source's rows with these keys as the target gets them."""
        rows = await self._source.rows(table, columns, keys)
        return {key_of(table, row): row for row in await self.sent(table, [*rows.values()])}

    async def sent(self, table: AuthTable, rows: Sequence[Values]) -> list[Values]:
        """Return rows as the target gets them; of what a user has who was there before, none."""
        names = await self._target.columns(table)
        moving = [row for row in rows if self._moves_with_parent(table, row)]
        sent = [prepared(table, row, names) for row in moving]
        return [row for row in sent if self._target.takes(table, row)]

    def _moves_with_parent(self, table: AuthTable, row: Values) -> bool:
        if (row.get("user_id") if table in PARENTS else row["id"]) in self._left_out:
            return False
        if table not in PARENTS or not self.is_merging(AuthTable.USERS):
            return True
        parent, column = PARENTS[table]
        return self._marks.find(parent, str(row[column])) is not None

    def is_merging(self, table: AuthTable) -> bool:
        return bool(self._journal.get(HELD, table))

    async def columns(self, table: AuthTable) -> frozenset[str]:
        """Return the columns that are read on one side and written on the other."""
        return await self._source.columns(table) & await self._target.written_columns(table)


def listed(columns: Sequence[str]) -> str:
    """Return columns as text, in order."""
    return ", ".join(sorted(columns))
