"""Whether a SQLite database may have changed, for a few microseconds."""

import sqlite3

from sqlalchemy import Dialect
from sqlalchemy.engine import URL

from amphibase.database.sqlite_reader import connect


class DataVersion:
    """Reads what SQLite counts up for each connection when others commit (its docs, "PRAGMA
    data_version").

    In WAL mode it is in memory that the processes share, so that reading it waits for nothing, and
    takes a hundredth of handing a query to the thread of a connection.

    Args:
        dialect: of an engine for the database.
    """

    def __init__(self, dialect: Dialect, url: URL) -> None:
        self._dialect = dialect
        self._url = url
        self._connection: sqlite3.Connection | None = None

    def read(self) -> int | None:
        """Return the version, which another commit changes; None where it cannot be read now."""
        try:
            if self._connection is None:
                self._connection = connect(self._dialect, self._url, timeout=0)
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:  # such as locked; reading the database itself says why
            return None
        return version

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
