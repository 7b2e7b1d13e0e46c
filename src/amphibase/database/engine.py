"""A SQL database: its connection pools, and how a transaction begins."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from amphibase.backend import Isolation
from amphibase.column_types import DECIMAL_COLLATION, compare_decimals
from amphibase.database.errors import translated_errors
from amphibase.database.json_reader import read_json
from amphibase.database.session_settings import SESSION_SETTINGS, set_locally
from amphibase.database.url import POOLER_PORT, parse_url, to_conninfo
from amphibase.errors import Contention
from amphibase.private_names.aiosqlite import create_collation

if TYPE_CHECKING:
    from amphibase.database.data_version import DataVersion
    from amphibase.database.pool import PipelinePool
    from amphibase.database.sqlite_reader import SqliteReader

BUSY_TIMEOUT_MS = 10_000
POOL_TIMEOUT_SECONDS = 10
CONNECT_TIMEOUT_SECONDS = 10

OR_BY_TRANSACTION = ", or set POOL_MODE=transaction"
"""What else to do about a pooler that keeps no sessions."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How many connections a database has, and how they are pooled.

    Attributes:
        size: the most connections that stay open, over all pools of the database.
        pipelined: how many of them read in pipeline mode; Postgres only.
        max_overflow: how many more may be opened under load, for what is not pipelined.
        recycle: seconds after which a connection is replaced; -1 for never.
        by_transaction: whether a pooler gives out a server connection for one transaction at a
            time: nothing of a session can be relied on. None decides by the port.
        echo: whether statements are logged, without their values.
    """

    size: int = 20
    pipelined: int = 0
    max_overflow: int = 0
    recycle: int = 3600
    by_transaction: bool | None = None
    echo: bool = False


class Database:
    """One SQL database: its pools, its dialect, and how to begin to read and to write.

    Args:
        url: as `parse_url` takes or returns it.
        options: of the pools; `size` connections are opened at most, apart from the overflow.

    Attributes:
        engine: for writing and for sessions.
        readers: for reading. On SQLite a pool of its own, so that those who wait for their turn
            to write hold no connection that a reader needs; else the same as `engine`.
        options: with `by_transaction` decided.
        on_write: called after each transaction for writing that this process has committed.
        pipeline: for reads of one round trip; None where no connection is set aside for them.
        data_version: says whether the database may have changed; None but on SQLite.
        sqlite_reader: for what is read again and again; None but on SQLite.

    Raises:
        ValueError: the URL is not of a supported database.
    """

    def __init__(self, url: str | URL, options: PoolOptions | None = None) -> None:
        options = options or PoolOptions()
        self.url = parse_url(url) if isinstance(url, str) else url
        if options.by_transaction is None:
            options = replace(options, by_transaction=self.url.port == POOLER_PORT)
        self.options = options
        self.dialect: str = self.url.get_backend_name()
        self.pipeline: PipelinePool | None = None
        self.data_version: DataVersion | None = None
        self.sqlite_reader: SqliteReader | None = None
        if self.dialect == "sqlite":
            self.readers, self.engine = _sqlite_engines(self.url, options)
            self.data_version, self.sqlite_reader = _sqlite_connections(self.engine)
        else:
            self.pipeline = _pipeline_pool(self.url, options)
            self.readers = self.engine = _postgres_engine(self.url, options)
        self.on_write: Callable[[], None] = _nothing
        self._writers = self.engine.execution_options(writes=True)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction for reading. Raises Amphibase's errors instead of the driver's."""
        with translated_errors():
            async with self.readers.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, isolation: Isolation | None = None) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction for writing, committed at the end; on SQLite it waits for its turn.

        Args:
            isolation: the database's own by default; SQLite's is always serializable.
        """
        engine = self._writers
        if isolation is not None and self.dialect != "sqlite":
            engine = engine.execution_options(isolation_level=isolation.upper())
        with translated_errors(), self._waiting_to_write():
            async with engine.begin() as connection:
                yield connection
        self.on_write()

    @asynccontextmanager
    async def session(self, *, writes: bool = True) -> AsyncIterator[AsyncSession]:
        """Open an ORM session, committed at the end; whatever fails, nothing of it is stored.

        Args:
            writes: False for a session that only reads, which on SQLite blocks no other.
        """
        waiting = self._waiting_to_write() if writes else nullcontext()
        with translated_errors(), waiting:
            engine = self._writers if writes else self.readers
            async with AsyncSession(engine, expire_on_commit=False) as session:
                try:
                    yield session
                    await session.commit()
                except BaseException:
                    await session.rollback()
                    raise
        if writes:
            self.on_write()

    @contextmanager
    def _waiting_to_write(self) -> Iterator[None]:
        """Raise Contention where the turn to write on SQLite did not come in time: it is the other
        transactions that are in the way, as for a writer of another process."""
        try:
            yield
        except QueueTimeout as error:
            if self.readers is self.engine:
                raise
            raise Contention from error

    async def close(self) -> None:
        """Close every connection; one that is in use, as soon as it is given back."""
        if self.pipeline is not None:
            await self.pipeline.close()
        for connection in (self.data_version, self.sqlite_reader):
            if connection is not None:
                connection.close()
        for engine in (self.engine, self.readers):
            # Given back after this, it would stay open in the pool that was disposed of.
            event.listen(engine.sync_engine, "checkin", _close_entry)
            await engine.dispose()


def _nothing() -> None:
    """Do nothing."""


def _close_entry(_: object, entry: ConnectionPoolEntry) -> None:
    """Close the connection of a pool's entry."""
    entry.close()


