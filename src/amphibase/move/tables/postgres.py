"""Reads and writes the tables of a Postgres, by COPY in its text form."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import LiteralString, Self

from psycopg import AsyncConnection, Connection, DataError, Error, IntegrityError, errors
from psycopg.sql import SQL, Composable, Composed, Identifier
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.database.url import to_conninfo
from amphibase.move.catalog import CatalogTable, DatabaseCatalog, Identity, TableName
from amphibase.move.tables.base import Chunk, Key, Referrer, Rejected, Row, Selection
from amphibase.move.tables.chunks import in_chunks, iterate_in_thread, key_of
from amphibase.move.tables.postgres_catalog import read_postgres_catalog
from amphibase.move.tables.postgres_session import (
    OUR_SCHEMA,
    create_schema,
    qualified,
    relation,
    settings_for,
)
from amphibase.move.tables.reference_indexes import drop_on_postgres, index_on_postgres
from amphibase.move.tables.rejections import Rejection, invalid_text, write_by_halves

ALL_AT_ONCE: LiteralString = "SET CONSTRAINTS ALL IMMEDIATE"
"""Deferred constraints would fail with the whole chunk at its commit."""

CHECKPOINTS = Identifier(OUR_SCHEMA, "checkpoints")
STAGED = Identifier("amphibase_move_rows")

REJECTIONS = (
    DataError,
    IntegrityError,
    errors.RaiseException,
    errors.ProgramLimitExceeded,
    errors.FeatureNotSupported,  # a server that was built without XML
)
"""Errors that are about the rows, and not about the database."""

CONFLICTS = (errors.UniqueViolation, errors.ExclusionViolation)


class PostgresTables:
    """The tables of a Postgres. Use it as a context manager.

    Each transaction makes its own settings, so that it works through a pooler too.

    Args:
        plan: the name of the move's plan, by which its checkpoints are told from others'.
    """

    in_flight = 1

    def __init__(self, url: URL, plan: str) -> None:
        self.url = url
        self._conninfo = to_conninfo(url)
        self._plan = plan
        self._connection: AsyncConnection | None = None
        self._staged: set[TableName] = set()  # tables in which rows were that arrived

    async def __aenter__(self) -> Self:
        """Connect. Raises Unavailable."""
        self._connection = await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def catalog(self) -> DatabaseCatalog:
        """Read what tables there are."""
        async with self._transaction() as connection:
            return await read_postgres_catalog(connection)

    async def count(self, table: CatalogTable) -> int:
        """Count the rows exactly."""
        async with self._transaction() as connection:
            query = SQL("SELECT count(*) FROM {}").format(_rows_of(table))
            row = await (await connection.execute(query)).fetchone()
        assert row is not None
        return int(row[0])

    def read(self, selection: Selection, after: Key | None = None) -> AsyncGenerator[Chunk, None]:
        """Yield the rows after a key, or all, in one snapshot, over a connection of its own."""
        query = SQL("COPY (SELECT {} FROM {}").format(
            _names(selection.columns), _rows_of(selection.table)
        )
        if selection.key and after is not None:
            values = SQL(", ").join(
                SQL("{}::{}").format(value, _type(selection, name))
                for name, value in zip(selection.key, after, strict=True)
            )
            query += SQL(" WHERE ({}) > ({})").format(_names(selection.key), values)
        if selection.key:
            query += SQL(" ORDER BY {}").format(_names(selection.key))
        query += SQL(") TO STDOUT")
        return iterate_in_thread(partial(self._copy_out, selection, query))

    async def rows(self, selection: Selection, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """Return the rows with these keys; those that are missing are left out."""
        query = SQL("COPY (SELECT {} FROM {} AS row WHERE {}) TO STDOUT").format(
            SQL(", ").join(Identifier("row", name) for name in selection.columns),
            _rows_of(selection.table),
            _is_one_of(selection, keys),
        )
        indexes = selection.key_indexes
        by_key: dict[Key, Row] = {}
        async with self._transaction() as connection, connection.cursor().copy(query) as copy:
            async for row in copy.rows():
                by_key[key_of(row, indexes)] = row
        return by_key

    async def write_error(self, selection: Selection) -> str | None:
        """Return None: the catalog says which columns are written."""
        return None

    async def checkpoint(self, table: TableName) -> Key | None:
        """Return the last key whose chunk is written; None before the first."""
        async with self._transaction() as connection:
            if not await self._has_checkpoints(connection):
                return None
            query = SQL("SELECT key FROM {} WHERE plan = %s AND table_name = %s")
            cursor = await connection.execute(query.format(CHECKPOINTS), (self._plan, str(table)))
            row = await cursor.fetchone()
        return None if row is None else tuple(row[0])

    async def insert(self, selection: Selection, chunk: Chunk) -> list[Rejected]:
        """Write a chunk and its checkpoint, both or neither; rows that are there already stay."""
        async with self._transaction() as connection:
            write = partial(self._insert, connection, selection)
            rejected = await write_by_halves(chunk.rows, write)
            if invalid_text(selection.key, chunk.last) is None:
                await self._save_checkpoint(connection, selection.table.name, chunk.last)
        return rejected

    async def upsert(self, selection: Selection, rows: Sequence[Row]) -> list[Rejected]:
        """Write rows, in the place of those with the same keys."""
        async with self._transaction() as connection:
            write = partial(self._write_staged, connection, selection, replaces=True)
            return await write_by_halves(rows, write)

    async def delete(
        self, selection: Selection, keys: Sequence[Key], referrers: Sequence[Referrer] = ()
    ) -> int:
        """Delete rows by their keys, but those that a row of `referrers` refers to."""
        query = SQL("DELETE FROM {} AS row WHERE {}").format(
            _rows_of(selection.table), _is_one_of(selection, keys)
        )
        for referrer in referrers:
            condition = SQL(" AND ").join(
                SQL("referrer.{} = row.{}").format(Identifier(column), Identifier(target))
                for column, target in zip(referrer.columns, referrer.target_columns, strict=True)
            )
            if referrer.table == selection.table.name:
                own, other = (
                    SQL(", ").join(Identifier(alias, name) for name in selection.key)
                    for alias in ("row", "referrer")
                )
                condition += SQL(" AND ({}) <> ({})").format(own, other)
            query += SQL(" AND NOT EXISTS (SELECT FROM {} AS referrer WHERE {})").format(
                qualified(referrer.table), condition
            )
        async with self._transaction() as connection:
            return (await connection.execute(query)).rowcount

    async def index(self, table: CatalogTable, column: str) -> None:
        """Have an index that begins with a column, where one can be made."""
        async with self._transaction() as connection:
            await index_on_postgres(connection, table.name, column)

    async def clear(self, table: CatalogTable) -> None:
        """Delete all rows of a table, and forget its checkpoint."""
        async with self._transaction() as connection:
            await connection.execute(SQL("DELETE FROM {}").format(_rows_of(table)))
            if await self._has_checkpoints(connection):
                query = SQL("DELETE FROM {} WHERE plan = %s AND table_name = %s")
                await connection.execute(query.format(CHECKPOINTS), (self._plan, str(table.name)))

    async def forget_checkpoints(self) -> None:
        """Remove the checkpoints, and their schema where nothing else is in it, and the indexes."""
        async with self._transaction() as connection:
            await drop_on_postgres(connection)
            await connection.execute(SQL("DROP TABLE IF EXISTS {}").format(CHECKPOINTS))
            try:
                async with connection.transaction():
                    drop = SQL("DROP SCHEMA IF EXISTS {} RESTRICT")
                    await connection.execute(drop.format(Identifier(OUR_SCHEMA)))
            except errors.DependentObjectsStillExist:
                return

    def _copy_out(self, selection: Selection, query: Composed) -> Generator[Chunk, None, None]:
        """Read by a COPY, in a thread: psycopg's asynchronous one is a quarter as fast."""
        with (
            translated_errors(),
            Connection.connect(self._conninfo, autocommit=True) as connection,
            connection.transaction(),
        ):
            connection.execute(settings_for(connection))
            with connection.cursor().copy(query) as copy:
                yield from in_chunks(selection, copy.rows())

    async def _connect(self) -> AsyncConnection:
        with translated_errors():
            return await AsyncConnection.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        if self._connection is None:
            raise RuntimeError("the tables are not open")
        with translated_errors():
            async with self._connection.transaction():
                settings = settings_for(self._connection)
                await self._connection.execute(settings + "; " + ALL_AT_ONCE)
                yield self._connection

    async def _insert(
        self, connection: AsyncConnection, selection: Selection, rows: Sequence[Row]
    ) -> Rejection | None:
        """Write rows; return why they are rejected."""
        table = selection.table.name
        if table not in self._staged:
            try:
                async with connection.transaction():
                    await _copy(connection, qualified(table), selection.columns, rows)
                    return None
            except errors.UniqueViolation as error:
                if not selection.key:
                    return _rejection(error)
                self._staged.add(table)  # perhaps by their keys, which COPY cannot leave out
            except (*REJECTIONS, UnicodeEncodeError) as error:
                return _rejection(error, selection, rows)
        return await self._write_staged(connection, selection, rows, replaces=False)

    async def _write_staged(
        self,
        connection: AsyncConnection,
        selection: Selection,
        rows: Sequence[Row],
        *,
        replaces: bool,
    ) -> Rejection | None:
        """Write rows by way of a temporary table, which may hold keys that are there already.

        The table's own constraints need not know the key, and may be deferrable, which
        `ON CONFLICT` does not take.
        """
        names = {
            "table": qualified(selection.table.name),
            "rows": _rows_of(selection.table),
            "staged": STAGED,
            "columns": _names(selection.columns),
            "same_key": _same_key(selection),
        }
        make = SQL(
            "CREATE TEMPORARY TABLE {staged} ON COMMIT DROP AS SELECT {columns} FROM {table} "
            "WITH NO DATA"
        )
        update = SQL("UPDATE {rows} AS row SET {changes} FROM {staged} AS staged WHERE {same_key}")
        insert = SQL(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} "
            "FROM {staged} AS staged WHERE NOT EXISTS "
            "(SELECT FROM {rows} AS row WHERE {same_key})"
        )
        try:
            async with connection.transaction():
                await connection.execute(make.format(**names))
                await _copy(connection, STAGED, selection.columns, rows)
                changes = _changes(selection)
                if replaces and changes is not None:
                    await connection.execute(update.format(**names, changes=changes))
                await connection.execute(insert.format(**names))
                await connection.execute(SQL("DROP TABLE {}").format(STAGED))
        except (*REJECTIONS, UnicodeEncodeError) as error:
            return _rejection(error, selection, rows)
        return None

    async def _has_checkpoints(self, connection: AsyncConnection) -> bool:
        query = "SELECT to_regclass(%s) IS NOT NULL"
        row = await (await connection.execute(query, [f"{OUR_SCHEMA}.checkpoints"])).fetchone()
        return bool(row and row[0])

    async def _save_checkpoint(
        self, connection: AsyncConnection, table: TableName, key: Key
    ) -> None:
        if not await self._has_checkpoints(connection):
            await create_schema(connection)
            create = SQL(
                "CREATE TABLE {} (plan text, table_name text, key text[] NOT NULL, "
                "PRIMARY KEY (plan, table_name))"
            )
            await connection.execute(create.format(CHECKPOINTS))
        save = SQL(
            "INSERT INTO {} VALUES (%s, %s, %s) "
            "ON CONFLICT (plan, table_name) DO UPDATE SET key = excluded.key"
        )
        await connection.execute(save.format(CHECKPOINTS), (self._plan, str(table), list(key)))


