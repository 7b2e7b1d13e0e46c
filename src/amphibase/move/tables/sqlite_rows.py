"""The statements by which rows are read from and written to a SQLite database."""

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from amphibase.move.tables.base import CHUNK_BYTES, Key, Referrer, Rejected, Row, Selection
from amphibase.move.tables.rejections import invalid_text
from amphibase.move.tables.sqlite_catalog import quoted
from amphibase.move.tables.sqlite_exact import Stored
from amphibase.move.tables.sqlite_values import SqliteCodec, sqlite_codec
from amphibase.move.tables.types import postgres_type

MAX_VALUES = 30_000
"""Of a statement; SQLite takes 32,766 (https://www.sqlite.org/limits.html)."""

REJECTIONS = (sqlite3.IntegrityError, sqlite3.DataError, ValueError, OverflowError)
"""Errors that are about the rows, and not about the database."""

BATCH_ROWS = 100
"""Rows that become texts together."""

SIZED = frozenset({str, bytes})

TEXT_OR_NULL = {str, type(None)}

CONFLICTS = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


def codecs_of(selection: Selection) -> list[SqliteCodec]:
    """Return the codec of each column."""
    codecs = []
    for place, name in enumerate(selection.columns):
        declared = selection.table.column(name).type
        type = selection.types[place] if selection.types else postgres_type(declared)
        codecs.append(sqlite_codec(declared, type))
    return codecs


def stored_key(selection: Selection, key: Key) -> tuple[Stored, ...]:
    """Return a key as SQLite stores it."""
    codecs = codecs_of(selection)
    return tuple(
        codecs[place].to_stored(value)
        for place, value in zip(selection.key_indexes, key, strict=True)
    )


def bind(values: Sequence[Stored]) -> tuple[str, list[Stored]]:
    """Return a row value's text in a statement, and what is bound in it.

    A text that is not UTF-8, which is read with lone surrogates, is bound by its bytes.
    """
    places: list[str] = []
    bound: list[Stored] = []
    for value in values:
        place = "?"
        if isinstance(value, str) and not value.isascii():
            stored = value.encode("utf-8", "surrogateescape")
            if stored.decode("utf-8", "replace") != value:
                place, value = "CAST(? AS TEXT)", stored
        places.append(place)
        bound.append(value)
    return f"({', '.join(places)})", bound


def fetch(
    connection: sqlite3.Connection, query: str, values: Sequence[Stored]
) -> Generator[tuple[Any, ...], None, None]:
    """Run a query in a transaction of the caller's.

    From a text that is not UTF-8 on, it runs again with lone surrogates for such bytes.
    """
    number = 0
    try:
        for row in connection.execute(query, values):
            number += 1
            yield row
    except sqlite3.OperationalError as error:
        if hasattr(error, "sqlite_errorcode"):  # of SQLite; Python's own error has none
            raise
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        try:
            yield from islice(connection.execute(query, values), number, None)
        finally:
            connection.text_factory = str


def gather(
    stored: Iterator[tuple[Any, ...]], codecs: list[SqliteCodec]
) -> tuple[list[Row], tuple[Stored, ...] | None]:
    """Return rows up to `CHUNK_BYTES` as they are stored, and the stored key of the last, which
    follows its row."""
    gathered: list[Row] = []
    batch: list[tuple[Any, ...]] = []
    size = 0
    last = None
    for row in stored:
        batch.append(row)
        size += sum([len(value) for value in row if type(value) in SIZED])
        if len(batch) == BATCH_ROWS or size >= CHUNK_BYTES:
            gathered += to_text(batch, codecs)
            last = row[len(codecs) :]
            batch = []
            if size >= CHUNK_BYTES:
                return gathered, last
    if batch:
        gathered += to_text(batch, codecs)
        last = batch[-1][len(codecs) :]
    return gathered, last


