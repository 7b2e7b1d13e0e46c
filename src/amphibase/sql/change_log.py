"""Reads the log of changes on SQLite and on Postgres, and trims it."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, TextClause, text

from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.errors import AmphibaseError
from amphibase.records.change_log import Entry, LogRead, Position
from amphibase.redaction import redacted_logger
from amphibase.schema.change_log import TABLE

logger = redacted_logger("amphibase.changes")

ENTRIES_AT_A_TIME = 500
MAX_ENTRIES = 1_000_000
"""The log keeps no more, however young they are."""
TRIM_SECONDS = 600
POLL_SECONDS = 0.05
MAX_POSITION_CHARACTERS = 2000


class SqliteLog:
    """The log of a SQLite database. A position is the id of the last entry."""

    poll_seconds = POLL_SECONDS

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self) -> Position:
        async with self._database.read() as connection:
            last: int = (await connection.execute(_SQLITE_END)).one().last
        return (last,)

    async def read(self, after: Position) -> LogRead:
        async with self._database.read() as connection:
            end = (await connection.execute(_SQLITE_END)).one()
            if not _is_in_reach(after, end):
                return LogRead((), (end.last,), lost=True)
            rows = (await connection.execute(_SQLITE_ENTRIES, {"after": after[0]})).all()
        return LogRead(_entries(rows), (rows[-1].id,) if rows else after)

    def short(self, position: Position) -> Position:
        return position

    async def trim(self, hours: float) -> None:
        """Delete entries that are older, and those beyond `MAX_ENTRIES`."""
        async with self._database.write() as connection:
            await connection.execute(
                _SQLITE_TRIM, {"seconds": int(hours * 3600), "entries": MAX_ENTRIES}
            )


def _is_in_reach(after: Position, end: Row[Any]) -> bool:
    if len(after) != 1 or not isinstance(after[0], int) or after[0] > end.last:
        return False  # of another database
    reach: int = end.last if end.first is None else end.first - 1
    return after[0] >= reach


class PostgresLog:
    """The log of a Postgres database.

    A number of a sequence is taken before its transaction commits, so entries do not become visible
    in the order of their ids. A position is therefore a snapshot, and what follows it are the
    entries that it does not see and a later snapshot does; within one, as far as the last entry
    that was read: `(after, until, transaction, id)`.
    """

    poll_seconds = POLL_SECONDS

    def __init__(self, database: Database) -> None:
        self._database = database
        # One round trip: a statement is its own transaction and its own snapshot.
        self._engine = database.readers.execution_options(isolation_level="AUTOCOMMIT")

    async def position(self) -> Position:
        rows = await self._fetch(text("SELECT pg_current_snapshot()::text"), {})
        return (rows[0][0], None, None, None)

    async def read(self, after: Position) -> LogRead:
        if len(after) != 4 or not isinstance(after[0], str):
            return LogRead((), await self.position(), lost=True)
        values = dict(zip(("after", "until", "transaction", "id"), after, strict=True))
        rows = await self._fetch(_POSTGRES_ENTRIES, {**values, "limit": ENTRIES_AT_A_TIME})
        until: str = after[1] or rows[0].snapshot
        if rows[0].lost:
            return LogRead((), (rows[0].snapshot, None, None, None), lost=True)
        if rows[0].id is None:
            return LogRead((), after)
        if len(rows) < ENTRIES_AT_A_TIME:
            position: Position = (until, None, None, None)
        else:
            position = (after[0], until, rows[-1].transaction, rows[-1].id)
        return LogRead(_entries(sorted(rows, key=lambda row: row.id)), position)

    def short(self, position: Position) -> Position:
        after: str = position[0]
        if len("".join(map(str, position))) <= MAX_POSITION_CHARACTERS:
            return position
        oldest = after.partition(":")[0]  # a snapshot that sees what ended before all that ran
        return (f"{oldest}:{oldest}:", None, None, None)

    async def trim(self, hours: float) -> None:
        """Delete entries that are older, and those beyond `MAX_ENTRIES`, one process at a time."""
        async with self._database.write() as connection:
            await connection.execute(_POSTGRES_TRIM, {"hours": hours, "entries": MAX_ENTRIES})

    async def _fetch(self, statement: TextClause, values: dict[str, Any]) -> Sequence[Row[Any]]:
        with translated_errors():
            async with self._engine.connect() as connection:
                return (await connection.execute(statement, values)).all()


class LogTrimmer:
    """Trims a log from time to time, for as long as its backend is open.

    Args:
        hours: how long entries are kept.
    """

    def __init__(self, log: SqliteLog | PostgresLog, hours: float) -> None:
        self._log = log
        self._hours = hours
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to trim, at once and then again and again."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._log.trim(self._hours)
            except AmphibaseError as error:
                logger.warning("The log of changes could not be trimmed: %s", error)
            await asyncio.sleep(TRIM_SECONDS)

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def log_of(database: Database) -> SqliteLog | PostgresLog:
    """Return the log of a database."""
    return SqliteLog(database) if database.dialect == "sqlite" else PostgresLog(database)


def _entries(rows: Sequence[Row[Any]]) -> list[Entry]:
    return [
        Entry(row.table_name, row.operation, tuple(json.loads(row.key or "[]")), row.old)
        for row in rows
    ]


_SQLITE_END = text(
    f"SELECT (SELECT min(id) FROM {TABLE}) AS first, "  # noqa: S608 - a constant
    f"coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{TABLE}'), 0) AS last"
)
_SQLITE_ENTRIES = text(
    f'SELECT id, table_name, operation, "key", old FROM {TABLE} '  # noqa: S608
    f"WHERE id > :after ORDER BY id LIMIT {ENTRIES_AT_A_TIME}"
)
_SQLITE_TRIM = text(
    f"DELETE FROM {TABLE} WHERE id <= (SELECT max(id) FROM {TABLE}) - :entries "  # noqa: S608
    "OR changed_at < CAST(strftime('%s', 'now') AS INTEGER) - :seconds"
)

_POSTGRES_ENTRIES = text("""
SELECT snapshot::text, lost, transaction::text AS transaction, id, table_name, operation,
    key::text AS key, old::text AS old
