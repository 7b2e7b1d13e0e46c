"""The engine of an SQL home: connections, transactions, and the one place where driver errors
become ours."""

import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    NoResultFound,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm.exc import StaleDataError

from amphibase.backend import Isolation
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Contention,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    InvalidValue,
    NotFound,
    StaleVersion,
    Unavailable,
)
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


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the driver's errors inside the block into Amphibase's."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


def translate(error: BaseException) -> AmphibaseError | None:
    """The error of ours that a driver's error means; None where it is a fault of the program."""
    if isinstance(error, PoolTimeout):
        return Unavailable("All database connections are in use; try again")
    if isinstance(error, NoResultFound):
        return NotFound()
    if isinstance(error, StaleDataError):
        return StaleVersion()
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # A value that its column's type could not turn into the database's.
        return InvalidValue("A value does not fit the type of its column")
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, OverflowError):  # an integer that SQLite has no room for
        return InvalidValue("A number is out of the range of its column")
    if isinstance(original, psycopg.Error):
        return _from_postgres(original)
    if isinstance(original, sqlite3.Error):
        return _from_sqlite(original)
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable()
    return None


def _from_postgres(error: psycopg.Error) -> AmphibaseError | None:
    """By SQLSTATE (PostgreSQL docs, appendix A)."""
    match error.sqlstate or "":
        case "23505":
            return Conflict(
                columns=_constraint_columns(error), constraint=error.diag.constraint_name
            )
        case "23503" | "23001":
            return ForeignKeyViolation()
        case "23502" | "23514" | "23P01":
            return _invalid_value(error.diag.column_name)
        case "42501":
            return Forbidden("The database does not let this caller do that")
        case "P0001":  # RAISE EXCEPTION, by a function or a trigger of the application's
            return InvalidRequest(error.diag.message_primary)
        case "42883" | "42804":
            return InvalidValue("A column is compared with a value of another type")
        case state if state.startswith("22"):
            return InvalidValue()
        case "40001" | "40P01" | "55P03":
            return Contention()
        case "57014":
            return Unavailable("The database took too long; try again", retry_after=1)
        case "53100":
            return Unavailable("The disk of the database is full")
        case state if state.startswith(("08", "25006", "53", "57P", "58")):
            return Unavailable()
        case "" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unavailable()
        case "" if isinstance(error, psycopg.DataError):  # NUL in text, refused by the driver
            return InvalidValue()
    return None


def _invalid_value(column: str | None) -> InvalidValue:
    if not column:
        return InvalidValue()
    return InvalidValue(refusal_of(column), field=column)


def refusal_of(column: str) -> str:
    """What is said where the database refuses a value of a column."""
    return f"The database does not take this value of {column}"


def _constraint_columns(error: psycopg.Error) -> tuple[str, ...]:
    # The detail names the columns, but in the server's language; the parentheses are constant.
    found = re.search(r"\(([^()]+)\)=\(", error.diag.message_detail or "")
    return tuple(name.strip(' "') for name in found[1].split(",")) if found else ()


def _from_sqlite(error: sqlite3.Error) -> AmphibaseError | None:
    """By extended result code (SQLite docs, "Result and Error Codes")."""
    message = str(error)
    name = getattr(error, "sqlite_errorname", "")
    match name:
        case "SQLITE_CONSTRAINT_UNIQUE" | "SQLITE_CONSTRAINT_PRIMARYKEY":
            names = message.partition(": ")[2].split(", ")
            return Conflict(columns=[part.rpartition(".")[2] for part in names if "." in part])
        case "SQLITE_CONSTRAINT_FOREIGNKEY":
            return ForeignKeyViolation()
        case "SQLITE_CONSTRAINT_NOTNULL":
            return _invalid_value(message.rpartition(".")[2])
        case "SQLITE_CONSTRAINT_CHECK" | "SQLITE_CONSTRAINT_DATATYPE":
            return InvalidValue()
        case "SQLITE_MISMATCH" | "SQLITE_TOOBIG":
            return InvalidValue()
        case "SQLITE_FULL":
            return Unavailable("The disk of the database is full")
        case _ if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Contention()
        case _ if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
            return Unavailable()
        case "SQLITE_NOTADB" | "SQLITE_CORRUPT":
            return Unavailable("The database file is damaged or is not a database")
    return None