def to_text(stored: Sequence[tuple[Any, ...]], codecs: list[SqliteCodec]) -> list[Row]:
    """Return the texts of stored rows: column by column, since most values are texts already."""
    columns: list[Sequence[str | None]] = []
    for values, codec in zip(zip(*stored, strict=True), codecs, strict=False):
        if codec.keeps_texts and set(map(type, values)) <= TEXT_OR_NULL:
            columns.append(values)
        else:
            convert = codec.to_text
            columns.append([None if value is None else convert(value) for value in values])
    return list(zip(*columns, strict=True))


def by_key(selection: Selection, keys: Sequence[Key]) -> Iterator[tuple[str, list[Stored]]]:
    """Yield conditions that a row has one of these keys, of as many as a statement takes."""
    names = ", ".join(map(quoted, selection.key))
    step = MAX_VALUES // len(selection.key)
    for start in range(0, len(keys), step):
        part = [bind(stored_key(selection, key)) for key in keys[start : start + step]]
        places = ", ".join([place for place, _ in part])
        yield f"({names}) IN (VALUES {places})", [value for _, values in part for value in values]


def delete_rows(
    selection: Selection,
    keys: Sequence[Key],
    referrers: Sequence[Referrer],
    connection: sqlite3.Connection,
) -> int:
    """Delete rows by their keys, but those that a row of `referrers` refers to."""
    statement = f"DELETE FROM {quoted(selection.table.name.name)} AS row WHERE "
    unreferred = ""
    for referrer in referrers:
        condition = " AND ".join(
            f"referrer.{quoted(column)} = row.{quoted(target)}"
            for column, target in zip(referrer.columns, referrer.target_columns, strict=True)
        )
        if referrer.table == selection.table.name:
            own, other = (
                ", ".join(f"{alias}.{quoted(name)}" for name in selection.key)
                for alias in ("row", "referrer")
            )
            condition += f" AND ({own}) <> ({other})"
        table = quoted(referrer.table.name)
        unreferred += f" AND NOT EXISTS (SELECT 1 FROM {table} AS referrer WHERE {condition})"
    return sum(
        connection.execute(statement + condition + unreferred, values).rowcount
        for condition, values in by_key(selection, keys)
    )


def write_rows(
    selection: Selection, rows: Sequence[Row], connection: sqlite3.Connection, *, replaces: bool
) -> list[Rejected]:
    """Write rows together; where one is rejected, each by itself."""
    statement = _insert_statement(selection, replaces=replaces)
    codecs = codecs_of(selection)
    connection.execute("SAVEPOINT rows")
    try:
        connection.executemany(
            statement, (_to_stored(selection.columns, row, codecs) for row in rows)
        )
    except REJECTIONS:
        connection.execute("ROLLBACK TO rows")
    else:
        connection.execute("RELEASE rows")
        return []
    rejected = []
    for row in rows:
        try:
            connection.execute(statement, _to_stored(selection.columns, row, codecs))
        except REJECTIONS as error:
            reason = str(error)
            if not isinstance(error, sqlite3.Error):
                reason = invalid_text(selection.columns, row) or reason
            code = getattr(error, "sqlite_errorcode", None)
            rejected.append(Rejected(row, reason, code in CONFLICTS))
    connection.execute("RELEASE rows")
    return rejected


def _insert_statement(selection: Selection, *, replaces: bool) -> str:
    columns = ", ".join(map(quoted, selection.columns))
    places = ", ".join("?" * len(selection.columns))
    table = quoted(selection.table.name.name)
    statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
    if not selection.key:
        return statement
    changed = [name for name in selection.columns if name not in selection.key]
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in changed)
    action = f"UPDATE SET {changes}" if replaces and changes else "NOTHING"
    return f"{statement} ON CONFLICT ({', '.join(map(quoted, selection.key))}) DO {action}"


def _to_stored(columns: Sequence[str], row: Row, codecs: list[SqliteCodec]) -> list[Stored | None]:
    """Return a row as SQLite stores it. Raises ValueError, which names the column."""
    stored: list[Stored | None] = []
    for name, value, codec in zip(columns, row, codecs, strict=True):
        try:
            stored.append(None if value is None else codec.to_stored(value))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return stored