FROM (
    SELECT after, coalesce(CAST(:until AS pg_snapshot), current) AS until, current AS snapshot,
        coalesce(pg_snapshot_xmin(after) <= trimmed, false)
            OR pg_snapshot_xmax(after) > pg_snapshot_xmax(current) AS lost
    FROM (
        SELECT CAST(:after AS pg_snapshot) AS after, pg_current_snapshot() AS current,
            (SELECT max(transaction::text::numeric)::text::xid8 FROM amphibase.changes_trimmed)
                AS trimmed
    ) AS positions
) AS position
LEFT JOIN LATERAL (
    SELECT * FROM amphibase.changes
    WHERE transaction >= pg_snapshot_xmin(after)
        AND NOT pg_visible_in_snapshot(transaction, after)
        AND pg_visible_in_snapshot(transaction, until)
        AND (CAST(:id AS bigint) IS NULL
            OR (transaction, id) > (CAST(:transaction AS text)::xid8, CAST(:id AS bigint)))
    ORDER BY transaction, id LIMIT CAST(:limit AS integer)
) AS entry ON NOT lost
""")

_POSTGRES_TRIM = text("""
WITH old AS (
    DELETE FROM amphibase.changes
    WHERE pg_try_advisory_xact_lock(hashtext('amphibase.changes'))
        AND (changed_at < now() - make_interval(secs => :hours * 3600)
            OR id <= (SELECT max(id) FROM amphibase.changes) - :entries)
    RETURNING transaction
), before AS (
    DELETE FROM amphibase.changes_trimmed WHERE EXISTS (SELECT FROM old) RETURNING transaction
)
INSERT INTO amphibase.changes_trimmed
SELECT transaction FROM (SELECT * FROM old UNION ALL SELECT * FROM before) AS each
ORDER BY transaction DESC LIMIT 1
""")
