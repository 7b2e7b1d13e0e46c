"""From entries of a log to the events that one caller may see."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Generic, Protocol, Self, TypeAlias

from amphibase.backend import Added, Changed, ChangeEvent, Lost, Model, Removed
from amphibase.backend.records import Item_co
from amphibase.errors import InvalidCursor, InvalidRequest, InvalidValue, Retryable
from amphibase.models import keeps_changes
from amphibase.records.change_log import Entry, LogRead, Position
from amphibase.records.log_reader import RETRY_SECONDS, LogReader

SHARED_SECONDS = 1
"""How old what one stream has found out about rows may be when another one delivers it."""

MakeEvent: TypeAlias = Callable[[str], ChangeEvent[Model]]
"""Makes an event, whose cursor is known when the others of its batch are."""

Part: TypeAlias = tuple[Sequence[MakeEvent[Model]], int]
"""Events of a read, and the place of the key that the next part begins with; 0 after the last."""


class ChangedRows(Protocol[Item_co]):
    """What one caller may see of the rows of one model that the log names."""

    table: str
    columns: Sequence[str]
    """The names of the table's columns."""
    identity: Hashable
    """Equal for callers and filters that see the same; None where that is not known."""

    def key(self, raw: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a primary key of the log as Python's values."""

    async def count_of_page(self, keys: Sequence[tuple[Any, ...]]) -> int:
        """Return of how many of the first keys the rows are loaded together: at least one."""

    async def current(self, keys: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Item_co]:
        """Return the rows with these keys that match and that the caller may see, by key."""

    async def were_visible(self, rows: Sequence[str]) -> Sequence[bool]:
        """Return whether each earlier version of a row matches and is one that the caller may see.

        Args:
            rows: JSON objects of the log.
        """


class ChangeStream(Generic[Model]):
    """The changes of a model's rows for one caller, from a position in the log on.

    Args:
        lost: whether changes before that position may have been missed.
    """

    def __init__(
        self,
        rows: ChangedRows[Model],
        reader: LogReader,
        position: Position,
        *,
        lost: bool = False,
    ) -> None:
        self._rows = rows
        self._names = [f"{json.dumps(name, ensure_ascii=False)}:" for name in rows.columns]
        self._reader = reader
        self._position = position
        self._cursor = reader.cursor(position)
        self._pending: list[ChangeEvent[Model]] = [Lost(self._cursor)] if lost else []
        self._unfinished: LogRead | None = None
        self._next_key = 0

    @property
    def cursor(self) -> str:
        """Where the stream is."""
        return self._pending[0].cursor if self._pending else self._cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChangeEvent[Model]:
        """Return the next event."""
        while not self._pending:
            self._pending += await self.batch(math.inf)
        return self._pending.pop(0)

    async def batch(self, wait: float) -> Sequence[ChangeEvent[Model]]:
        """Return the next events, none where nothing comes for so many seconds."""
        if self._pending:
            pending, self._pending = self._pending, []
            return pending
        deadline = time.monotonic() + wait
        while True:
            seconds = None if math.isinf(wait) else max(0, deadline - time.monotonic())
            read = self._unfinished or await self._reader.next(self._position, seconds)
            if read.is_empty:
                self._go_on_at(read.position)
                return []
            try:
                events, next_key = await self._events(read, self._next_key)
            except Retryable:
                if time.monotonic() + RETRY_SECONDS > deadline:
                    return []
                await asyncio.sleep(RETRY_SECONDS)
                continue
            before = self._cursor
            self._unfinished, self._next_key = (read if next_key else None), next_key
            if not next_key:
                self._go_on_at(read.position)
            # Where only a part of them is delivered, all come again.
            cursors = [before] * (len(events) - 1) + [self._cursor]
            if events:
                return [make(cursor) for make, cursor in zip(events, cursors, strict=True)]

    def _go_on_at(self, position: Position) -> None:
        if position != self._position:
            self._position, self._cursor = position, self._reader.cursor(position)

    async def _events(self, read: LogRead, start: int) -> Part[Model]:
        """Return the next events of a read.

        Args:
            start: the place of the first key that is judged.
        """
        own = [entry for entry in read.entries if entry.table == self._rows.table]
        if read.lost or any(entry.operation == "TRUNCATE" for entry in own):
            return [Lost], 0
        if not own:
            return [], 0
        identity = self._rows.identity
        if identity is None:
            return await self._judge(own, start)
        question = read.questions.get((identity, start))
        if question is None or (question.done() and _has_failed(question)):
            question = asyncio.create_task(self._judge(own, start))
            read.questions[identity, start] = question
            question.add_done_callback(lambda done: _share(read, (identity, start), done))
        events, next_key = await asyncio.shield(question)
        if start or next_key:  # all parts together may be more than fits into memory
            read.questions.pop((identity, start), None)
        return events, next_key

    async def _judge(self, entries: Sequence[Entry], start: int) -> Part[Model]:
        """Compare what the caller saw of each row with what they see now.

        Any version in between may be one that they were shown: a row is read as it is when an event
        is delivered, which may be ahead of the log.
        """
        place = {entry.key: place for place, entry in enumerate(entries)}  # of the last of each
        changed = sorted(place, key=place.__getitem__)
        keys = {raw: self._rows.key(raw) for raw in changed[start:]}
        count = await self._rows.count_of_page([*keys.values()])
        keys = dict(islice(keys.items(), count))
        next_key = start + count if start + count < len(changed) else 0
        entries = [entry for entry in entries if entry.key in keys]
        rows = await self._rows.current([*keys.values()])
        earlier = [(entry.key, entry.old) for entry in entries if entry.old is not None]
        if not all(name in old for _, old in earlier for name in self._names):
            return [Lost], 0  # a column has another name now than the rows had then
        try:
            visible = await self._rows.were_visible([old for _, old in earlier]) if earlier else []
        except InvalidValue:  # the table has other types now than the rows had then
            return [Lost], 0
        seen = zip(earlier, visible, strict=True)
        was_seen = {raw for (raw, _), was_visible in seen if was_visible}
        first = {entry.key: entry for entry in reversed(entries)}
        is_new = {raw for raw, entry in first.items() if entry.operation == "INSERT"}
        events: list[MakeEvent[Model]] = []
        for raw, key in keys.items():
            row = rows.get(key)
            if row is not None:
                events.append(_with_row(Changed if raw in was_seen - is_new else Added, row))
            elif raw in was_seen:
                events.append(_removed(key))
        return events, next_key


def _with_row(kind: type[Added[Model]] | type[Changed[Model]], row: Model) -> MakeEvent[Model]:
    return lambda cursor: kind(row, cursor)


def _removed(key: tuple[Any, ...]) -> MakeEvent[Any]:
    return lambda cursor: Removed(key[0] if len(key) == 1 else key, cursor)


def _share(read: LogRead, key: Any, question: asyncio.Task[Any]) -> None:
    """Keep what was found out for those who come at the same time, and no longer: rows and what
    callers may see of them change, also by other tables."""

    def forget() -> None:
        if read.questions.get(key) is question:
            del read.questions[key]

    asyncio.get_running_loop().call_later(SHARED_SECONDS, forget)


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


def require_log(model: type[Any]) -> None:
    """Raise InvalidRequest for a model that keeps no log of its changes."""
    if not keeps_changes(model):
        raise InvalidRequest(
            f"{model.__name__} keeps no log of its changes: give it `__changes__ = True`, and run "
            "`amphibase db upgrade`"
        )


@asynccontextmanager
async def open_changes(
    rows: ChangedRows[Model], reader: LogReader, after: str | None
) -> AsyncIterator[ChangeStream[Model]]:
    """Open the changes that are committed from now on, or that follow a cursor."""
    position, lost = None, False
    if after is not None:
        try:
            position = await reader.position_of(after)
        except InvalidCursor:  # of another key or log, such as before either was replaced
            lost = True
    if position is None:
        position = await reader.position()
    yield ChangeStream(rows, reader, position, lost=lost)
