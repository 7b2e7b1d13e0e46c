"""How any number of streams share what is read of a log."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from typing import Any, NamedTuple

from amphibase.errors import InvalidCursor, Retryable, Unavailable
from amphibase.records.change_log import LogRead, LogSource, Position
from amphibase.records.cursors import Cursors

CURSOR = "changes"
"""What the cursors of logs are signed for."""
RETRY_SECONDS = 0.5
CLOSED = "The backend was closed"
MAX_KEPT_READS = 16
MAX_KEPT_CHARACTERS = 4_000_000
"""Of earlier rows, in all reads that are kept beside the newest."""


class Tail(NamedTuple):
    """The end of a log, as far as it was read.

    Attributes:
        position: where the end was.
        coming: what comes after it. The position may be overtaken by another one with nothing in
            between, and then both have this future.
    """

    position: Position
    coming: asyncio.Future[LogRead]


class LogReader:
    """Reads a log for any number of streams.

    Those that have read everything wait at its end, where one task looks for all of them, for as
    long as there is one. Others read on as far as the end was at that time: those at the same
    position share the read. A stream that is slow reads for itself later, so nothing is queued for
    it.
    """

    def __init__(self, source: LogSource, cursors: Cursors) -> None:
        self._source = source
        self._cursors = cursors
        self._identity: str | None = None
        self._newest_cursor: tuple[Position, str] | None = None
        self._tail: Tail | None = None
        self._look_began = 0.0
        self._looking = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._waiting = 0
        self._written = asyncio.Event()
        self._kept: OrderedDict[Position, LogRead] = OrderedDict()
        self._reading: dict[Position, asyncio.Task[tuple[LogRead, Tail]]] = {}
        self._is_closed = False

    async def position(self) -> Position:
        """Return the end of the log: all that is committed later comes after it."""
        if self._identity is None:
            self._identity = await self._source.identity()
        return (await self._look()).position

    def cursor(self, position: Position) -> str:
        """Return a cursor for a position, which all streams that get there take in turn."""
        if self._newest_cursor is None or self._newest_cursor[0] != position:
            short = self._source.short(position)
            cursor = self._cursors.write(CURSOR, [self._identity, *short])
            self._newest_cursor = position, cursor
        return self._newest_cursor[1]

    async def position_of(self, cursor: str) -> Position:
        """Return the position of a cursor.

        Raises:
            InvalidCursor: it is of another log, or no cursor.
        """
        identity, *position = self._cursors.read(CURSOR, cursor)
        if identity != self._identity:
            self._identity = await self._source.identity()  # may have become another one
            if identity != self._identity:
                raise InvalidCursor
        return tuple(position)

    def notice(self) -> None:
        """Look into the log at once: something was written by this process."""
        self._written.set()

    async def next(self, after: Position, seconds: float | None) -> LogRead:
        """Return what the log has after a position, as soon as there is anything.

        Args:
            seconds: how long to wait at most; None for as long as it takes.

        Returns:
            An empty read where nothing came in time. Its position may be a later one.

        Raises:
            Unavailable: the reader was closed.
        """
        reached: Tail | None = None
        try:
            async with asyncio.timeout(seconds) as limit:
                if after in self._kept:
                    return self._kept[after]
                if self._tail is not None and after == self._tail.position:
                    reached = self._tail
                else:
                    read, reached = await self._share(after)
                    if not read.is_empty:
                        return read
                return await self._wait(reached)
        except TimeoutError:
            if not limit.expired():
                raise
            if reached is not None and self._tail is not None:
                is_same = reached.coming is self._tail.coming  # nothing came in between
                after = self._tail.position if is_same else reached.position
            return LogRead((), after, after)

    async def _share(self, after: Position) -> tuple[LogRead, Tail]:
        """Read as far as the end, together with all who are at the position now."""
        while True:
            self._require_open()
            task = self._reading.get(after)
            if task is None:
                task = self._reading[after] = asyncio.create_task(self._read_on(after))
                task.add_done_callback(lambda _: self._reading.pop(after))
            await asyncio.wait({task})
            if task.cancelled():
                continue
            with contextlib.suppress(Retryable):
                return task.result()
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_on(self, after: Position) -> tuple[LogRead, Tail]:
        # Looked at after the position was taken, so that the end is the later of the two, even
        # where the position is of another process.
        tail = await self._look()
        read = await self._source.read(after, tail.position)
        self._keep(after, read)
        return read, tail

    async def _look(self) -> Tail:
        """Read what came after the end; return the end that is now."""
        called = time.monotonic()
        async with self._looking:
            if self._tail is not None and self._look_began > called:
                return self._tail
            began = time.monotonic()
            if self._tail is None:
                self._tail = Tail(await self._source.position(), _future())
            else:
                position, coming = self._tail
                read = await self._source.read(position)
                self._keep(position, read)
                self._tail = Tail(read.end, coming if read.is_empty else _future())
                if not read.is_empty and not coming.done():  # by `close`
                    coming.set_result(read)
            self._look_began = began
            return self._tail

    async def _wait(self, tail: Tail) -> LogRead:
        self._require_open()
        self._waiting += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_again_and_again())
        try:
            return await asyncio.shield(tail.coming)
        finally:
            self._waiting -= 1

    async def _look_again_and_again(self) -> None:
        while self._waiting:
            self._written.clear()
            try:
                await self._look()
            except Retryable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except Exception as error:  # of those who wait
                self._end_all(error)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._source.poll_seconds):
                    await self._written.wait()

    def _require_open(self) -> None:
        if self._is_closed:
            raise Unavailable(CLOSED)

    def _end_all(self, error: Exception) -> None:
        """Raise an error in all streams that wait."""
        if self._tail is not None and self._waiting:
            self._tail.coming.set_exception(error)
        self._tail = None

    def _keep(self, after: Position, read: LogRead) -> None:
        """Keep a read for those who come to its position next, and forget the oldest of the others
        until they are few and small."""
        if read.lost:  # the log may be another one
            self._kept.clear()
        if read.is_empty or read.lost:
            return
        self._kept[after] = read
        self._kept.move_to_end(after)
        characters = 0
        for place, (position, kept) in enumerate(reversed([*self._kept.items()])):
            characters += kept.characters
            if place >= MAX_KEPT_READS or (place > 0 and characters > MAX_KEPT_CHARACTERS):
                del self._kept[position]

    async def close(self) -> None:
        """Stop reading; streams that wait raise Unavailable."""
        self._is_closed = True
        self._end_all(Unavailable(CLOSED))
        tasks: list[asyncio.Task[Any]] = [*self._reading.values()]
        if self._watch is not None:
            tasks.append(self._watch)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()


def _future() -> asyncio.Future[LogRead]:
    return asyncio.get_running_loop().create_future()
