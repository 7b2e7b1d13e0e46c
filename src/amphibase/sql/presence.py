"""The presences of the processes that share a database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import TextClause

from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError, Forbidden
from amphibase.messages.presence_store import (
    LIFETIME_SECONDS,
    Beat,
    StoredPresence,
)
from amphibase.schema.presence import POSTGRES_NAMES, SQLITE_NAMES, create_statements

EXIST = sql(
    "SELECT to_regclass('amphibase.presences') IS NOT NULL "
    "AND to_regclass('amphibase.presence_processes') IS NOT NULL"
)
_PRESENT = (
    "SELECT present.* FROM {presences} AS present "
    "JOIN {processes} AS processes ON processes.id = present.process "
    "WHERE present.topic = :topic AND processes.seen_at > {now} - :lifetime"
)
_LOCK = sql("SELECT pg_advisory_xact_lock(hashtext('amphibase.presences'), hashtext(:topic))")
"""Keeps others from counting the topic's presences until the transaction has ended."""
_OLDEST_FIRST = "ORDER BY present.joined_at, present.id"
STATEMENTS = {
    "register": "INSERT INTO {processes} (id, seen_at) VALUES (:process, {now}) "
    "ON CONFLICT (id) DO NOTHING",
    "put": "INSERT INTO {presences} (id, topic, process, user_id, payload, joined_at) "
    "SELECT :id, :topic, :process, :user_id, :payload, {now} "
    "WHERE (SELECT count(*) FROM {presences} WHERE topic = :topic AND id <> :id) < :most "
    "ON CONFLICT (id) DO UPDATE SET payload = excluded.payload",
    "remove": "DELETE FROM {presences} WHERE id IN :ids",
    "read": f"{_PRESENT} {_OLDEST_FIRST}",
    "read_some": f"{_PRESENT} AND present.id IN :ids {_OLDEST_FIRST}",
    "renew": "UPDATE {processes} SET seen_at = {now} "
    "WHERE id = :process AND seen_at > {now} - :lifetime",
    "revive": "INSERT INTO {processes} (id, seen_at) VALUES (:process, {now}) "
    "ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
    "remove_ended": "DELETE FROM {processes} WHERE seen_at <= {now} - :lifetime",
    "remove_presences": "DELETE FROM {presences} WHERE process NOT IN (SELECT id FROM {processes})",
    "alive": "SELECT id FROM {processes} WHERE seen_at > {now} - :lifetime",
}


class SqlPresences:
    """The presences in a database, whose clock decides who is alive."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._on_postgres = database.dialect == "postgresql"
        names = POSTGRES_NAMES if self._on_postgres else SQLITE_NAMES
        self._statements = {name: _statement(each, names) for name, each in STATEMENTS.items()}
        self._create = create_statements(database.dialect)
        self._has_tables = False

    async def put(self, stored: StoredPresence, most: int) -> bool:
        """Add a presence, or replace its payload; return False where the topic is full."""
        await self._create_tables()
        async with self._database.write() as connection:
            await self._execute(connection, "register", process=stored.process)
            if self._on_postgres:  # SQLite has one writer at a time
                await connection.execute(_LOCK, {"topic": stored.topic})
            result = await self._execute(connection, "put", **stored.values, most=most)
            return bool(result.rowcount)

    async def remove(self, presences: Collection[StoredPresence]) -> None:
        """Remove presences, those of them that are there."""
        async with self._database.write() as connection:
            await self._execute(connection, "remove", ids=[each.presence.id for each in presences])

    async def read(
        self, topic: str, ids: Collection[str] | None = None
    ) -> Sequence[StoredPresence]:
        """Return the presences of living processes on a topic, the oldest first."""
        await self._create_tables()
        values: dict[str, Any] = {"topic": topic, "lifetime": LIFETIME_SECONDS}
        if ids is not None:
            values["ids"] = list(ids)
        async with self._database.read() as connection:
            name = "read" if ids is None else "read_some"
            rows = (await self._execute(connection, name, **values)).all()
        return [
            StoredPresence.of(row.id, row.topic, row.process, row.user_id, row.payload)
            for row in rows
        ]

    async def beat(self, process: str) -> Beat:
        """Record that a process is alive, and remove those that are not, with their presences."""
        await self._create_tables()
        values = {"process": process, "lifetime": LIFETIME_SECONDS}
        async with self._database.write() as connection:
            renewed = await self._execute(connection, "renew", **values)
            was_alive = bool(renewed.rowcount)
            if not was_alive:
                await self._execute(connection, "revive", process=process)
            for name in ("remove_ended", "remove_presences"):
                await self._execute(connection, name, lifetime=LIFETIME_SECONDS)
            rows = await self._execute(connection, "alive", lifetime=LIFETIME_SECONDS)
            return Beat(was_alive, frozenset(rows.scalars()))

    async def _execute(self, connection: AsyncConnection, name: str, **values: Any) -> Any:
        return await connection.execute(self._statements[name], values)

    async def _create_tables(self) -> None:
        if self._has_tables:
            return
        if not (self._on_postgres and await self._exist()):
            try:
                async with self._database.write() as connection:
                    for statement in self._create:
                        await connection.execute(sql(statement))
            except Forbidden:
                raise ConfigurationError(
                    "Presence needs tables that the role of DATABASE_URL may not create; let the "
                    f"owner of the database run: {'; '.join(self._create)}"
                ) from None
        self._has_tables = True

    async def _exist(self) -> bool:
        async with self._database.read() as connection:
            return bool(await connection.scalar(EXIST))


def _statement(template: str, names: Mapping[str, str]) -> TextClause:
    statement = sql(template.format(**names))
    if ":ids" in template:
        return statement.bindparams(bindparam("ids", expanding=True))
    return statement
