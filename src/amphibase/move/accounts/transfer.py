"""Accounts from a side to another, whatever the two are.

Which rows the move has written stands in the journal before they are written; a row is written by
its key, and only once. So a run that was killed at any moment goes on where it was, and `undo`
knows what was there before.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from itertools import islice

from amphibase.move.accounts.base import AccountSource, AccountTarget, RejectedAccount
from amphibase.move.accounts.comparison import (
    HELD,
    AccountComparison,
    ChangedRow,
    ComparedRows,
    ComparedTotals,
    listed,
)
from amphibase.move.accounts.marks import AccountMarks
from amphibase.move.accounts.rows import AuthTable, Values, digest, journal_name, key_of
from amphibase.move.context import MoveContext
from amphibase.move.stage import Kept, SideDifference, Verification

POSITION = "accounts position"
LOOKUP = 1000
"""How many rows are found by their keys at once."""

SECRETS = ("encrypted_password", "secret", "token", "parent", "refresh_token_hmac_key")


class AccountTransfer:
    """Moves the rows of some tables of accounts.

    Args:
        tables: in the order in which they refer to one another.
        left_out: ids of users who do not move, few.
    """

    def __init__(
        self,
        source: AccountSource,
        target: AccountTarget,
        tables: Sequence[AuthTable],
        context: MoveContext,
        left_out: Collection[str] = (),
    ) -> None:
        self.source = source
        self.target = target
        self._tables = tables
        self._journal = context.journal
        self._marks = AccountMarks(context.journal, target)
        self._comparison = AccountComparison(source, target, context, self._marks, left_out)
        self._quarantine = context.quarantine
        self._progress = context.progress

    async def run(self) -> None:
        """Write what the target lacks, from where an earlier run ended."""
        for table in self._tables:
            if columns := await self._comparison.columns(table):
                await self._copy(table, columns)

    async def _copy(self, table: AuthTable, columns: frozenset[str]) -> None:
        if self._journal.get(HELD, table) is None:
            self._journal.put(HELD, table, await self.target.count(table) > 0)
        task = f"auth.{table}"
        self._progress.start(task, await self.source.count(table), "rows")
        position = self._journal.get(POSITION, table)
        async for page in self.source.read(table, columns, position):
            await self._insert(table, await self._comparison.sent(table, page.rows))
            self._journal.put(POSITION, table, page.position)
            self._progress.advance(task, len(page.rows))
        self._progress.finish(task)

    async def reconcile(self) -> int:
        """Write what differs, and remove what the source has lost; return how many rows.

        What somebody has changed on the target stays, unless the run overwrites it; and so do users
        to whom rows there refer.
        """
        written = 0
        for table in self._tables:
            self._quarantine.clear(f"auth.{table}")
            async for found in self._comparison.compare(table):
                written += await self._change(table, found.changes)
                written += await self._insert(table, found.missing)
                written += await self._delete(table, found.lost)
        return written

    async def verify(self) -> Verification:
        """Compare both sides."""
        verified = Verification()
        for table in self._tables:
            if not await self._comparison.columns(table):
                continue
            subject, totals = f"auth.{table}", ComparedTotals()
            rejected = self._quarantine.keys(subject)
            async for found in self._comparison.compare(table, totals):
                verified.differences += [
                    each for each in _differences(table, found) if (each.key,) not in rejected
                ]
            verified.counts[subject] = (totals.source, totals.target)
            if rejected:
                verified.partial.add(subject)
            if self.source.finds_rows and self.target.finds_rows:
                sums = totals.source_sum, totals.target_sum
                verified.checksums[subject] = (f"{sums[0]:016x}", f"{sums[1]:016x}")
        return verified

    async def marks(self) -> dict[str, str]:
        """Return the sums of the target's rows; of tables that are merged, of the move's alone."""
        sums = {}
        for table in self._tables:
            columns, total = await self._comparison.columns(table), 0
            if not columns:
                continue
            is_merging = self._comparison.is_merging(table)
            async for page in self.target.read(table, columns):
                for row in page.rows:
                    if not is_merging or self._marks.get(table, row) is not None:
                        total += digest(row, columns)
            sums[f"auth.{table}"] = f"{total % 2**64:016x}"
        return sums

    async def undo(self) -> AsyncIterator[Kept]:
        """Remove the users that the move wrote; those who were changed or used since are kept."""
        table = AuthTable.USERS
        columns = await self._comparison.columns(table)
        moved = self._marks.names(table)
        while names := [*islice(moved, LOOKUP)]:
            there = await self.target.rows(table, columns, names)
            sent = await self._comparison.sent_of(table, columns, [*there])
            used = await self.target.in_use([*there])
            removed = []
            for key, row in there.items():
                reason = used.get(key) or self._change_since(sent.get(key), row, columns)
                if reason is None:
                    removed.append(key)
                else:
                    yield Kept("accounts", key, reason)
            await self.target.delete(table, removed)

    def _change_since(
        self, sent: Values | None, there: Values, columns: frozenset[str]
    ) -> str | None:
        """Return why a user is not as the move wrote them, or None.

        Args:
            sent: as the source has the user, None where it has them no more.
        """
        table = AuthTable.USERS
        mark = self._marks.get(table, there)
        signed_in = there.get("last_sign_in_at")
        if signed_in and not self.target.finds_rows:  # Auth sets this time by itself alone
            return "has signed in since"
        if mark is None or self._marks.is_unchanged(table, there, mark, columns):
            return None
        if sent is None:
            return "changed or used since, and is gone from the source"
        if signed_in and signed_in != sent.get("last_sign_in_at"):
            return "has signed in since"
        names = self.target.differences(table, sent, there)
        return f"changed since: {', '.join(sorted(names))}" if names else None

    async def _insert(self, table: AuthTable, rows: Sequence[Values]) -> int:
        """Write rows that are not there, and before that into the journal that the move does."""
        marked = [row for row in rows if self._marks.get(table, row) is not None]
        new = [row for row in rows if self._marks.get(table, row) is None]
        if new and self._comparison.is_merging(table):
            keys = [key_of(table, row) for row in new]
            there = await self.target.rows(table, (table.key,), keys)
            new = [row for row in new if key_of(table, row) not in there]
        self._marks.put(table, [*marked, *new], await self._comparison.columns(table))
        rejected = await self.target.insert(table, rows)
        self._marks.delete(table, [each.row for each in rejected])
        return len(rows) - self._reject(table, rejected)

    async def _change(self, table: AuthTable, changes: Sequence[ChangedRow]) -> int:
        """Write rows in the place of others; return how many."""
        rows, again = [], []
        for change in changes:
            if "encrypted_password" in change.columns and not self.target.finds_rows:
                # The admin API takes a hash of a new user only.
                again.append(change)
            else:
                rows.append(change.sent)
        self._marks.put(table, rows, await self._comparison.columns(table))
        count = len(rows) - self._reject(table, await self.target.change(table, rows))
        in_use = [
            change
            for change in again
            if change.there.get("last_sign_in_at") or self._comparison.is_finished
        ]
        reason = (
            "has a new password on the source, which the API takes of a new account only, and may "
            "be in use here"
        )
        self._reject(table, [RejectedAccount(change.sent, reason) for change in in_use])
        replaced = [change.sent for change in again if change not in in_use]
        await self.target.delete(table, [key_of(table, row) for row in replaced])
        return count + await self._insert(table, replaced)

    async def _delete(self, table: AuthTable, rows: Sequence[Values]) -> int:
        """Delete rows, but users to whom rows of other tables refer; return how many."""
        keys = [key_of(table, row) for row in rows]
        used = await self.target.in_use(keys) if keys and table is AuthTable.USERS else {}
        deleted = [row for row in rows if key_of(table, row) not in used]
        await self.target.delete(table, [key_of(table, row) for row in deleted])
        self._marks.delete(table, deleted)
        return len(deleted)

    def _reject(self, table: AuthTable, rejected: Sequence[RejectedAccount]) -> int:
        for rejection in rejected:
            row = {name: "…" if name in SECRETS else rejection.row[name] for name in rejection.row}
            name = journal_name(table, rejection.row)
            self._quarantine.add(f"auth.{table}", [name], row, rejection.reason)
        return len(rejected)


def _differences(table: AuthTable, found: ComparedRows) -> list[SideDifference]:
    subject = f"auth.{table}"
    changed = [
        SideDifference(
            subject,
            journal_name(table, change.sent),
            f"differs: {listed(change.columns)}",
        )
        for change in found.changes
    ]
    missing = [
        SideDifference(subject, journal_name(table, row), "is missing on the target")
        for row in found.missing
    ]
    lost = [
        SideDifference(subject, journal_name(table, row), "is gone from the source")
        for row in found.lost
    ]
    own = [SideDifference(subject, name, message) for name, message in found.own.items()]
    return [*changed, *missing, *lost, *own]
