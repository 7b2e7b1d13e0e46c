"""Reads the log of changes of a Postgres, over whatever connection."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from amphibase.records.change_log import Entry, LogRead, Position

ENTRIES_AT_A_TIME = 500
MAX_POSITION_CHARACTERS = 2000

Row = Mapping[str, Any]


class ReadChanges(Protocol):
    """Calls the function `read_changes` of the database."""

    async def __call__(self, **arguments: Any) -> Sequence[Row]:
        """Return its rows, at least one; `found` is how many there are where some are left out.

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
    """

    def __init__(self, read_changes: ReadChanges, poll_seconds: float) -> None:
        self._read_changes = read_changes
        self.poll_seconds = poll_seconds

    async def position(self) -> Position:
        return (await self._rows((None, None, None, None)))[0]["snapshot"], None, None, None

    async def read(self, after: Position) -> LogRead:
        if len(after) != 4 or not isinstance(after[0], str):
            return LogRead((), await self.position(), lost=True)
        rows = await self._rows(after)
        current: str = rows[0]["snapshot"]
        if rows[0]["lost"]:
            return LogRead((), (current, None, None, None), lost=True)
        if rows[0]["id"] is None:
            return LogRead((), after)
        until: str = after[1] or current
        position: Position = (until, None, None, None)
        if rows[0].get("found", len(rows)) > len(rows) or len(rows) == ENTRIES_AT_A_TIME:
            position = (after[0], until, rows[-1]["transaction"], rows[-1]["id"])
        # In a snapshot the ids are in the order in which the rows were locked.
        return LogRead([*map(_entry, sorted(rows, key=lambda row: row["id"]))], position)

    def short(self, position: Position) -> Position:
        after: str = position[0]
        if len("".join(map(str, position))) <= MAX_POSITION_CHARACTERS:
            return position
        oldest = after.partition(":")[0]  # a snapshot that sees what ended before all that ran
        return (f"{oldest}:{oldest}:", None, None, None)

    async def _rows(self, after: Position) -> Sequence[Row]:
        after_snapshot, until_snapshot, after_transaction, after_id = after
        return await self._read_changes(
            after_snapshot=after_snapshot,
            until_snapshot=until_snapshot,
            after_transaction=after_transaction,
            after_id=after_id,
            size=ENTRIES_AT_A_TIME,
        )


def _entry(row: Row) -> Entry:
    return Entry(
        row["table_name"], row["operation"], tuple(json.loads(row["key"] or "[]")), row["old"]
    )
