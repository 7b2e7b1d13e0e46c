"""Accounts in the schema `auth` of Postgres: of a Supabase project, or of Amphibase's own."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Placeholder
from sqlalchemy.engine import URL

from amphibase.database.url import to_conninfo
from amphibase.errors import ConfigurationError, StorageFull, Unavailable
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

PAGE = 1000

SETTINGS = """
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, MDY';
    SET LOCAL row_security = off
"""
"""In each transaction, so that they hold through a pooler too. With `row_security` off a query of
which policies would hide rows is an error, instead of fewer rows."""

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) = 'timestamp without time zone'
FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
"""

REJECTIONS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.RaiseException,
    UnicodeEncodeError,
)
"""Errors that are about a row; the last one is of a text in SQLite that is not UTF-8."""

NO_RIGHT = (
    "The role of the database URL may not read and write all rows of the schema auth: take the one "
    "of the role postgres, from the project's dashboard under Connect"
)

TRIGGERS = """
SELECT tgname FROM pg_trigger
WHERE tgrelid = to_regclass('auth.users') AND NOT tgisinternal AND tgenabled IN ('O', 'A')
ORDER BY tgname
"""

REFERRERS = """
SELECT c.conrelid::regclass::text, a.attname
FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.confrelid = to_regclass('auth.users')
    AND c.connamespace <> 'auth'::regnamespace AND cardinality(c.conkey) = 1
"""


