"""A SQL database: its engine, connection pools and transactions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from amphibase.backend import Isolation
from amphibase.database.errors import translated_errors
from amphibase.models import DECIMAL_COLLATION, compare_decimals
from amphibase.settings import Settings

BUSY_TIMEOUT_MS = 10_000
POOL_TIMEOUT_SECONDS = 10
CONNECT_TIMEOUT_SECONDS = 10


class Database:
    """One SQL database: an engine, its dialect, and how to begin to read and to write.

    Args:
        settings: `DATABASE_URL` and the pool's settings are read from it.
        pool_size: how many connections to keep, where it is not the whole of `POOL_SIZE`.
    """

    def __init__(self, settings: Settings, *, pool_size: int | None = None) -> None:
        self.url = settings.database
        self.dialect: str = self.url.get_backend_name()
        build = _sqlite_engine if self.dialect == "sqlite" else _postgres_engine
        self.engine = build(settings, pool_size or settings.pool_size)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for reading; errors come out as ours."""
        with translated_errors():
            async with self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, isolation: Isolation | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction for writing, committed at the end; on SQLite it waits for its turn.

        Args:
            isolation: the database's own where not given; SQLite's is always serializable.
        """
        options: dict[str, Any] = {"writes": True}
        if isolation is not None and self.dialect != "sqlite":
            options["isolation_level"] = isolation.upper()
        with translated_errors():
            async with self.engine.execution_options(**options).begin() as connection:
                yield connection

    @asynccontextmanager
    async def session(self, *, writes: bool = True) -> AsyncIterator[AsyncSession]:
        """An ORM session, committed at the end; whatever fails, nothing of it is stored.

        Args:
            writes: False for a session that only reads, which on SQLite blocks nobody.
        """
        engine = self.engine.execution_options(writes=writes)
        with translated_errors():
            async with AsyncSession(engine, expire_on_commit=False) as session:
                try:
                    yield session
                    await session.commit()
                except BaseException:
                    await session.rollback()
                    raise

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _postgres_engine(settings: Settings, pool_size: int) -> AsyncEngine:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "amphibase",
    }
    if settings.pooled_by_transaction:
        arguments["prepare_threshold"] = None
    return create_async_engine(
        settings.database,
        echo=settings.database_echo,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=settings.max_overflow,
        pool_recycle=settings.pool_recycle,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args=arguments,
    )


def _sqlite_engine(settings: Settings, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        settings.database,
        echo=settings.database_echo,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=settings.max_overflow,
        pool_recycle=settings.pool_recycle,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        # None: the driver begins nothing by itself, `begin` below does.
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.run_async(_teach_decimals)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA case_sensitive_like = ON")  # as on Postgres; ilike() is the other
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that turns writer half-way fails at once when another has written meanwhile
        # (SQLite docs, "Transactions", 2.2); a writer that says so at the start waits instead.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine.sync_engine, "reset")
    def reset(connection: Any, _: object, __: object) -> None:
        # After a COMMIT that failed, SQLite keeps the transaction open and SQLAlchemy takes it
        # for ended: without this it would go on in the hands of the connection's next user.
        if connection.driver_connection.in_transaction:
            connection.rollback()

    return engine


async def _teach_decimals(connection: Any) -> None:
    # aiosqlite has no name of its own for this.
    await connection._execute(
        connection._conn.create_collation, DECIMAL_COLLATION, compare_decimals
    )