def _sqlite_connections(engine: AsyncEngine) -> "tuple[DataVersion, SqliteReader]":
    from amphibase.database.data_version import DataVersion  # brings SQLite's driver
    from amphibase.database.sqlite_reader import SqliteReader

    return DataVersion(engine.dialect, engine.url), SqliteReader(engine.dialect, engine.url)


def _pipeline_pool(url: URL, options: PoolOptions) -> "PipelinePool | None":
    size = min(options.pipelined, options.size - 1)  # at least one is left to write
    if size < 1:
        return None
    from amphibase.database.pool import PipelinePool  # brings Postgres's driver

    return PipelinePool(
        to_conninfo(url),
        size=size,
        prepare=not options.by_transaction,
        otherwise=OR_BY_TRANSACTION,
    )


def _engine(url: URL, options: PoolOptions, size: int, overflow: int, **more: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        echo=options.echo,
        hide_parameters=True,
        json_deserializer=read_json,
        pool_size=size,
        max_overflow=overflow,
        pool_recycle=options.recycle,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        **more,
    )


def _postgres_engine(url: URL, options: PoolOptions) -> AsyncEngine:
    from amphibase.database import connecting  # brings Postgres's driver

    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "amphibase",
        # So does SQLAlchemy's `async_creator`, but without the arguments of the dialect.
        "async_creator_fn": connecting.connect,
    }
    if options.by_transaction:
        arguments["prepare_threshold"] = None
    else:
        arguments["async_creator_fn"] = connecting.connect_session
        arguments |= {"settings": SESSION_SETTINGS, "otherwise": OR_BY_TRANSACTION}
    size = options.size - min(options.pipelined, options.size - 1)
    engine = _engine(
        url, options, size, options.max_overflow, pool_pre_ping=True, connect_args=arguments
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        from amphibase.database.adapters import read_strictly  # brings Postgres's driver

        read_strictly(connection.driver_connection)

    if options.by_transaction:
        settings = set_locally(SESSION_SETTINGS)

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(settings)

    return engine


def _sqlite_engines(url: URL, options: PoolOptions) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engine for reading and the one for writing.

    SQLite has one writer at a time (its docs, "Write-Ahead Logging"), so one connection writes,
    and those who wait for it hold none. A pool of one does both.
    """
    if options.size == 1:
        engine = _sqlite_engine(url, options, 1, options.max_overflow)
        return engine, engine
    readers = _sqlite_engine(url, options, options.size - 1, options.max_overflow)
    return readers, _sqlite_engine(url, options, 1, 0)


def _sqlite_engine(url: URL, options: PoolOptions, size: int, overflow: int) -> AsyncEngine:
    # None: the driver begins nothing by itself, `begin` below does.
    arguments = {"isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000}
    from amphibase.database.sqlite_now import write_full_timestamps
    from amphibase.database.sqlite_search import add_search

    engine = _engine(url, options, size, overflow, connect_args=arguments)
    write_full_timestamps(engine.dialect)

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.run_async(
            partial(create_collation, name=DECIMAL_COLLATION, compare=compare_decimals)
        )
        add_search(connection)
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