async def _copy(
    connection: AsyncConnection, table: Composable, columns: Sequence[str], rows: Sequence[Row]
) -> None:
    query = SQL("COPY {} ({}) FROM STDIN").format(table, _names(columns))
    async with connection.cursor().copy(query) as copy:
        for row in rows:
            await copy.write_row(row)


def _rows_of(table: CatalogTable) -> Composed:
    return relation(table.name, is_partitioned=table.partitions)


def _names(columns: Sequence[str]) -> Composed:
    return SQL(", ").join(map(Identifier, columns))


def _type(selection: Selection, column: str) -> SQL:
    """Return a column's type as SQL; it is the server's own text, from its catalog."""
    return SQL(selection.table.column(column).type)


def _is_one_of(selection: Selection, keys: Sequence[Key]) -> Composed:
    """Return the condition that a row, aliased `row`, has one of these keys."""
    lists = SQL(", ").join(
        SQL("{}::text[]::{}[]").format([key[place] for key in keys], _type(selection, name))
        for place, name in enumerate(selection.key)
    )
    columns = SQL(", ").join(Identifier("row", name) for name in selection.key)
    return SQL("({}) IN (SELECT * FROM unnest({}))").format(columns, lists)


def _same_key(selection: Selection) -> Composed | SQL:
    if not selection.key:
        return SQL("false")
    return SQL(" AND ").join(
        SQL("row.{0} = staged.{0}").format(Identifier(name)) for name in selection.key
    )


def _changes(selection: Selection) -> Composed | None:
    """Return what an update sets: all but the key, and what the database alone may count."""
    names = [
        name
        for name in selection.columns
        if name not in selection.key
        and selection.table.column(name).identity is not Identity.ALWAYS
    ]
    if not names:
        return None
    return SQL(", ").join(SQL("{0} = staged.{0}").format(Identifier(name)) for name in names)


def _rejection(
    error: Exception, selection: Selection | None = None, rows: Sequence[Row] = ()
) -> Rejection:
    """Return why rows are rejected; of a single one, which of its texts is not valid."""
    if selection is not None and len(rows) == 1:
        reason = invalid_text(selection.columns, rows[0])
        if reason is not None:
            return Rejection(reason)
    if isinstance(error, Error) and error.diag.message_primary:
        return Rejection(error.diag.message_primary, isinstance(error, CONFLICTS))
    return Rejection(type(error).__name__)
