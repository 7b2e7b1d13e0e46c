"""Whether a database can store what is written, for readiness checks: nothing is written to ask."""

import asyncio
import os
from pathlib import Path

from sqlalchemy import text

from amphibase.database.engine import Database
from amphibase.errors import Unavailable

MIN_FREE_BYTES = 1024 * 1024
"""Less room than this on the disk of a SQLite file, and a write may fail half-way."""

_TAKES_WRITES = text(
    "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"
)


async def check_writable(database: Database) -> None:
    """Check that the database can be reached and takes writes.

    On SQLite the file and its disk are looked at: a transaction would wait behind every writer.

    Raises:
        Unavailable: it cannot be reached, only reads (a replica, a read-only disk), or is full.
    """
    if database.dialect == "sqlite":
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))
        await asyncio.to_thread(_check_file, Path(str(database.url.database)))
        return
    async with database.write() as connection:
        if not await connection.scalar(_TAKES_WRITES):
            raise Unavailable("The database only reads just now")


def _check_file(path: Path) -> None:
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise Unavailable("The file of the database is read-only")
    disk = os.statvfs(path)
    if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
        raise Unavailable("The disk of the database is full")
