"""The log of changes that a backend keeps."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.changes")

Operation: TypeAlias = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
Position: TypeAlias = tuple[Any, ...]
"""A place in a log: JSON values whose meaning is the log's own."""

FIRST_TRIM_SECONDS = 30
TRIM_SECONDS = 600
MAX_ENTRIES = 1_000_000
"""A log keeps no more, however young they are."""
TRIM_ENTRIES = 5_000
"""How many are deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What was done to one row.

    Attributes:
        table: its full name.
        key: the primary key as the database writes it into JSON; empty for TRUNCATE.
        old: the row as it was before, a JSON object; None for INSERT and TRUNCATE.
    """

    table: str
    operation: Operation
    key: tuple[Any, ...] = ()
    old: str | None = None


@dataclass(frozen=True, slots=True)
class LogRead:
    """What a log has after a position.

    Attributes:
        entries: in the order of their commits.
        position: where the next read begins.
        end: the end of the log when it was read, which is further where not all was read.
        lost: whether entries between the two may be gone.
    """

    entries: Sequence[Entry]
    position: Position
    end: Position
    lost: bool = False
    questions: dict[Any, asyncio.Task[Any]] = field(default_factory=dict)
    """What readers who may see the same have found out about the entries."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come."""
        return not self.entries and not self.lost

    @property
    def characters(self) -> int:
        """How long the earlier rows are together."""
        return sum(len(entry.old or "") for entry in self.entries)


class LogSource(Protocol):
    """Where the log of a backend is read."""

    poll_seconds: float
    """How often to look whether another process has written."""

    async def identity(self) -> str:
        """Return what tells the log from one that was restored from a copy of it; empty where
        positions do, or nothing does."""

    async def position(self) -> Position:
        """Return the end of the log: all that is committed later comes after it."""

    async def read(self, after: Position, until: Position | None = None) -> LogRead:
        """Return the next entries after a position, none where there are none yet.

        One that is not of this log, such as of a database that was restored, has lost entries.

        Args:
            until: an end of the log, as far as which is read; by default its end now.
        """

    def short(self, position: Position) -> Position:
        """Return a position that fits into a cursor and misses nothing; entries may come twice."""

    async def trim(self, hours: float) -> int:
        """Delete entries that are older, and those beyond `MAX_ENTRIES`, of the oldest
        `TRIM_ENTRIES`; return how many."""


class LogTrimmer:
    """Trims a log from time to time, for as long as its backend is open.

    Args:
        hours: how long entries are kept.
    """

    def __init__(self, log: LogSource, hours: float) -> None:
        self._log = log
        self._hours = hours
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to trim, soon and then again and again; a trimmer that has begun goes on."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_TRIM_SECONDS)
        while True:
            try:
                while await self._log.trim(self._hours) == TRIM_ENTRIES:
                    pass  # others write in between
            except Exception as error:
                logger.warning("The log of changes could not be trimmed: %s", error)
            await asyncio.sleep(TRIM_SECONDS)

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
