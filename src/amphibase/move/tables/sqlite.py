"""Reads and writes the tables of a SQLite database."""

import asyncio
import json
import sqlite3
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import closing, contextmanager
from functools import partial
from typing import Self, TypeVar
from urllib.parse import quote

from sqlalchemy.engine import URL

from amphibase.column_types import DECIMAL_COLLATION, compare_decimals
from amphibase.database.errors import translated_errors
from amphibase.errors import MoveFailed, Unavailable
from amphibase.move.catalog import CatalogTable, DatabaseCatalog, TableName
from amphibase.move.tables.base import (
    CHUNK_ROWS,
    Chunk,
    Key,
    Referrer,
    Rejected,
    Row,
    Selection,
)
from amphibase.move.tables.chunks import iterate_in_thread, key_of
from amphibase.move.tables.reference_indexes import drop_on_sqlite, index_on_sqlite
from amphibase.move.tables.sqlite_catalog import quoted, read_sqlite_catalog, rowid_of
from amphibase.move.tables.sqlite_exact import Stored
from amphibase.move.tables.sqlite_rows import (
    bind,
    by_key,
    codecs_of,
    delete_rows,
    fetch,
    gather,
    stored_key,
    to_text,
    write_rows,
)
from amphibase.move.tables.sqlite_triggers import BUSY_SECONDS, dropped

CHECKPOINTS = "amphibase_move_checkpoints"

T = TypeVar("T")


