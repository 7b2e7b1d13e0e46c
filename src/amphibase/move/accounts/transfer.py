"""Accounts from a side to another, whatever the two are.

Which rows the move has written stands in the journal before they are written; a row is written by
its key, and only once. So a run that was killed at any moment goes on where it was, and `undo`
knows what was there before.
"""

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from amphibase.move.accounts.base import AccountSource, AccountTarget, RejectedAccount
from amphibase.move.accounts.rows import (
    AuthTable,
    Values,
    digest,
    journal_name,
    key_of,
    prepared,
)
from amphibase.move.context import MoveContext
from amphibase.move.stage import Kept, SideDifference, Verification

POSITION = "accounts position"
HELD = "accounts held"
"""Of a table: whether the target held rows when the move began."""

MOVED = "accounts moved"
"""Of the rows that the move has written: a mark of the hash that was sent."""

LOOKUP = 1000
"""How many rows are found by their keys at once."""

PARENTS = {
    AuthTable.IDENTITIES: (AuthTable.USERS, "user_id"),
    AuthTable.FACTORS: (AuthTable.USERS, "user_id"),
    AuthTable.SESSIONS: (AuthTable.USERS, "user_id"),
    AuthTable.CLAIMS: (AuthTable.SESSIONS, "session_id"),
    AuthTable.REFRESH_TOKENS: (AuthTable.SESSIONS, "session_id"),
}

SECRETS = ("encrypted_password", "secret", "token", "parent", "refresh_token_hmac_key")


