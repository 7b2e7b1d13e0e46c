"""aiosqlite's private names: it has no public way to make a collation."""

from collections.abc import Callable
from typing import Any

USED = {
    "aiosqlite.Connection._execute": "database/engine.py",
    "aiosqlite.Connection._conn": "database/engine.py",
}


async def create_collation(connection: Any, name: str, compare: Callable[[str, str], int]) -> None:
    """Make a collation known to a connection; see `sqlite3.Connection.create_collation`."""
    await connection._execute(connection._conn.create_collation, name, compare)
