"""Accounts in a SQLite database of Amphibase's: the tables `auth_…`, as SQLAlchemy stores them."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Boolean, Table, Uuid
from sqlalchemy.engine import URL

from amphibase.errors import ConfigurationError, StorageFull, Unavailable
from amphibase.models import UtcDateTime
from amphibase.move.accounts.base import RejectedAccount, RowPage, pages_by_id
from amphibase.move.accounts.rows import (
    GENERATED,
    MOVING,
    NOT_UTF8,
    ONLY_OWN_PROVIDERS,
    AuthTable,
    Values,
    differing_columns,
    digest,
    key_of,
)
from amphibase.schema.tables import tables

Result = TypeVar("Result")

PAGE = 1000
BUSY_SECONDS = 30


class SqliteAccounts:
    """The accounts of one database.

    Args:
        identities: whether identities of other providers belong to the accounts.
    """

    finds_rows = True

    def __init__(self, url: URL, *, identities: bool = True) -> None:
        self._identities = identities
        self._path = str(url.database)
        self._connection: sqlite3.Connection | None = None

    async def columns(self, table: AuthTable) -> frozenset[str]:
        found = await self._fetch("SELECT name FROM pragma_table_xinfo(?)", [f"auth_{table}"])
        names = {str(name) for (name,) in found}
        return frozenset(names & {*_table(table).c.keys()}) - GENERATED.get(table, set())

    async def count(self, table: AuthTable) -> int:
        if not await self.columns(table):
            return 0
        statement = f"SELECT count(*) FROM auth_{table} WHERE {self._moving(table)}"  # noqa: S608
        rows = await self._fetch(statement)
        return int(rows[0][0])

    async def read(
        self, table: AuthTable, columns: Collection[str], after: str | None = None
    ) -> AsyncIterator[RowPage]:
        async def fetch(names: Sequence[str], after: str | None) -> list[Values]:
            place = "true" if after is None else "id > ?"
            return await self._values(
                table,
                names,
                f"WHERE {self._moving(table)} AND {place} ORDER BY id LIMIT {PAGE}",
                [] if after is None else [_to_sqlite(table, "id", after)],
            )

        async for page in pages_by_id(columns, after, fetch):
            yield page

    async def rows(
        self, table: AuthTable, columns: Collection[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        names = [*dict.fromkeys([*columns, table.key])]
        marks = ", ".join("?" * len(keys))
        fetched = await self._values(
            table,
            names,
            f"WHERE {self._moving(table)} AND {table.key} IN ({marks})",
            [_to_sqlite(table, table.key, key) for key in keys],
        )
        return {key_of(table, row): row for row in fetched}

    async def written_columns(self, table: AuthTable) -> frozenset[str]:
        return await self.columns(table)

    def takes(self, table: AuthTable, row: Values) -> bool:
        return True

    async def insert(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        return await self._write(table, rows, "ON CONFLICT ({key}) DO NOTHING")

    async def change(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        return await self._write(table, rows, "ON CONFLICT ({key}) DO UPDATE SET {assignments}")

    async def delete(self, table: AuthTable, keys: Sequence[str]) -> None:
        statement = f"DELETE FROM auth_{table} WHERE {table.key} = ?"  # noqa: S608 - an enum's
        values = [[_to_sqlite(table, table.key, key)] for key in keys]
        await self._run(lambda connection: _in_transaction(connection, statement, values))

    async def firing_triggers(self) -> Sequence[str]:
        return ()

    async def in_use(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {}  # no table of an application refers to `auth_users`

    def differences(self, table: AuthTable, sent: Values, there: Values) -> list[str]:
        return differing_columns(sent, there)

    def digest(self, table: AuthTable, row: Values, columns: Collection[str]) -> str:
        return f"{digest(row, columns):016x}"

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _moving(self, table: AuthTable) -> str:
        if table is AuthTable.IDENTITIES and not self._identities:
            return ONLY_OWN_PROVIDERS
        sessions = "SELECT id FROM auth_sessions WHERE refresh_token_hmac_key IS NULL"
        return MOVING.get(table, "true").replace("{moving_sessions}", sessions)

    async def _write(
        self, table: AuthTable, rows: Sequence[Values], on_conflict: str
    ) -> list[RejectedAccount]:
        known = await self.columns(table)
        by_columns: dict[tuple[str, ...], list[Values]] = defaultdict(list)
        for row in rows:
            by_columns[tuple(name for name in row if name in known)].append(row)
        rejected: list[RejectedAccount] = []
        for names, alike in by_columns.items():
            assignments = ", ".join(f"{name} = excluded.{name}" for name in names)
            statement = (
                f"INSERT INTO auth_{table} ({', '.join(names)})"  # noqa: S608 - our own columns
                f" VALUES ({', '.join('?' * len(names))}) "
                + on_conflict.format(key=table.key, assignments=assignments)
            )
            rejected += await self._write_alike(table, names, alike, statement)
        return rejected

    async def _write_alike(
        self, table: AuthTable, names: Sequence[str], rows: Sequence[Values], statement: str
    ) -> list[RejectedAccount]:
        try:
            values = [[_to_sqlite(table, name, row[name]) for name in names] for row in rows]
            await self._run(lambda connection: _in_transaction(connection, statement, values))
        except (ValueError, sqlite3.IntegrityError) as error:
            if len(rows) == 1:
                reason = NOT_UTF8 if isinstance(error, UnicodeEncodeError) else str(error)
                return [RejectedAccount(rows[0], reason)]
            middle = len(rows) // 2
            return [
                *await self._write_alike(table, names, rows[:middle], statement),
                *await self._write_alike(table, names, rows[middle:], statement),
            ]
        return []

    async def _values(
        self, table: AuthTable, names: Sequence[str], condition: str, values: list[Any]
    ) -> list[Values]:
        statement = f"SELECT {', '.join(names)} FROM auth_{table} {condition}"  # noqa: S608
        return [
            {name: _from_sqlite(table, name, value) for name, value in zip(names, row, strict=True)}
            for row in await self._fetch(statement, values)
        ]

    async def _fetch(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._run(lambda connection: connection.execute(statement, values).fetchall())

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return await asyncio.to_thread(self._run_here, work)

    def _run_here(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                self._connection.execute("PRAGMA foreign_keys = ON")
                # So that a text which is not UTF-8 is rejected with its row alone.
                self._connection.text_factory = partial(
                    str, encoding="utf-8", errors="surrogateescape"
                )
            return work(self._connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StorageFull(f"{self._path}: there is no room on the disk") from None
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise Unavailable(f"{self._path}: another program is writing") from None
            raise ConfigurationError(f"{self._path}: {error}") from None


def _in_transaction(
    connection: sqlite3.Connection, statement: str, values: Sequence[Sequence[Any]]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(statement, values)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # which a full disk has ended already
            connection.execute("ROLLBACK")
        raise


def _table(table: AuthTable) -> Table:
    found: Table = getattr(tables("sqlite"), table)
    return found


def _from_sqlite(table: AuthTable, name: str, value: Any) -> str | None:
    """Return what is stored as Postgres writes it."""
    if value is None:
        return None
    kind = _table(table).c[name].type
    if isinstance(kind, Uuid):
        return str(UUID(value))
    if isinstance(kind, Boolean):
        return "t" if value else "f"
    if isinstance(kind, UtcDateTime):
        # Always with six digits, of which Postgres leaves out the zeros.
        return str(value).rstrip("0").rstrip(".") + "+00"
    return str(value)


def _to_sqlite(table: AuthTable, name: str, value: str | None) -> Any:
    """Return how SQLAlchemy stores what Postgres writes. Raises ValueError."""
    if value is None:
        return None
    kind = _table(table).c[name].type
    if isinstance(kind, Uuid):
        return UUID(value).hex
    if isinstance(kind, Boolean):
        return value in ("t", "true")
    if isinstance(kind, UtcDateTime):
        time = datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
        return time.isoformat(" ", "microseconds")
    return value
