"""Indexes by which a database finds what refers to a row, while an undo deletes rows.

A foreign key looks for references to each row that is deleted, in the whole table where no index
has them (PostgreSQL docs, "Foreign Keys"; SQLite docs, "Required and Suggested Database Indexes"):
of 40,000 rows that refer to one another, each of 40,000 times.
"""

import hashlib
import sqlite3
from contextlib import suppress
from typing import LiteralString

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Identifier

from amphibase.move.catalog import TableName
from amphibase.move.tables.postgres_session import LOCK_SECONDS, qualified
from amphibase.move.tables.sqlite_catalog import quoted

PREFIX = "amphibase_move_index_"

_ON_POSTGRES: LiteralString = """
SELECT EXISTS (
    SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = to_regclass(%s) AND attname = %s AND indisvalid AND indpred IS NULL
)
"""
_ON_SQLITE = """
SELECT 1 FROM pragma_index_list(?) AS indexes, pragma_index_info(indexes.name) AS parts
WHERE parts.seqno = 0 AND parts.name = ? AND NOT indexes.partial
"""
_OURS_ON_POSTGRES: LiteralString = """
SELECT nspname::text, relname::text FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('i', 'I') AND NOT relispartition AND starts_with(relname, %s)
    AND pg_has_role(relowner, 'USAGE')
"""
_OURS_ON_SQLITE = "SELECT name FROM sqlite_master WHERE type = 'index' AND name GLOB ?"


async def index_on_postgres(connection: AsyncConnection, table: TableName, column: str) -> None:
    """Have an index that begins with a column, in a transaction; none where the table belongs to
    somebody else or is in use for long."""
    name = qualified(table)
    cursor = await connection.execute(_ON_POSTGRES, (name.as_string(connection), column))
    if await cursor.fetchone() == (True,):
        return
    make = SQL("CREATE INDEX {} ON {} ({})")
    with suppress(errors.InsufficientPrivilege, errors.LockNotAvailable):
        async with connection.transaction():
            await _limit_waiting(connection)
            own = Identifier(_name(table, column))
            await connection.execute(make.format(own, name, Identifier(column)))


async def drop_on_postgres(connection: AsyncConnection) -> None:
    """Drop the indexes that were made, in a transaction."""
    cursor = await connection.execute(_OURS_ON_POSTGRES, (PREFIX,))
    for index in await cursor.fetchall():
        await _limit_waiting(connection)
        await connection.execute(SQL("DROP INDEX IF EXISTS {}").format(Identifier(*index)))


def index_on_sqlite(connection: sqlite3.Connection, table: TableName, column: str) -> None:
    """Have an index that begins with a column."""
    if connection.execute(_ON_SQLITE, (table.name, column)).fetchone() is None:
        own, name = quoted(_name(table, column)), quoted(table.name)
        connection.execute(f"CREATE INDEX {own} ON {name} ({quoted(column)})")


def drop_on_sqlite(connection: sqlite3.Connection) -> None:
    """Drop the indexes that were made."""
    for (name,) in connection.execute(_OURS_ON_SQLITE, (f"{PREFIX}*",)).fetchall():
        connection.execute(f"DROP INDEX {quoted(name)}")


async def _limit_waiting(connection: AsyncConnection) -> None:
    await connection.execute(SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_SECONDS}s"))


def _name(table: TableName, column: str) -> str:
    return PREFIX + hashlib.sha256(f"{table}\0{column}".encode()).hexdigest()[:16]