class PostgresAccounts:
    """The accounts of one database.

    Args:
        url: of the database, as a role that may read and write the schema `auth`.
        identities: whether identities of other providers belong to the accounts.
    """

    finds_rows = True

    def __init__(self, url: URL, *, identities: bool = True) -> None:
        self._identities = identities
        self._conninfo = to_conninfo(url)
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._columns: dict[AuthTable, dict[str, bool]] = {}

    async def columns(self, table: AuthTable) -> frozenset[str]:
        return frozenset(await self._described(table)) - GENERATED.get(table, set())

    async def count(self, table: AuthTable) -> int:
        if not await self._described(table):
            return 0
        rows = await self._fetch(
            SQL("SELECT count(*) FROM {} WHERE {}").format(_name(table), await self._moving(table))
        )
        return int(rows[0][0] or 0)

    async def read(
        self, table: AuthTable, columns: Collection[str], after: str | None = None
    ) -> AsyncIterator[RowPage]:
        async def fetch(names: Sequence[str], after: str | None) -> list[Values]:
            statement = SQL("SELECT {} FROM {} WHERE {} AND {} ORDER BY id LIMIT {}").format(
                SQL(", ").join(map(Identifier, names)),
                _name(table),
                await self._moving(table),
                SQL("true") if after is None else SQL("id > %s"),
                PAGE,
            )
            return await self._values(table, names, statement, [] if after is None else [after])

        async for page in pages_by_id(columns, after, fetch):
            yield page

    async def rows(
        self, table: AuthTable, columns: Collection[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        names = [*dict.fromkeys([*columns, table.key])]
        statement = SQL("SELECT {} FROM {} WHERE {} AND {} = ANY(%s::{}[])").format(
            SQL(", ").join(map(Identifier, names)),
            _name(table),
            await self._moving(table),
            Identifier(table.key),
            SQL("text") if table is AuthTable.REFRESH_TOKENS else SQL("uuid"),
        )
        fetched = await self._values(table, names, statement, [list(keys)])
        return {key_of(table, row): row for row in fetched}

    async def written_columns(self, table: AuthTable) -> frozenset[str]:
        return await self.columns(table)

    def takes(self, table: AuthTable, row: Values) -> bool:
        return True

    async def insert(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        return await self._write(table, rows, SQL("ON CONFLICT ({}) DO NOTHING"))

    async def change(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        return await self._write(table, rows, SQL("ON CONFLICT ({}) DO UPDATE SET {}"))

    async def delete(self, table: AuthTable, keys: Sequence[str]) -> None:
        statement = SQL("DELETE FROM {} WHERE {} = ANY(%s::{}[])").format(
            _name(table),
            Identifier(table.key),
            SQL("text") if table is AuthTable.REFRESH_TOKENS else SQL("uuid"),
        )
        async with self._transaction() as connection:
            await connection.execute(statement, [list(keys)])

    async def firing_triggers(self) -> Sequence[str]:
        async with self._transaction() as connection:
            if await self._silence_triggers(connection):
                return ()
        return [str(name) for (name,) in await self._fetch(SQL(TRIGGERS))]

    async def in_use(self, ids: Sequence[str]) -> Mapping[str, str]:
        used: dict[str, str] = {}
        for table, column in await self._fetch(SQL(REFERRERS)):
            found = await self._fetch(
                SQL("SELECT DISTINCT {} FROM {} WHERE {} = ANY(%s::uuid[])").format(
                    Identifier(str(column)),
                    # As `regclass` writes it, quoted where it has to be.
                    SQL(str(table)),
                    Identifier(str(column)),
                ),
                [list(ids)],
            )
            used.update((str(id), f"rows of {table} refer to it") for (id,) in found)
        return used

    def differences(self, table: AuthTable, sent: Values, there: Values) -> list[str]:
        return differing_columns(sent, there)

    def digest(self, table: AuthTable, row: Values, columns: Collection[str]) -> str:
        return f"{digest(row, columns):016x}"

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _write(
        self, table: AuthTable, rows: Sequence[Values], on_conflict: SQL
    ) -> list[RejectedAccount]:
        known = await self.columns(table)
        by_columns: dict[tuple[str, ...], list[Values]] = defaultdict(list)
        for row in rows:
            by_columns[tuple(name for name in row if name in known)].append(row)
        rejected: list[RejectedAccount] = []
        for names, alike in by_columns.items():
            statement = SQL("INSERT INTO {} ({}) VALUES ({}) ").format(
                _name(table),
                SQL(", ").join(map(Identifier, names)),
                SQL(", ").join([Placeholder()] * len(names)),
            ) + on_conflict.format(Identifier(table.key), _assignments(names))
            rejected += await self._write_alike(table, names, alike, statement)
        return rejected

    async def _write_alike(
        self, table: AuthTable, names: Sequence[str], rows: Sequence[Values], statement: Composed
    ) -> list[RejectedAccount]:
        try:
            async with self._transaction() as connection:
                if table is AuthTable.USERS:
                    await self._silence_triggers(connection)
                async with connection.cursor() as cursor:
                    await cursor.executemany(
                        statement, [[row[name] for name in names] for row in rows]
                    )
        except REJECTIONS as error:
            if len(rows) == 1:
                return [RejectedAccount(rows[0], _reason(error))]
            middle = len(rows) // 2
            return [
                *await self._write_alike(table, names, rows[:middle], statement),
                *await self._write_alike(table, names, rows[middle:], statement),
            ]
        return []

    async def _silence_triggers(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Keep triggers, such as one that makes a profile, from firing, where the role may do so;
        `users` refers to no other table, so that no check of a foreign key is lost.

        Returns:
            Whether they are silent.
        """
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL session_replication_role = replica")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    async def _described(self, table: AuthTable) -> dict[str, bool]:
        """Return the columns, and of each whether it is a time without a zone, which is UTC's."""
        if table not in self._columns:
            found = await self._fetch(SQL(COLUMNS), [f"auth.{table}"])
            self._columns[table] = {str(name): flag == "t" for name, flag in found}
        return self._columns[table]

    async def _moving(self, table: AuthTable) -> Composable:
        if table is AuthTable.IDENTITIES and not self._identities:
            return SQL(ONLY_OWN_PROVIDERS)
        has_signed = "refresh_token_hmac_key" in await self._described(AuthTable.SESSIONS)
        sessions = "SELECT id FROM auth.sessions"
        if has_signed:
            sessions += " WHERE refresh_token_hmac_key IS NULL"
        elif table is AuthTable.SESSIONS:
            return SQL("true")
        condition = MOVING.get(table, "true").replace("{moving_sessions}", sessions)
        return SQL(condition.replace("%", "%%"))

    async def _values(
        self, table: AuthTable, names: Sequence[str], statement: Composable, values: list[Any]
    ) -> list[Values]:
        zoneless = {name for name, flag in (await self._described(table)).items() if flag}
        return [
            {
                name: f"{value}+00" if name in zoneless and value is not None else value
                for name, value in zip(names, row, strict=True)
            }
            for row in await self._fetch(statement, values)
        ]

    async def _fetch(
        self, statement: Composable, values: Sequence[Any] | None = None
    ) -> list[list[str | None]]:
        """Return rows as the server writes their values."""
        async with self._transaction() as connection:
            cursor = await connection.execute(SQL("").join([statement]), values)
        result = cursor.pgresult
        assert result is not None
        return [
            [
                None if (value := result.get_value(row, column)) is None else value.decode()
                for column in range(result.nfields)
            ]
            for row in range(result.ntuples)
        ]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        connection = await self._connected()
        try:
            async with connection.transaction():
                await connection.execute(SETTINGS)
                yield connection
        except psycopg.errors.InsufficientPrivilege:
            raise ConfigurationError(NO_RIGHT) from None
        except psycopg.errors.DiskFull:
            raise StorageFull("There is no room on the disk of the database") from None
        except psycopg.OperationalError:
            await self.close()
            raise Unavailable("The database of the accounts cannot be reached just now") from None

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, prepare_threshold=None
                )
            except psycopg.OperationalError:
                raise Unavailable("The database of the accounts cannot be reached") from None
        return self._connection


def _reason(error: Exception) -> str:
    """Return why a row is rejected, without its values."""
    if isinstance(error, UnicodeEncodeError):
        return NOT_UTF8
    message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return message or str(error)


def _name(table: AuthTable) -> Identifier:
    return Identifier("auth", table)


def _assignments(names: Sequence[str]) -> Composed:
    return SQL(", ").join(
        SQL("{} = excluded.{}").format(Identifier(name), Identifier(name)) for name in names
    )
