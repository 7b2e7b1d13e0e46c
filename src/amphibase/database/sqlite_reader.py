"""Reads a SQLite database in one turn of a thread, where the engine takes one for each step."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Dialect
from sqlalchemy.engine import URL

Result = TypeVar("Result")


class SqliteReader:
    """One more connection, for what is read again and again.

    A transaction of two queries on the engine goes to the thread of its connection and back a dozen
    times, and each time may wait for a processor.

    Args:
        dialect: of an engine for the database.
    """

    def __init__(self, dialect: Dialect, url: URL) -> None:
        self._dialect = dialect
        self._url = url
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.Lock()
        self._is_closed = False

    async def read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Call a function in a transaction that reads, in a thread; return what it returns.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        return await asyncio.to_thread(self._read, function)

    def close(self) -> None:
        """Close the connection for good."""
        with self._turn:
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()

    def _read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._turn:
            if self._is_closed:
                raise sqlite3.ProgrammingError("the reader is closed")
            if self._connection is None:
                self._connection = connect(self._dialect, self._url)
            self._connection.execute("BEGIN")
            try:
                return function(self._connection)
            finally:
                self._connection.execute("ROLLBACK")


def connect(dialect: Dialect, url: URL, **more: Any) -> sqlite3.Connection:
    """Open a connection that begins no transaction by itself, and that any thread may use.

    Args:
        dialect: of an engine for the database.
        more: arguments of `sqlite3.connect`.
    """
    (path,), options = dialect.create_connect_args(url)
    own: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, **more}
    connection: sqlite3.Connection = sqlite3.connect(path, **{**options, **own})
    return connection