@dataclass(frozen=True, slots=True)
class Change:
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
        lost: keys of rows that the move has written and the source has no more.
    """

    changes: list[Change] = field(default_factory=list)
    missing: list[Values] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


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
        self._left_out = frozenset(left_out)
        self._journal = context.journal
        self._quarantine = context.quarantine
        self._progress = context.progress

    async def run(self) -> None:
        """Write what the target lacks, from where an earlier run ended."""
        for table in self._tables:
            if columns := await self._columns(table):
                await self._copy(table, columns)

    async def _copy(self, table: AuthTable, columns: frozenset[str]) -> None:
        if self._journal.get(HELD, table) is None:
            self._journal.put(HELD, table, await self.target.count(table) > 0)
        task = f"auth.{table}"
        self._progress.start(task, await self.source.count(table), "rows")
        position = self._journal.get(POSITION, table)
        async for page in self.source.read(table, columns, position):
            await self._insert(table, await self._sent(table, page.rows))
            self._journal.put(POSITION, table, page.position)
            self._progress.advance(task, len(page.rows))
        self._progress.finish(task)

    async def reconcile(self) -> int:
        """Write what differs, and remove what the source has lost; return how many rows."""
        written = 0
        for table in self._tables:
            self._quarantine.clear(f"auth.{table}")
            async for found in self._compare(table):
                written += await self._change(table, found.changes)
                written += await self._insert(table, found.missing)
                await self.target.delete(table, found.lost)
                written += len(found.lost)
        return written

    async def verify(self) -> Verification:
        """Compare both sides."""
        verified = Verification()
        for table in self._tables:
            if not await self._columns(table):
                continue
            subject, sums = f"auth.{table}", [0, 0]
            rejected = self._quarantine.keys(subject)
            async for found in self._compare(table, sums):
                verified.differences += [
                    each for each in _differences(table, found) if (each.key,) not in rejected
                ]
            source, target = await self.source.count(table), await self.target.count(table)
            verified.counts[subject] = (source, target)
            if self.source.finds_rows and self.target.finds_rows:
                verified.checksums[subject] = (f"{sums[0]:016x}", f"{sums[1]:016x}")
        return verified

    async def marks(self) -> dict[str, str]:
        """Return the sums of the target's rows; of tables that are merged, of the move's alone."""
        marks = {}
        for table in self._tables:
            columns, total = await self._columns(table), 0
            if not columns:
                continue
            async for page in self.target.read(table, columns):
                ours = {*self._moved(table, page.rows)} if self._is_merging(table) else None
                for row in page.rows:
                    if ours is None or key_of(table, row) in ours:
                        total += digest(row, columns)
            marks[f"auth.{table}"] = f"{total % 2**64:016x}"
        return marks

    async def undo(self) -> AsyncIterator[Kept]:
        """Remove the users that the move wrote; those who were changed or used since are kept."""
        table = AuthTable.USERS
        columns = await self._columns(table)
        moved = (name for name, _ in self._journal.entries(f"{MOVED} {table}"))
        while names := [*islice(moved, LOOKUP)]:
            there = await self.target.rows(table, columns, names)
            sent = await self._sent_of(table, columns, [*there])
            used = await self.target.in_use([*there])
            removed = []
            for key, row in there.items():
                reason = used.get(key) or self._change_since(sent.get(key), row)
                if reason is None:
                    removed.append(key)
                else:
                    yield Kept("accounts", key, reason)
            await self.target.delete(table, removed)

    def _change_since(self, sent: Values | None, there: Values) -> str | None:
        """Return why a user is not as the move wrote them, or None."""
        if sent is None:
            return None
        signed_in = there.get("last_sign_in_at")
        if signed_in and signed_in != sent.get("last_sign_in_at"):
            return "has signed in since"
        names = self.target.differences(AuthTable.USERS, sent, there)
        return f"changed since: {', '.join(sorted(names))}" if names else None

    async def _insert(self, table: AuthTable, rows: Sequence[Values]) -> int:
        """Write rows that are not there, and before that into the journal that the move does."""
        known = f"{MOVED} {table}"
        new = [row for row in rows if self._journal.get(known, journal_name(table, row)) is None]
        if new and self._is_merging(table):
            keys = [key_of(table, row) for row in new]
            there = await self.target.rows(table, (table.key,), keys)
            new = [row for row in new if key_of(table, row) not in there]
        self._journal.put_all(known, {journal_name(table, row): _hash_mark(row) for row in new})
        return len(rows) - self._reject(table, await self.target.insert(table, rows))

    async def _change(self, table: AuthTable, changes: Sequence[Change]) -> int:
        """Write rows in the place of others; return how many."""
        rows, again = [], []
        for change in changes:
            if "encrypted_password" in change.columns and not self.target.finds_rows:
                # The admin API takes a hash of a new user only.
                again.append(change)
            else:
                rows.append(change.sent)
        count = len(rows) - self._reject(table, await self.target.change(table, rows))
        signed_in = [change for change in again if change.there.get("last_sign_in_at")]
        self._reject(
            table,
            [
                RejectedAccount(
                    change.sent, "has a new password on the source, and has signed in here"
                )
                for change in signed_in
            ],
        )
        replaced = [change.sent for change in again if change not in signed_in]
        await self.target.delete(table, [key_of(table, row) for row in replaced])
        self._journal.put_all(
            f"{MOVED} {table}", {journal_name(table, row): _hash_mark(row) for row in replaced}
        )
        return count + await self._insert(table, replaced)

    def _reject(self, table: AuthTable, rejected: Sequence[RejectedAccount]) -> int:
        for rejection in rejected:
            row = {name: "…" if name in SECRETS else rejection.row[name] for name in rejection.row}
            name = journal_name(table, rejection.row)
            self._quarantine.add(f"auth.{table}", [name], row, rejection.reason)
        return len(rejected)

    async def _compare(
        self, table: AuthTable, sums: list[int] | None = None
    ) -> AsyncIterator[ComparedRows]:
        """Yield how both sides differ, a part at a time.

        The side whose rows cost a request each to find is the one that is listed.

        Args:
            sums: the checksums of source and target, which are added up.
        """
        columns = await self._columns(table)
        if not columns:
            return
        if not self.source.finds_rows:
            present = 0
            async for page in self.source.read(table, columns):
                rows = await self._sent(table, page.rows)
                by_key = {key_of(table, row): row for row in rows}
                there = await self.target.rows(table, columns, [*by_key])
                found = self._compared(table, columns, by_key, there, sums)
                found.missing = [row for key, row in by_key.items() if key not in there]
                yield found
                present += len(self._moved(table, rows))
            if table is AuthTable.USERS:  # with which all else goes
                async for found in self._lost(table, present):
                    yield found
            return
        matched = 0
        async for page in self.target.read(table, columns):
            there = {key_of(table, row): row for row in page.rows}
            sent = await self._sent_of(table, columns, [*there])
            matched += len(sent)
            yield self._compared(table, columns, sent, there, sums)
        if matched < await self.source.count(table):
            async for page in self.source.read(table, columns):
                rows = await self._sent(table, page.rows)
                keys = [key_of(table, row) for row in rows]
                there = {**await self.target.rows(table, (table.key,), keys)}
                yield ComparedRows(missing=[row for row in rows if key_of(table, row) not in there])

    def _compared(
        self,
        table: AuthTable,
        columns: frozenset[str],
        sent: Mapping[str, Values],
        there: Mapping[str, Values],
        sums: list[int] | None,
    ) -> ComparedRows:
        found = ComparedRows()
        for key, row in there.items():
            mark = self._journal.get(f"{MOVED} {table}", journal_name(table, row))
            if key not in sent:
                found.lost += [key] if mark is not None else []
                continue
            if mark is None and self._is_merging(table):
                continue  # it was there before, and stays
            names = self.target.differences(table, sent[key], row)
            if "encrypted_password" not in row and mark not in (None, _hash_mark(sent[key])):
                names.append("encrypted_password")
            if names:
                found.changes.append(Change(sent[key], row, names))
            if sums is not None:
                sums[0] = (sums[0] + digest(sent[key], columns)) % 2**64
                sums[1] = (sums[1] + digest(row, columns)) % 2**64
        return found

    async def _lost(self, table: AuthTable, present: int) -> AsyncIterator[ComparedRows]:
        """Yield the rows of the target that the move has written and the source has no more.

        Args:
            present: how many of those that the move has written the source has.
        """
        there = 0
        async for page in self.target.read(table, (table.key,)):
            there += len(self._moved(table, page.rows))
        if there <= present:
            return
        async for page in self.target.read(table, (table.key,)):
            keys = self._moved(table, page.rows)
            found = await self.source.rows(table, (table.key,), keys)
            yield ComparedRows(lost=[key for key in keys if key not in found])

    def _moved(self, table: AuthTable, rows: Sequence[Values]) -> list[str]:
        """Return the keys of those rows that the move has written."""
        known = f"{MOVED} {table}"
        return [
            key_of(table, row)
            for row in rows
            if self._journal.get(known, journal_name(table, row)) is not None
        ]

    async def _sent_of(
        self, table: AuthTable, columns: frozenset[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        """Return the source's rows with these keys as the target gets them."""
        rows = await self.source.rows(table, columns, keys)
        return {key_of(table, row): row for row in await self._sent(table, [*rows.values()])}

    async def _sent(self, table: AuthTable, rows: Sequence[Values]) -> list[Values]:
        """Return rows as the target gets them; of what a user has who was there before, none."""
        names = await self.target.columns(table)
        moving = [row for row in rows if self._moves_with_parent(table, row)]
        sent = [prepared(table, row, names) for row in moving]
        return [row for row in sent if self.target.takes(table, row)]

    def _moves_with_parent(self, table: AuthTable, row: Values) -> bool:
        if (row.get("user_id") if table in PARENTS else row["id"]) in self._left_out:
            return False
        if table not in PARENTS or not self._is_merging(AuthTable.USERS):
            return True
        parent, column = PARENTS[table]
        return self._journal.get(f"{MOVED} {parent}", str(row[column])) is not None

    def _is_merging(self, table: AuthTable) -> bool:
        return bool(self._journal.get(HELD, table))

    async def _columns(self, table: AuthTable) -> frozenset[str]:
        """Return the columns that are read on one side and written on the other."""
        return await self.source.columns(table) & await self.target.written_columns(table)


def _differences(table: AuthTable, found: ComparedRows) -> list[SideDifference]:
    subject = f"auth.{table}"
    changed = [
        SideDifference(
            subject,
            journal_name(table, change.sent),
            f"differs: {', '.join(sorted(change.columns))}",
        )
        for change in found.changes
    ]
    missing = [
        SideDifference(subject, journal_name(table, row), "is missing on the target")
        for row in found.missing
    ]
    lost = [SideDifference(subject, key, "is gone from the source") for key in found.lost]
    return [*changed, *missing, *lost]


def _hash_mark(row: Values) -> str:
    """Return what tells a user's hash from a later one, and does not help to guess the password."""
    return hashlib.sha256((row.get("encrypted_password") or "").encode()).hexdigest()[:8]
