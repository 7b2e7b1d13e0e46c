"""The journal of a move, beside its plan: what has been done, and what has to be put back."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from amphibase.errors import ConfigurationError, Conflict

PAGE = 1000

KIND = """
CREATE TABLE IF NOT EXISTS entries (
    kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID
"""


class Journal:
    """Entries by kind and name, each a JSON value; an entry that was put survives a kill.

    Use it as a context manager: from beginning to end it holds the lock of its plan.
    """

    def __init__(self, plan: Path) -> None:
        self.path = plan.with_suffix(".journal")
        self._lock = FileLock(plan.with_suffix(".lock"))
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "Journal":
        """Open the journal.

        Raises:
            Conflict: another run of the same plan is under way.
            ConfigurationError: the file is not a journal.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise Conflict(f"another run of {self.path.stem} is under way") from None
        database = sqlite3.connect(self.path, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute(KIND)
        except sqlite3.DatabaseError as error:
            database.close()
            self._lock.release()
            raise _unreadable(self.path, error) from None
        self._database = database
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._lock.release()

    @property
    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the journal is not open")
        return self._database

    def put(self, kind: str, name: str, value: Any) -> None:
        """Write an entry durably, in the place of one of the same kind and name."""
        self._open.execute(
            "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (kind, name, json.dumps(value)),
        )

    def put_all(self, kind: str, entries: Mapping[str, Any]) -> None:
        """Write entries of a kind durably, all or none."""
        database = self._open
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET value = excluded.value",
                [(kind, name, json.dumps(value)) for name, value in entries.items()],
            )
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise

    def get(self, kind: str, name: str) -> Any:
        """Return an entry's value; None where it is missing."""
        row = self._open.execute(
            "SELECT value FROM entries WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def has(self, kind: str, name: str) -> bool:
        """Return whether there is an entry, whatever its value."""
        query = "SELECT 1 FROM entries WHERE kind = ? AND name = ?"
        return self._open.execute(query, (kind, name)).fetchone() is not None

    def entries(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Yield the entries of a kind, by name; those that are yielded may be deleted meanwhile."""
        query = "SELECT name, value FROM entries WHERE kind = ? AND name > ? ORDER BY name LIMIT ?"
        after = ""
        while rows := self._open.execute(query, (kind, after, PAGE)).fetchall():
            for name, value in rows:
                yield name, json.loads(value)
            after = rows[-1][0]

    def count(self, kind: str) -> int:
        """Return how many entries there are of a kind."""
        (number,) = self._open.execute(
            "SELECT count(*) FROM entries WHERE kind = ?", (kind,)
        ).fetchone()
        return int(number)

    def delete(self, kind: str, name: str) -> None:
        """Delete an entry; no matter whether there was one."""
        self._open.execute("DELETE FROM entries WHERE kind = ? AND name = ?", (kind, name))

    def delete_all(self, kind: str) -> None:
        """Delete the entries of a kind."""
        self._open.execute("DELETE FROM entries WHERE kind = ?", (kind,))

    def clear(self) -> None:
        """Delete all entries: what was moved is undone."""
        self._open.execute("DELETE FROM entries")


def _unreadable(path: Path, error: sqlite3.DatabaseError) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: cannot be read as the journal of a move ({error}): put back the one that the "
        "move has written, without which nothing can be undone"
    )


@dataclass(frozen=True, slots=True)
class JournalState:
    """How far a move is, as its journal says.

    Args:
        is_running: whether somebody holds the lock of the plan.
        copied: stage → when all of it had been copied.
    """

    is_running: bool
    began: str | None = None
    copied: Mapping[str, str] = field(default_factory=dict)
    is_frozen: bool = False
    outcome: str | None = None


def read_state(plan: Path) -> JournalState:
    """Read how far a move is, also while it runs.

    Raises:
        ConfigurationError: the file is not a journal.
    """
    journal = plan.with_suffix(".journal")
    if not journal.exists():
        return JournalState(is_running=False)
    lock = FileLock(plan.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        is_running = True
    else:
        is_running = False
        lock.release()
    with closing(sqlite3.connect(journal)) as database:
        try:
            rows = database.execute(
                "SELECT kind, name, value FROM entries WHERE kind IN ('move', 'copied', 'freeze')"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise _unreadable(journal, error) from None
    entries = {(kind, name): json.loads(value) for kind, name, value in rows}
    return JournalState(
        is_running,
        began=entries.get(("move", "began")),
        copied={name: value for (kind, name), value in entries.items() if kind == "copied"},
        is_frozen=("freeze", "tables") in entries,
        outcome=entries.get(("move", "outcome")),
    )
