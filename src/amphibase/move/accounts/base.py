"""What the stage of accounts needs of a side: a database, a project's API, or a table of users."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from amphibase.move.accounts.rows import AuthTable, Values


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows that are read together.

    Args:
        position: from where the rows after them are read.
    """

    rows: Sequence[Values]
    position: str


async def pages_by_id(
    columns: Collection[str],
    after: str | None,
    fetch: Callable[[Sequence[str], str | None], Awaitable[list[Values]]],
) -> AsyncIterator[RowPage]:
    """Yield the rows of a database by their ids, a page at a time.

    Args:
        columns: that the rows have; the id is read with them in any case.
        fetch: reads these columns of the rows after an id, in its order, or of the first.
    """
    names = [*dict.fromkeys([*columns, "id"])]
    while rows := await fetch(names, after):
        after = str(rows[-1]["id"])
        if "id" not in columns:
            for row in rows:
                del row["id"]
        yield RowPage(rows, after)


@dataclass(frozen=True, slots=True)
class RejectedAccount:
    """A row that the side did not take, and why."""

    row: Values
    reason: str


class AccountSource(Protocol):
    """Reads the accounts of a side.

    Attributes:
        finds_rows: whether rows are found by their keys for less than a request each.
    """

    finds_rows: bool

    async def columns(self, table: AuthTable) -> frozenset[str]:
        """Return which columns there are to read, none where the side has no such rows."""

    async def count(self, table: AuthTable) -> int:
        """Count the rows."""

    def read(
        self, table: AuthTable, columns: Collection[str], after: str | None = None
    ) -> AsyncIterator[RowPage]:
        """Yield all rows, or those after a position."""

    async def rows(
        self, table: AuthTable, columns: Collection[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        """Return the rows with these keys, as far as there are any."""

    async def close(self) -> None:
        """Close the connections."""


class AccountTarget(AccountSource, Protocol):
    """Writes the accounts of a side; each method may be repeated."""

    async def written_columns(self, table: AuthTable) -> frozenset[str]:
        """Return which columns can be written; not all of them can be read."""

    def takes(self, table: AuthTable, row: Values) -> bool:
        """Return whether the side can hold a row at all; what it cannot is named, not rejected."""

    async def insert(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        """Write rows; one whose key is there already stays as it is."""

    async def change(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        """Write rows in the place of those with the same keys."""

    async def delete(self, table: AuthTable, keys: Sequence[str]) -> None:
        """Delete the rows with these keys."""

    async def firing_triggers(self) -> Sequence[str]:
        """Return the triggers that people made and that fire for users who arrive."""

    async def in_use(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return which users other rows refer to, and what these rows are."""

    def differences(self, table: AuthTable, sent: Values, there: Values) -> list[str]:
        """Return in which columns a row is another than the one that was sent."""

    def digest(self, table: AuthTable, row: Values, columns: Collection[str]) -> str:
        """Return what a row that was sent shares with the same row as the side shows it, until
        somebody changes it."""
