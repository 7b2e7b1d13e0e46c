"""Reads the log of changes on SQLite and on Postgres, and trims it."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.database.statement import Call, Statement
from amphibase.errors import Forbidden, InvalidValue
from amphibase.records.change_log import MAX_ENTRIES, TRIM_ENTRIES, Entry, LogRead, Position
from amphibase.records.snapshot_log import ENTRIES_AT_A_TIME, SnapshotLog
from amphibase.schema.change_log import TABLE

if TYPE_CHECKING:
    from sqlite3 import Connection

Result = TypeVar("Result")

POLL_SECONDS = 0.02
MAX_READ_BYTES = 8 * 1024 * 1024


class SqliteLog:
    """The log of a SQLite database. A position is the id of the last entry, and when that was
    written: in a database that was restored, another one has its id.

    While the database has not changed, looking for entries after the last one costs no query.

    Args:
        max_bytes: the most bytes that the earlier rows of a read have together, if it has more than
            one entry.
    """

    poll_seconds = POLL_SECONDS

    def __init__(self, database: Database, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._finished: tuple[int | None, Position] | None = None

    async def position(self) -> Position:
        end = await self._call(partial(_read_end, after=None))
        return end.last, end.last_at

    async def read(self, after: Position, until: Position | None = None) -> LogRead:
        version = self._version()
        if version is not None and self._finished == (version, after) and until in (None, after):
            return LogRead((), after, after)
        read = await self._read(after, until)
        if read.is_empty and read.end == after:
            self._finished = version, after
        return read

    def _version(self) -> int | None:
        """Return the version of the database. What is read after that may be newer than it."""
        version = self._database.data_version
        return None if version is None else version.read()

    async def _read(self, after: Position, until: Position | None) -> LogRead:
        return await self._call(
            partial(_read_entries, after=after, until=until, max_bytes=self._max_bytes)
        )

    async def _call(self, function: "Callable[[Connection], Result]") -> Result:
        reader = self._database.sqlite_reader
        assert reader is not None
        with translated_errors():
            return await reader.read(function)

    async def identity(self) -> str:
        return ""

    def short(self, position: Position) -> Position:
        return position

    async def trim(self, hours: float) -> int:
        limits = {"seconds": int(hours * 3600), "entries": MAX_ENTRIES, "size": TRIM_ENTRIES}
        async with self._database.write() as connection:
            return (await connection.execute(_SQLITE_TRIM, limits)).rowcount


class _LogEnd(NamedTuple):
    """The end of the log of a SQLite database.

    Attributes:
        last: the id of the last entry, which may have been trimmed.
        first: of the first that is there; None where there is none.
        last_at, after_at: when the last was written, and that after which is read.
    """

    last: int
    first: int | None
    last_at: Any
    after_at: Any


def _read_end(connection: "Connection", after: int | None) -> _LogEnd:
    return _LogEnd(*connection.execute(_SQLITE_END, {"after": after}).fetchone())


def _read_entries(
    connection: "Connection", after: Position, until: Position | None, max_bytes: int
) -> LogRead:
    number = after[0] if len(after) == 2 and isinstance(after[0], int) else None
    end = _read_end(connection, number)
    last: Position = end.last, end.last_at
    if number is None or not _is_in_reach(number, after[1], end):
        return LogRead((), last, last, lost=True)
    last = until or last
    limits = {"after": number, "until": last[0], "max_bytes": max_bytes}
    rows = connection.execute(_SQLITE_ENTRIES, limits).fetchall()
    entries = [
        Entry(table, operation, tuple(json.loads(key or "[]")), old)
        for _, _, table, operation, key, old in rows
    ]
    return LogRead(entries, rows[-1][:2] if rows else last, last)


def _is_in_reach(number: int, written_at: Any, end: _LogEnd) -> bool:
    if number > end.last or end.after_at not in (None, written_at):
        return False  # of another database
    reach: int = end.last if end.first is None else end.first - 1
    return number >= reach


class PostgresLog(SnapshotLog):
    """The log of a Postgres database.

    Args:
        max_bytes: the most bytes that the earlier rows of a read have together, if it has more than
            one entry.
    """

    def __init__(self, database: Database, max_bytes: int) -> None:
        super().__init__(self._call, POLL_SECONDS, max_bytes)
        self._database = database
        # One round trip: a statement is its own transaction and its own snapshot.
        self._engine = database.readers.execution_options(isolation_level="AUTOCOMMIT")

    async def identity(self) -> str:
        try:
            async with self._database.read() as connection:
                identity: str = await connection.scalar(_POSTGRES_IDENTITY)
        except (Forbidden, InvalidValue, DBAPIError):
            return ""  # a server may keep it from its users, or have none, as Aurora
        return sha256(identity.encode()).hexdigest()[:12]

    async def trim(self, hours: float) -> int:
        limits = {"hours": hours, "entries": MAX_ENTRIES, "size": TRIM_ENTRIES}
        async with self._database.write() as connection:
            deleted: int = (await connection.execute(_POSTGRES_TRIM, limits)).scalar_one()
        return deleted

    async def _call(self, **arguments: Any) -> Sequence[dict[str, Any]]:
        with translated_errors():
            if self._database.pipeline is not None:  # takes a ninth of the engine's time
                values = [arguments[name] for name in _ARGUMENTS]
                (rows,) = await self._database.pipeline.run(Call(_PIPELINED_READ, values))
            else:
                async with self._engine.connect() as connection:
                    result = await connection.execute(_POSTGRES_READ, arguments)
                    rows = [tuple(row) for row in result]
        if not rows:
            return [{"snapshot": arguments["after_snapshot"], "lost": False, "id": None}]
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]


def log_of(database: Database, max_bytes: int = MAX_READ_BYTES) -> SqliteLog | PostgresLog:
    """Return the log of a database.

    Args:
        max_bytes: the most bytes that the earlier rows of a read have together, if it has more than
            one entry.
    """
    log = SqliteLog if database.dialect == "sqlite" else PostgresLog
    return log(database, max_bytes)


_SQLITE_END = (
    "SELECT last, "  # noqa: S608 - a constant
    f"(SELECT min(id) FROM {TABLE}) AS first, "
    f"(SELECT changed_at FROM {TABLE} WHERE id = last) AS last_at, "
    f"(SELECT changed_at FROM {TABLE} WHERE id = :after) AS after_at FROM ("
    f"SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{TABLE}'), 0) AS last)"
)
_SQLITE_ENTRIES = (
    "WITH next AS ("  # noqa: S608 - constants
    f"SELECT id, length(CAST(old AS BLOB)) AS bytes FROM {TABLE} "
    f"WHERE id > :after AND id <= :until ORDER BY id LIMIT {ENTRIES_AT_A_TIME}"
    "), upto AS (SELECT id, sum(bytes) OVER (ORDER BY id) AS bytes FROM next) "
    f'SELECT id, changed_at, table_name, operation, "key", old FROM {TABLE} '
    "WHERE id > :after AND id <= ("
    "SELECT coalesce("
    "max(CASE WHEN bytes IS NULL OR bytes <= :max_bytes THEN id END), min(id)) FROM upto"
    ") ORDER BY id"
)
_SQLITE_TRIM = text(
    f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM ("  # noqa: S608 - a constant
    f"SELECT id, changed_at FROM {TABLE} ORDER BY id LIMIT :size"
    f") AS oldest WHERE id <= (SELECT max(id) FROM {TABLE}) - :entries "
    "OR changed_at < CAST(strftime('%s', 'now') AS INTEGER) - :seconds)"
)

_ARGUMENTS = {
    "after_snapshot": "text",
    "until_snapshot": "text",
    "after_transaction": "text",
    "after_id": "bigint",
    "size": "integer",
    "max_bytes": "bigint",
}
_COLUMNS = (
    "snapshot", "lost", "transaction", "id", "table_name", "operation", "key", "old", "found"
)  # fmt: skip


def _postgres_read(*places: str) -> str:
    """Write the call of `read_changes`, which has no row where the snapshot has not changed.

    Args:
        places: the placeholders of its arguments.
    """
    arguments = [
        f"CAST({place} AS {sql_type})"
        for place, sql_type in zip(places, _ARGUMENTS.values(), strict=True)
    ]
    return (
        f"SELECT {', '.join(_COLUMNS)} FROM amphibase.read_changes({', '.join(arguments)}) "  # noqa: S608 - constants
        f"WHERE CAST(pg_current_snapshot() AS text) IS DISTINCT FROM {arguments[0]}"
    )


_POSTGRES_READ = text(_postgres_read(*(f":{name}" for name in _ARGUMENTS)))
_PIPELINED_READ = Statement(
    _postgres_read(*(f"${place}" for place in range(1, len(_ARGUMENTS) + 1)))
)
# A dump that is restored has another table or database, a server that is restored another timeline.
_POSTGRES_IDENTITY = text(
    "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), "
    "CASE WHEN NOT pg_is_in_recovery() "
    "THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END, "
    "(SELECT oid FROM pg_database WHERE datname = current_database()), "
    "CAST(to_regclass('amphibase.changes') AS oid))"
)
_POSTGRES_TRIM = text(
    "SELECT amphibase.trim_changes("
    "CAST(:hours AS double precision), CAST(:entries AS bigint), CAST(:size AS integer))"
)
