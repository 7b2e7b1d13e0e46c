"""Counters of columns: sequences and identity columns of Postgres, AUTOINCREMENT of SQLite.

A copied row brings its number along, so that the target's counter has not moved. It is set to the
source's after the last pass, and never back, as other rows of the target may have counted.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import LiteralString, Protocol

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.tables.base import Selection, TablePair
from amphibase.move.tables.postgres_session import column_list, connect, qualified, settings_for
from amphibase.move.tables.types import INTEGERS, parse_type
from amphibase.schema.ddl import literal

COUNTER = "the Data API sets none. If it has one, run this in the SQL editor after the move: {}"

INCREMENT: LiteralString = "SELECT seqincrement FROM pg_sequence WHERE seqrelid = %s::regclass"


@dataclass(frozen=True, slots=True)
class Counter:
    """Where a counter is.

    Args:
        is_called: whether `value` has been used; else it is the next one.
        increment: what is added; negative where it counts down.
    """

    value: int
    is_called: bool = True
    increment: int = 1

    @property
    def following(self) -> int:
        """The number that the next row gets."""
        return self.value + self.increment if self.is_called else self.value

    def is_behind(self, other: "Counter") -> bool:
        """Return whether it would count again what the other one has counted."""
        if self.increment < 0:
            return self.following > other.following
        return self.following < other.following


class Counters(Protocol):
    """The counters of a side."""

    async def read(self, selection: Selection) -> dict[str, Counter]:
        """Return the counters of a table's columns, by column."""

    async def last_numbers(
        self, selection: Selection, names: Collection[str]
    ) -> dict[str, Counter]:
        """Return counters at the last numbers of columns, as far as these have a counter that does
        not follow its rows by itself."""

    async def advance(self, selection: Selection, counters: Mapping[str, Counter]) -> None:
        """Set counters of columns that have one, unless they are further already.

        Raises:
            MoveFailed: a number is out of a counter's range.
        """


class PostgresCounters:
    """The sequences that columns of a Postgres use."""

    def __init__(self, url: URL) -> None:
        self._url = url

    async def read(self, selection: Selection) -> dict[str, Counter]:
        """Return where the sequences of a table's columns are."""
        with translated_errors():
            connection = await connect(self._url)
            try:
                return {
                    name: await _read_sequence(connection, sequence)
                    for name, sequence in _sequences(selection).items()
                }
            finally:
                await connection.close()

    async def last_numbers(
        self, selection: Selection, names: Collection[str]
    ) -> dict[str, Counter]:
        """Return counters at the last numbers of columns that have a sequence."""
        with translated_errors():
            connection = await connect(self._url)
            try:
                counters = {
                    name: await _last_number(connection, selection, name, sequence)
                    for name, sequence in _sequences(selection).items()
                    if name in names and _is_number(selection, name)
                }
            finally:
                await connection.close()
        return {name: counter for name, counter in counters.items() if counter is not None}

    async def advance(self, selection: Selection, counters: Mapping[str, Counter]) -> None:
        """Set sequences."""
        with translated_errors():
            connection = await connect(self._url)
            try:
                for name, sequence in _sequences(selection).items():
                    own = await _read_sequence(connection, sequence)
                    counter = counters.get(name)
                    if counter is not None and own.is_behind(counter):
                        await _set_sequence(connection, sequence, counter)
            finally:
                await connection.close()


class SqliteCounters:
    """What SQLite keeps in `sqlite_sequence` of tables with AUTOINCREMENT.

    Other tables count from their last row on, with nothing to set.
    """

    def __init__(self, url: URL) -> None:
        self._path = url.database or ""

    async def read(self, selection: Selection) -> dict[str, Counter]:
        """Return where the counter of a table is, by the column of its key."""
        return await asyncio.to_thread(self._read, selection)

    async def last_numbers(
        self, selection: Selection, names: Collection[str]
    ) -> dict[str, Counter]:
        """Return none: SQLite's counters follow the rows."""
        return {}

    async def advance(self, selection: Selection, counters: Mapping[str, Counter]) -> None:
        """Set the counter of a table, if it has one."""
        await asyncio.to_thread(self._advance, selection, counters)

    def _read(self, selection: Selection) -> dict[str, Counter]:
        name = selection.table.name.name
        with translated_errors(), closing(sqlite3.connect(self._path)) as connection:
            if not _has_counter(connection, name):
                return {}
            query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
            row = connection.execute(query, (name,)).fetchone()
        counter = Counter(1, is_called=False) if row is None else Counter(row[0])
        return dict.fromkeys(selection.key[:1], counter)

    def _advance(self, selection: Selection, counters: Mapping[str, Counter]) -> None:
        own = self._read(selection)
        name = selection.table.name.name
        for column, counter in own.items():
            other = counters.get(column)
            if other is not None and counter.is_behind(other):
                with (
                    translated_errors(),
                    closing(sqlite3.connect(self._path)) as connection,
                    connection,
                ):
                    connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
                    connection.execute(
                        "INSERT INTO sqlite_sequence VALUES (?, ?)", (name, other.following - 1)
                    )


