"""The SQL backend as a whole: accounts, records and files on one database."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn, Protocol, cast

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.previous_passwords import PreviousProject
from amphibase.backend import (
    ATTEMPTS,
    SERVICE,
    AccountHooks,
    Caller,
    Capabilities,
    Isolation,
    Item,
    Model,
    Result,
    RowSource,
    TopicAddress,
    Transaction,
    Where,
)
from amphibase.backend.records import Item_co
from amphibase.background import Background
from amphibase.database.build import build_executor
from amphibase.database.compiled import Query, SelectCache
from amphibase.database.engine import Database
from amphibase.database.executor import Executor
from amphibase.database.functions import call_function
from amphibase.database.sql_connection import SqlConnection
from amphibase.database.writable import check_writable
from amphibase.errors import Contention
from amphibase.messages.hub import MessageHub, Subscription
from amphibase.messages.presence_stream import PresenceStream
from amphibase.models import Base
from amphibase.records.change_log import LogTrimmer
from amphibase.records.change_stream import ChangeStream, open_changes, require_log
from amphibase.records.cursors import Cursors
from amphibase.records.log_reader import LogReader
from amphibase.records.model_info import ModelInfo
from amphibase.records.model_infos import ModelInfos
from amphibase.records.values import Row
from amphibase.schema.change_log import logged_tables
from amphibase.schema.start import prepare
from amphibase.settings.application import Settings
from amphibase.sql.accounts import SqlAccounts
from amphibase.sql.change_log import log_of
from amphibase.sql.files import SqlFiles
from amphibase.sql.messages import messages_of
from amphibase.sql.presence import SqlPresences
from amphibase.sql.records.logged_rows import LoggedRows
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.repository import SqlRepository
from amphibase.sql.transaction import SqlTransaction

FIRST_WAIT_SECONDS = 0.02
MAX_WAIT_SECONDS = 2.0


class SqlRowSource(Protocol[Item_co]):
    """What a row is read from, in two halves, so that more is read in the same round trip."""

    def query_of(self, id: Any) -> Query: ...

    def result_of(self, rows: Sequence[Row]) -> Item_co | None: ...


def sql_capabilities(dialect: str, *, by_transaction: bool = False) -> Capabilities:
    """Return what a backend on that engine can do.

    Args:
        dialect: `sqlite` or `postgresql`, as SQLAlchemy names them.
        by_transaction: whether a pooler gives out a connection for one transaction at a time, so
            that nothing can listen on it.
    """
    on_postgres = dialect == "postgresql"
    return Capabilities(
        backend="Postgres" if on_postgres else "SQLite",
        instant_revocation=True,
        session_list=True,
        transactions=True,
        sessions=True,
        row_level_security=on_postgres,
        stored_functions=on_postgres,
        supabase_client=False,
        hooks=True,
        sql_expressions=True,
        related_rows_in_writes=True,
        long_filters=True,
        snapshots=True,
        bound_signed_urls=True,
        file_sweep=True,
        change_log=True,
        messages=not by_transaction,
    )


class SqlBackend:
    """Accounts and records in one's own SQLite or Postgres.

    `POOL_SIZE` connections are shared by writes and sessions, and the reads that most requests
    wait for.

    Args:
        url: of the database; that of the settings' records by default.
        previous: the project that accounts without a password have come from.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyRing,
        url: URL | None = None,
        previous: PreviousProject | None = None,
    ) -> None:
        self._settings = settings
        self.database = Database(url or settings.database, settings.pool_options)
        self._rls = settings.rls is True and self.database.dialect == "postgresql"
        self._executor = build_executor(self.database, rls=self._rls)
        self._infos = ModelInfos(self.database.dialect)
        self._selects = SelectCache()
        self._cursors = Cursors(keys.derive("cursor"))
        log = log_of(self.database, settings.max_page_bytes)
        self._changes = LogReader(log, self._cursors)
        self.database.on_write = self._changes.notice
        self._trimmer = LogTrimmer(log, settings.change_log_hours)
        self.background = Background()
        self.accounts = SqlAccounts(
            self.database, self._executor, keys, self.background, settings, previous
        )
        self.files = SqlFiles(self.database, self._cursors, keys, settings)
        self._messages = MessageHub(
            messages_of(self.database),
            SqlPresences(self.database),
            self,
            settings.max_queued_messages,
        )
        self.capabilities = sql_capabilities(
            self.database.dialect, by_transaction=self.database.options.by_transaction is True
        )

    def repository(self, model: type[Model], caller: Caller) -> SqlRepository[Model]:
        """Return the rows of a model as that caller may see and change them."""
        return self._repository(model, caller, self._executor)

    def _repository(
        self, model: type[Model], caller: Caller, executor: Executor
    ) -> SqlRepository[Model]:
        info = self._infos.of(model, caller)
        return SqlRepository(info, self._builder(info, caller, executor))

    def _builder(self, info: ModelInfo[Any], caller: Caller, executor: Executor) -> QueryBuilder:
        return QueryBuilder(
            info,
            self._infos,
            caller,
            executor,
            self._selects,
            self._cursors,
            rls=self._rls,
            max_page_bytes=self._settings.max_page_bytes,
            logs_hidden_rows=self._settings.environment == "development",
        )

    @asynccontextmanager
    async def transaction(
        self, caller: Caller, *, isolation: Isolation | None = None
    ) -> AsyncIterator[SqlTransaction]:
        """Begin a transaction: what happens in the block is committed at its end, or not at all."""
        async with self._executor.transaction(caller, isolation) as executor:
            yield SqlTransaction(caller, executor, self._repository, self.capabilities)

    def use_hooks(self, hooks: AccountHooks) -> None:
        """Call an application's hooks, in the transactions of the accounts."""
        self.accounts.use_hooks(hooks, self._transaction_on)

    @asynccontextmanager
    async def _transaction_on(self, connection: SqlConnection) -> AsyncIterator[SqlTransaction]:
        """Open a transaction of the service within that of a connection, which goes on after it."""
        assert isinstance(connection, AsyncConnection)  # of this backend's own engine
        async with self._executor.transaction_on(connection, SERVICE) as executor:
            yield SqlTransaction(SERVICE, executor, self._repository, self.capabilities)

    async def in_transaction(
        self,
        caller: Caller,
        work: Callable[[Transaction], Awaitable[Result]],
        *,
        isolation: Isolation = "serializable",
        attempts: int = ATTEMPTS,
    ) -> Result:
        """Run the work in a transaction, and again in a new one where others were in the way."""
        for attempt in range(1, attempts + 1):
            try:
                async with self.transaction(caller, isolation=isolation) as transaction:
                    return await work(transaction)
            except Contention:
                if attempt == attempts:
                    raise
                longest = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
        raise ValueError("attempts: at least 1 was expected")

    async def call(
        self, function: str, caller: Caller, *, returns: Any = Any, **arguments: Any
    ) -> Any:
        """Call a stored function of the database, and commit."""
        self.capabilities.require("stored_functions")
        async with self._executor.writing(caller) as connection:
            return await call_function(connection, function, returns, arguments)

    @asynccontextmanager
    async def session(self, caller: Caller, *, writes: bool = True) -> AsyncIterator[AsyncSession]:
        """Open a SQLAlchemy session for statements of one's own; with RLS, the caller's in the
        database's eyes too. The caller is in `session.info["caller"]`.

        Args:
            writes: False for a session that only reads, which on SQLite blocks no other.
        """
        async with self.database.session(writes=writes) as session:
            session.info["caller"] = caller
            self._executor.impersonate_in(session, caller)
            yield session

    def supabase(self, caller: Caller) -> NoReturn:
        """Raise NotSupported: this is no Supabase project."""
        self.capabilities.require("supabase_client")
        raise AssertionError("a capability that is not declared")

    @asynccontextmanager
    async def changes(
        self, model: type[Model], caller: Caller, *where: Where, after: str | None = None
    ) -> AsyncIterator[ChangeStream[Model]]:
        """Open the stream of the changes of a model's rows, of everything that commits from now on.

        Args:
            where: filters. A row that does not match any more is `Removed`.
            after: the cursor of an earlier event, after which the stream goes on.
        """
        require_log(model)
        info = self._infos.of(model, caller)
        rows = LoggedRows(info, self._builder(info, caller, self._executor), where)
        async with open_changes(rows, self._changes, after) as changes:
            yield changes

    async def publish(self, topic: TopicAddress, payload: Any, caller: Caller) -> None:
        """Send a message to everyone who is subscribed to a topic now, in every process."""
        self.capabilities.require("messages")
        await self._messages.publish(topic, payload, caller)

    @asynccontextmanager
    async def subscribe(self, topic: TopicAddress, caller: Caller) -> AsyncIterator[Subscription]:
        """Open the stream of what is published on a topic from now on."""
        self.capabilities.require("messages")
        async with self._messages.subscribe(topic, caller) as messages:
            yield messages

    @asynccontextmanager
    async def presence(self, topic: TopicAddress, caller: Caller) -> AsyncIterator[PresenceStream]:
        """Open the presence of a topic: who is there now, and who comes and goes."""
        self.capabilities.require("messages")
        async with self._messages.presence(topic, caller) as presences:
            yield presences

    async def identify(
        self, access_token: str, rows: RowSource[Item]
    ) -> tuple[Caller, Item | None]:
        """Return the caller behind a token and their row, read in one round trip."""
        source = cast("SqlRowSource[Item]", rows)  # this backend's own
        tokens = self.accounts.tokens
        caller = tokens.claimed(access_token)
        checked, selected = await self._executor.fetch(
            SERVICE, tokens.query_of(caller), source.query_of(caller.user_id)
        )
        return tokens.admit(caller, checked), source.result_of(selected)

    async def start(self) -> None:
        """Create missing tables, or in production reject a database that is behind."""
        await prepare(self.database, self._settings, Base.metadata)
        parts = self._settings.parts_in(self.database.url)
        if "accounts" in parts:
            await self.accounts.start()
        if "records" in parts and logged_tables(Base.metadata):
            self._trimmer.start()

    async def check(self) -> None:
        """Check that rows and files can be stored. Raises Unavailable."""
        await check_writable(self.database)
        await self.files.check()

    async def close(self) -> None:
        """Finish the work that goes on after responses, then close every connection, the others too
        where one fails."""
        async with AsyncExitStack() as stack:  # ends with what it was given first
            stack.push_async_callback(self.database.close)
            stack.push_async_callback(self.accounts.close)
            stack.push_async_callback(self.background.close)
            stack.push_async_callback(self._trimmer.close)
            stack.push_async_callback(self._changes.close)
            stack.push_async_callback(self._messages.close)
