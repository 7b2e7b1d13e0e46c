"""The log of changes that a backend keeps, and how many readers share what is read of it."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from amphibase.errors import AmphibaseError, Retryable, Unavailable
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.changes")

Operation: TypeAlias = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
Position: TypeAlias = tuple[Any, ...]
"""A place in a log: JSON values whose meaning is the log's own."""

RETRY_SECONDS = 0.5
FIRST_TRIM_SECONDS = 30
TRIM_SECONDS = 600
MAX_ENTRIES = 1_000_000
"""A log keeps no more, however young they are."""
MAX_KEPT_READS = 16
MAX_KEPT_CHARACTERS = 4_000_000
"""Of earlier rows, in all reads that are kept beside the newest."""


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
        lost: whether entries between the two may be gone.
    """

    entries: Sequence[Entry]
    position: Position
    lost: bool = False
    questions: dict[Any, asyncio.Task[Any]] = field(default_factory=dict)
    """What readers who may see the same have found out about the entries."""

    @property
    def characters(self) -> int:
        """How long the earlier rows are together."""
        return sum(len(entry.old or "") for entry in self.entries)


class LogSource(Protocol):
    """Where the log of a backend is read."""

    poll_seconds: float
    """How often to look whether another process has written."""

    async def position(self) -> Position:
        """Return the end of the log: all that is committed later comes after it."""

    async def read(self, after: Position) -> LogRead:
        """Return the next entries after a position, none where there are none yet.

        One that is not of this log, such as of a database that was restored, has lost entries.
        """

    def short(self, position: Position) -> Position:
        """Return a position that fits into a cursor and misses nothing; entries may come twice."""

    async def trim(self, hours: float) -> None:
        """Delete entries that are older, and those beyond `MAX_ENTRIES`."""


class LogReader:
    """Reads a log for any number of streams: those at the same position share one read.

    A stream that is slow reads for itself later, so nothing is queued for it.
    """

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._reads: OrderedDict[Position, asyncio.Task[LogRead]] = OrderedDict()
        self._waiting: dict[Position, int] = {}
        self._written = asyncio.Event()

    async def position(self) -> Position:
        """Return the end of the log."""
        return await self._source.position()

    def short(self, position: Position) -> Position:
        """Return a position that fits into a cursor."""
        return self._source.short(position)

    def notice(self) -> None:
        """Look into the log at once: something was written by this process."""
        self._written.set()
        self._written = asyncio.Event()

    async def next(self, after: Position, seconds: float | None) -> LogRead | None:
        """Return what the log has after a position, as soon as there is anything.

        Args:
            seconds: how long to wait at most; None for as long as it takes.

        Returns:
            None where nothing came in time.

        Raises:
            Unavailable: the reader was closed.
        """
        task = self._reads.get(after)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._reads[after] = asyncio.create_task(self._read(after))
        self._waiting[after] = self._waiting.get(after, 0) + 1
        try:
            await asyncio.wait({task}, timeout=seconds)
            if task.cancelled():
                raise Unavailable("The backend was closed")
            return task.result() if task.done() else None
        finally:
            self._leave(after)

    def _leave(self, after: Position) -> None:
        self._waiting[after] -= 1
        if self._waiting[after]:
            return
        del self._waiting[after]
        task = self._reads.get(after)
        if task is not None and not task.done():
            self._reads.pop(after).cancel()
        self._drop_idle()

    def _drop_idle(self) -> None:
        """Forget reads that nobody waits for, the oldest first, until the others are few and
        small."""
        idle = [position for position in self._reads if position not in self._waiting]
        characters = 0
        for place, position in enumerate(reversed(idle)):
            task = self._reads[position]
            if task.done() and not task.cancelled() and task.exception() is None:
                characters += task.result().characters
            if place >= MAX_KEPT_READS or (place > 0 and characters > MAX_KEPT_CHARACTERS):
                del self._reads[position]

    async def _read(self, after: Position) -> LogRead:
        while True:
            written = self._written
            try:
                read = await self._source.read(after)
            except Retryable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if read.entries or read.lost:
                return read
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._source.poll_seconds):
                    await written.wait()

    async def close(self) -> None:
        """Stop reading; streams that wait raise Unavailable."""
        tasks = [task for task in self._reads.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reads.clear()


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
        """Begin to trim, soon and then again and again."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_TRIM_SECONDS)
        while True:
            try:
                await self._log.trim(self._hours)
            except AmphibaseError as error:
                logger.warning("The log of changes could not be trimmed: %s", error)
            await asyncio.sleep(TRIM_SECONDS)

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