async def advance_counters(
    source: Counters | None, target: Counters, pairs: Sequence[TablePair]
) -> None:
    """Set the target's counters to where the source's are; where that has none, behind the last
    numbers of the columns.

    Args:
        source: None where it has none that can be read.
    """
    for pair in pairs:
        await target.advance(pair.target, await _required(source, target, pair))


async def counters_behind(source: Counters | None, target: Counters, pair: TablePair) -> list[str]:
    """Return the target's columns that would count again what has been counted."""
    required = await _required(source, target, pair)
    own = await target.read(pair.target)
    return [name for name, other in required.items() if name in own and own[name].is_behind(other)]


async def advance_sequences(source: URL, target: URL, names: Collection[TableName]) -> None:
    """Set sequences that no column counts by to where the source's are, and never back."""
    async for connection, name, counter in _behind(source, target, names):
        await _set_sequence(connection, name, counter)


async def sequences_behind(
    source: URL, target: URL, names: Collection[TableName]
) -> list[TableName]:
    """Return those of the target that would count again what the source's have counted."""
    return [name async for _, name, _ in _behind(source, target, names)]


async def _behind(
    source: URL, target: URL, names: Collection[TableName]
) -> AsyncIterator[tuple[AsyncConnection, TableName, Counter]]:
    """Yield a connection to the target, with each sequence that is behind and where it should
    be."""
    if not names:
        return
    with translated_errors():
        async with await connect(source) as here, await connect(target) as there:
            for name in names:
                own, other = await _read_sequence(there, name), await _read_sequence(here, name)
                if own.is_behind(other):
                    yield there, name, other


def counter_statement(selection: Selection) -> str | None:
    """Return what sets the counter that the key of a table may have: the Data API shows none, and
    sets none. None where the key is no number, or refers to another table.
    """
    table = selection.table
    if len(selection.key) != 1 or any(selection.key == key.columns for key in table.foreign_keys):
        return None
    (key,) = selection.key
    if table.column(key).base_type not in INTEGERS:
        return None
    name, column = qualified(table.name).as_string(), Identifier(key).as_string()
    sequence = f"pg_get_serial_sequence({literal(name)}, {literal(key)})"
    return f"SELECT setval({sequence}, max({column})) FROM {name}"  # noqa: S608 - names


async def _required(
    source: Counters | None, target: Counters, pair: TablePair
) -> dict[str, Counter]:
    """Return where the target's counters have to be at least, by its columns."""
    counted = await _translated(source, pair)
    return {
        **await target.last_numbers(pair.target, {*pair.target.columns} - counted.keys()),
        **counted,
    }


async def _translated(source: Counters | None, pair: TablePair) -> dict[str, Counter]:
    """Return the source's counters, by the target's columns."""
    if source is None:
        return {}
    names = dict(zip(pair.source.columns, pair.target.columns, strict=True))
    counters = await source.read(pair.source)
    return {names[name]: counter for name, counter in counters.items() if name in names}


def _sequences(selection: Selection) -> dict[str, TableName]:
    """Return the sequences of the columns that have one."""
    columns = {name: selection.table.column(name).sequence for name in selection.columns}
    return {name: sequence for name, sequence in columns.items() if sequence is not None}


def _is_number(selection: Selection, column: str) -> bool:
    """Return whether a column holds its sequence's numbers, and not texts with them in it."""
    type = parse_type(selection.table.column(column).base_type)
    return not type.is_array and (type.name in INTEGERS or type.name == "numeric")


async def _read_sequence(connection: AsyncConnection, sequence: TableName) -> Counter:
    name = qualified(sequence)
    query = SQL("SELECT last_value, is_called FROM {}").format(name)
    position = await (await connection.execute(query)).fetchone()
    cursor = await connection.execute(INCREMENT, (name.as_string(connection),))
    increment = await cursor.fetchone()
    assert position is not None
    assert increment is not None
    return Counter(*position, *increment)


async def _last_number(
    connection: AsyncConnection, selection: Selection, column: str, sequence: TableName
) -> Counter | None:
    """Return a counter at the column's last number; None where it has no rows."""
    increment = (await _read_sequence(connection, sequence)).increment
    query = SQL("SELECT {}({}) FROM {}").format(
        SQL("max" if increment > 0 else "min"),
        column_list([column]),
        qualified(selection.table.name),
    )
    async with connection.transaction():
        await connection.execute(settings_for(connection))
        row = await (await connection.execute(query)).fetchone()
    number = row[0] if row else None
    return None if number is None else Counter(int(number), increment=increment)


async def _set_sequence(connection: AsyncConnection, sequence: TableName, counter: Counter) -> None:
    name = qualified(sequence).as_string(connection)
    try:
        await connection.execute(
            "SELECT setval(%s::regclass, %s, %s)", (name, counter.value, counter.is_called)
        )
    except errors.NumericValueOutOfRange:
        raise MoveFailed(
            f"{sequence} of the target cannot be set to {counter.value}; give it a larger type"
        ) from None


def _has_counter(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?"
    row = connection.execute(query, (table,)).fetchone()
    return row is not None and "AUTOINCREMENT" in row[0].upper()
