"""What the journal knows of the rows of accounts that a move has written.

A row that is as the move wrote it may be changed or deleted; every other one is the target's own.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from amphibase.move.accounts.base import AccountTarget
from amphibase.move.accounts.rows import AuthTable, Values, journal_name
from amphibase.move.journal import Journal

MOVED = "accounts moved"
"""Of a table's rows that the move has written: their marks."""


@dataclass(frozen=True, slots=True)
class AccountMark:
    """What tells whether a row has changed since it was written.

    Args:
        password: of the hash that was sent; it does not help to guess the password.
        rows: of the row as it was sent, and as it was sent before: a kill may have come between.
    """

    password: str
    rows: tuple[str, ...]


class AccountMarks:
    """The marks of the rows that one move has written to a target."""

    def __init__(self, journal: Journal, target: AccountTarget) -> None:
        self._journal = journal
        self._target = target

    def get(self, table: AuthTable, row: Values) -> AccountMark | None:
        """Return the mark of a row, None of one that the move has not written."""
        return self.find(table, journal_name(table, row))

    def find(self, table: AuthTable, name: str) -> AccountMark | None:
        """Return the mark of a row by its name in the journal."""
        entry = self._journal.get(f"{MOVED} {table}", name)
        return None if entry is None else AccountMark(entry["password"], tuple(entry["rows"]))

    def put(self, table: AuthTable, rows: Sequence[Values], columns: Collection[str]) -> None:
        """Mark rows that are about to be written."""
        entries = {}
        for row in rows:
            known = self.get(table, row)
            digest = self._target.digest(table, row, columns)
            earlier = [each for each in (known.rows if known else ()) if each != digest]
            entries[journal_name(table, row)] = {
                "password": password_mark(row),
                "rows": [*earlier[-1:], digest],
            }
        self._journal.put_all(f"{MOVED} {table}", entries)

    def delete(self, table: AuthTable, rows: Sequence[Values]) -> None:
        """Forget rows that could not be written."""
        for row in rows:
            self._journal.delete(f"{MOVED} {table}", journal_name(table, row))

    def names(self, table: AuthTable) -> Iterator[str]:
        """Yield the names in the journal of all rows of a table that the move has written."""
        return (name for name, _ in self._journal.entries(f"{MOVED} {table}"))

    def is_unchanged(
        self, table: AuthTable, there: Values, mark: AccountMark, columns: Collection[str]
    ) -> bool:
        """Return whether a row of the target is as the move wrote it."""
        return self._target.digest(table, there, columns) in mark.rows


def password_mark(row: Values) -> str:
    """Return what tells a user's hash from a later one, and does not help to guess the password."""
    hashed = (row.get("encrypted_password") or "").encode(errors="surrogatepass")
    return hashlib.sha256(hashed).hexdigest()[:8]
