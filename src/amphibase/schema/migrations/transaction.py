"""Opens the transaction in which the tables of a database are changed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.errors import ForeignKeyViolation
from amphibase.schema.table_lock import LOCK

_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


@asynccontextmanager
async def schema_transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that changes tables: one at a time, in this process and on the database.

    Raises:
        ForeignKeyViolation: on SQLite, where changes run without foreign keys: rows would refer to
            rows that do not exist; nothing was changed then.
    """
    # Alembic's `op` is one for the whole process.
    lock = _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    begin = _begin_on_sqlite if database.dialect == "sqlite" else _begin_on_postgres
    async with lock:
        with translated_errors():
            async with begin(database) as connection:
                yield connection


@asynccontextmanager
async def _begin_on_postgres(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        yield connection


@asynccontextmanager
async def _begin_on_sqlite(database: Database) -> AsyncIterator[AsyncConnection]:
    engine = database.engine.execution_options(writes=True)
    async with engine.connect() as connection:
        # To change a column, a table is copied and the old one dropped, which with foreign keys on
        # would delete the rows that refer to it; and inside a transaction they cannot be switched
        # (SQLite docs, "PRAGMA foreign_keys").
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("PRAGMA foreign_keys = OFF")
        try:
            async with connection.begin():
                before = await _foreign_key_violations(connection)
                yield connection
                if violations := await _foreign_key_violations(connection) - before:
                    tables = ", ".join(sorted({f"{child} to {of}" for child, of in violations}))
                    raise ForeignKeyViolation(
                        f"Rows would refer to rows that do not exist ({tables}), so nothing was "
                        "changed"
                    )
        finally:
            # Closed rather than returned to the pool: without foreign keys it is of no use there.
            await connection.invalidate()


async def _foreign_key_violations(connection: AsyncConnection) -> Counter[tuple[str, str]]:
    rows: Any = await connection.exec_driver_sql("PRAGMA foreign_key_check")
    return Counter((child, parent) for child, _, parent, _ in rows)