class SqliteTables:
    """The tables of a SQLite database. Use it as a context manager.

    Args:
        plan: the name of the move's plan, by which its checkpoints are told from others'.
    """

    in_flight = 1

    def __init__(self, url: URL, plan: str) -> None:
        self._url = url
        self._plan = plan
        self._connection: sqlite3.Connection | None = None
        self._skipped: frozenset[str] = frozenset()

    async def __aenter__(self) -> Self:
        """Open the file. Raises Unavailable."""
        self._connection = await asyncio.to_thread(self._connect)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await asyncio.to_thread(self._connection.close)
            self._connection = None

    async def ignore_foreign_keys(self) -> None:
        """Check no foreign keys from now on: for tables that refer to one another in a cycle."""
        assert self._connection is not None
        await asyncio.to_thread(self._connection.execute, "PRAGMA foreign_keys = OFF")

    def skip_triggers(self, names: Iterable[str]) -> None:
        """Let the triggers of these names not fire from now on for what is written."""
        self._skipped = frozenset(names)

    async def catalog(self) -> DatabaseCatalog:
        """Read what tables there are."""
        return await self._run(read_sqlite_catalog)

    async def count(self, table: CatalogTable) -> int:
        """Count the rows exactly."""
        query = f"SELECT count(*) FROM {quoted(table.name.name)}"
        return await self._run(lambda connection: int(connection.execute(query).fetchone()[0]))

    def read(self, selection: Selection, after: Key | None = None) -> AsyncGenerator[Chunk, None]:
        """Yield the rows after a key, or all; each chunk is a query of its own, so that the
        application can write in between."""
        return iterate_in_thread(partial(self._chunks, selection, after))

    async def rows(self, selection: Selection, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """Return the rows with these keys; those that are missing are left out."""
        return await self._run(partial(self._rows, selection, keys))

    async def write_error(self, selection: Selection) -> str | None:
        """Return None: the catalog says which columns are written."""
        return None

    async def checkpoint(self, table: TableName) -> Key | None:
        """Return the last key whose chunk is written; None before the first."""

        def read(connection: sqlite3.Connection) -> Key | None:
            if not _has_checkpoints(connection):
                return None
            query = f"SELECT key FROM {CHECKPOINTS} WHERE plan = ? AND table_name = ?"
            row = connection.execute(query, (self._plan, str(table))).fetchone()
            return None if row is None else tuple(json.loads(row[0]))

        return await self._run(read)

    async def insert(self, selection: Selection, chunk: Chunk) -> list[Rejected]:
        """Write a chunk and its checkpoint, both or neither; rows that are there already stay."""
        return await self._run(partial(self._insert, selection, chunk), writes=True)

    async def upsert(self, selection: Selection, rows: Sequence[Row]) -> list[Rejected]:
        """Write rows, in the place of those with the same keys."""
        return await self._run(partial(write_rows, selection, rows, replaces=True), writes=True)

    async def delete(
        self, selection: Selection, keys: Sequence[Key], referrers: Sequence[Referrer] = ()
    ) -> int:
        """Delete rows by their keys, but those that a row of `referrers` refers to."""
        return await self._run(partial(delete_rows, selection, keys, referrers), writes=True)

    async def index(self, table: CatalogTable, column: str) -> None:
        """Have an index that begins with a column."""
        make = partial(index_on_sqlite, table=table.name, column=column)
        await self._run(make, writes=True)

    async def clear(self, table: CatalogTable) -> None:
        """Delete all rows of a table, and forget its checkpoint."""

        def clear(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM {quoted(table.name.name)}")
            if _has_checkpoints(connection):
                forget = f"DELETE FROM {CHECKPOINTS} WHERE plan = ? AND table_name = ?"
                connection.execute(forget, (self._plan, str(table.name)))

        await self._run(clear, writes=True)

    async def forget_checkpoints(self) -> None:
        """Remove the checkpoints and the indexes."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute(f"DROP TABLE IF EXISTS {CHECKPOINTS}")
            drop_on_sqlite(connection)

        await self._run(forget, writes=True)

    def _connect(self) -> sqlite3.Connection:
        path = self._url.database or ""
        # A file that is missing is a mistyped path, and not an empty database.
        uri = f"file:{quote(path)}?mode=rw"
        try:
            connection = sqlite3.connect(
                uri, BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
            )
        except sqlite3.OperationalError:
            raise Unavailable("there is no database that can be opened") from None
        with translated_errors():
            connection.create_collation(DECIMAL_COLLATION, compare_decimals)
            connection.execute("PRAGMA foreign_keys = ON")
        return connection

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = False) -> T:
        """Run something in a transaction, in a thread."""

        def run() -> T:
            if self._connection is None:
                raise RuntimeError("the tables are not open")
            skipped = self._skipped if writes else ()
            with (
                translated_errors(),
                _transaction(self._connection, writes=writes),
                dropped(self._connection, skipped),
            ):
                return work(self._connection)

        return await asyncio.to_thread(run)

    def _chunks(self, selection: Selection, after: Key | None) -> Generator[Chunk, None, None]:
        key = [quoted(name) for name in selection.key] or [rowid_of(selection.table)]
        columns = ", ".join([*map(quoted, selection.columns), *key])
        query = f"SELECT {columns} FROM {quoted(selection.table.name.name)}"
        order = f" ORDER BY {', '.join(key)} LIMIT {CHUNK_ROWS}"
        last = None
        if after is not None and selection.key:
            last = stored_key(selection, after)
        codecs = codecs_of(selection)
        indexes = selection.key_indexes
        with closing(self._connect()) as connection, translated_errors():
            _check_key(connection, selection)
            while True:
                later = ""
                values: list[Stored] = []
                if last:
                    place, values = bind(last)
                    later = f" WHERE ({', '.join(key)}) > {place}"
                connection.execute("BEGIN")
                stored = fetch(connection, query + later + order, values)
                with closing(stored):
                    gathered, last = gather(stored, codecs)
                connection.execute("COMMIT")
                if last is None:
                    return
                yield Chunk(gathered, key_of(gathered[-1], indexes))

    def _rows(
        self, selection: Selection, keys: Sequence[Key], connection: sqlite3.Connection
    ) -> Mapping[Key, Row]:
        columns = ", ".join(map(quoted, selection.columns))
        codecs = codecs_of(selection)
        indexes = selection.key_indexes
        rows = {}
        for condition, values in by_key(selection, keys):
            query = f"SELECT {columns} FROM {quoted(selection.table.name.name)} WHERE {condition}"
            for row in to_text(list(fetch(connection, query, values)), codecs):
                rows[key_of(row, indexes)] = row
        return rows

    def _insert(
        self, selection: Selection, chunk: Chunk, connection: sqlite3.Connection
    ) -> list[Rejected]:
        rejected = write_rows(selection, chunk.rows, connection, replaces=False)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {CHECKPOINTS} "
            "(plan TEXT, table_name TEXT, key TEXT NOT NULL, PRIMARY KEY (plan, table_name))"
        )
        connection.execute(
            f"INSERT INTO {CHECKPOINTS} VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET key = excluded.key",
            (self._plan, str(selection.table.name), json.dumps(chunk.last)),
        )
        return rejected


@contextmanager
def _transaction(connection: sqlite3.Connection, *, writes: bool) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # which a full disk has ended already
            connection.execute("ROLLBACK")
        raise


def _has_checkpoints(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (CHECKPOINTS,)).fetchone() is not None


def _check_key(connection: sqlite3.Connection, selection: Selection) -> None:
    """Check that no part of a key is NULL, which SQLite takes in most primary keys.

    Raises:
        MoveFailed: there are such rows, which no key tells apart.
    """
    nullable = [name for name in selection.key if selection.table.column(name).is_nullable]
    if not nullable:
        return
    condition = " OR ".join(f"{quoted(name)} IS NULL" for name in nullable)
    table = selection.table.name
    query = f"SELECT count(*) FROM {quoted(table.name)} WHERE {condition}"
    (rows,) = connection.execute(query).fetchone()
    if rows:
        raise MoveFailed(
            f"{rows} rows of {table} have NULL in their key ({', '.join(nullable)}), so nothing "
            "tells them apart: give them a key, or delete them"
        )
