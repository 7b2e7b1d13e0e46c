"""Reads the log of changes of a Postgres, over whatever connection."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from amphibase.records.change_log import Entry, LogRead, Position

ENTRIES_AT_A_TIME = 500
MAX_POSITION_CHARACTERS = 2000

Row = Mapping[str, Any]


class ReadChanges(Protocol):
    """Calls the function `read_changes` of the database."""

    async def __call__(self, **arguments: Any) -> Sequence[Row]:
        """Return its rows, at least one.

        Args:
            arguments: by the names of its parameters.
        """


class SnapshotLog:
    """The log of a Postgres database.

    A number of a sequence is taken before its transaction commits, so entries do not become visible
    in the order of their ids. A position is therefore a snapshot, and what follows it are the
    entries that it does not see and a later snapshot does; within one, as far as the last entry
    that was read: `(after, until, transaction, id)`.

    Args:
        poll_seconds: how often to look whether another process has written.
        max_bytes: the most bytes that the earlier rows of a read have together, if it has more than
            one entry.
    """

    def __init__(self, read_changes: ReadChanges, poll_seconds: float, max_bytes: int) -> None:
        self._read_changes = read_changes
        self._max_bytes = max_bytes
        self.poll_seconds = poll_seconds

    async def position(self) -> Position:
        return _whole((await self._rows((None, None, None, None)))[0]["snapshot"])

    async def read(self, after: Position, until: Position | None = None) -> LogRead:
        if len(after) != 4 or not isinstance(after[0], str):
            end = await self.position()
            return LogRead((), end, end, lost=True)
        snapshot, until_snapshot, transaction, entry_id = after
        if until_snapshot is None and until is not None:
            until_snapshot = until[0]
        rows = await self._rows((snapshot, until_snapshot, transaction, entry_id))
        current = _whole(rows[0]["snapshot"])
        if rows[0]["lost"]:
            return LogRead((), current, current, lost=True)
        end = current if until_snapshot is None else _whole(until_snapshot)
        if rows[0]["id"] is None:
            return LogRead((), end, end)
        position = end
        if rows[0]["found"] > len(rows) or len(rows) == ENTRIES_AT_A_TIME:
            position = (snapshot, end[0], rows[-1]["transaction"], rows[-1]["id"])
        # In a snapshot the ids are in the order in which the rows were locked.
        return LogRead([*map(_entry, sorted(rows, key=lambda row: row["id"]))], position, end)

    def short(self, position: Position) -> Position:
        after: str = position[0]
        if len("".join(map(str, position))) <= MAX_POSITION_CHARACTERS:
            return position
        oldest = after.partition(":")[0]  # a snapshot that sees what ended before all that ran
        return _whole(f"{oldest}:{oldest}:")

    async def _rows(self, after: Position) -> Sequence[Row]:
        after_snapshot, until_snapshot, after_transaction, after_id = after
        return await self._read_changes(
            after_snapshot=after_snapshot,
            until_snapshot=until_snapshot,
            after_transaction=after_transaction,
            after_id=after_id,
            size=ENTRIES_AT_A_TIME,
            max_bytes=self._max_bytes,
        )


def _whole(snapshot: str) -> Position:
    return snapshot, None, None, None


def _entry(row: Row) -> Entry:
    key = json.loads(row["key"] or "[]", parse_float=Decimal)
    return Entry(row["table_name"], row["operation"], tuple(key), row["old"])
