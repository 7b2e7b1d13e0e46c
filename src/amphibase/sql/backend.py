"""The SQL home as a whole: accounts, records and files on one database."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import SERVICE, Caller, Capabilities, Isolation, Model, Result
from amphibase.background import Background
from amphibase.database.compiled import Plans
from amphibase.database.engine import Database
from amphibase.database.executor import Executor, build_executor
from amphibase.database.functions import call_function
from amphibase.errors import Contention, NotSupported
from amphibase.records.cursors import Cursors
from amphibase.settings import Settings
from amphibase.sql.accounts import SqlAccounts
from amphibase.sql.files import SqlFiles
from amphibase.sql.records.json_rows import SqlJsonRows
from amphibase.sql.records.model_info import ModelInfos
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.repository import SqlRepository
from amphibase.sql.transaction import NO_FUNCTIONS, SqlTransaction


class SqlBackend:
    """Accounts and records in one's own SQLite or Postgres.

    `POOL_SIZE` connections are shared by writes and sessions, and the reads that most requests
    wait for.
    """

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self.database = Database(settings.database, settings.pool_options)
        self._rls = settings.rls
        self._executor = build_executor(self.database, rls=settings.rls)
        self._infos = ModelInfos()
        self._plans = Plans()
        self._cursors = Cursors(keys.derive("cursor"))
        self.background = Background()
        self.accounts = SqlAccounts(self.database, self._executor, keys, self.background, settings)
        self.files = SqlFiles(self.database, self._cursors, keys, settings)
        self.capabilities = Capabilities(
            instant_revocation=True,
            transactions=True,
            row_level_security=settings.rls,
            stored_procedures=self.database.dialect != "sqlite",
        )

    def repository(self, model: type[Model], caller: Caller) -> SqlRepository[Model]:
        """The rows of a model as that caller may see and change them."""
        return self._repository(model, caller, self._executor)

    def _repository(
        self, model: type[Model], caller: Caller, executor: Executor
    ) -> SqlRepository[Model]:
        info = self._infos.of(model)
        builder = QueryBuilder(info, caller, executor, self._plans, self._cursors, rls=self._rls)
        return SqlRepository(info, builder, self._infos)

    @asynccontextmanager
    async def transaction(
        self, caller: Caller, *, isolation: Isolation | None = None
    ) -> AsyncIterator[SqlTransaction]:
        """What happens in the block is committed at its end, or not at all."""
        async with self._executor.transaction(caller, isolation) as executor:
            yield SqlTransaction(caller, executor, self._repository, self.database.dialect)

    async def in_transaction(
        self,
        caller: Caller,
        work: Callable[[SqlTransaction], Awaitable[Result]],
        *,
        isolation: Isolation = "serializable",
        attempts: int = 3,
    ) -> Result:
        """Run the work in a transaction, and again in a new one where others were in the way."""
        for attempt in range(1, attempts + 1):
            try:
                async with self.transaction(caller, isolation=isolation) as transaction:
                    return await work(transaction)
            except Contention:
                if attempt == attempts:
                    raise
                # Not at once, and not all at the same time.
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - no secret
        raise ValueError("attempts: at least 1 was expected")

    async def call(
        self, function: str, caller: Caller, *, returns: Any = Any, **arguments: Any
    ) -> Any:
        """Call a stored function of the database, and commit."""
        if not self.capabilities.stored_procedures:
            raise NotSupported(NO_FUNCTIONS)
        async with self._executor.writing(caller) as connection:
            return await call_function(connection, function, returns, arguments)

    @asynccontextmanager
    async def session(self, caller: Caller, *, writes: bool = True) -> AsyncIterator[AsyncSession]:
        """A SQLAlchemy session for statements of one's own; with RLS, the caller's in the
        database's eyes too. The caller is in `session.info["caller"]`.

        Args:
            writes: False for a session that only reads, which on SQLite blocks nobody.
        """
        async with self.database.session(writes=writes) as session:
            session.info["caller"] = caller
            self._executor.accompany(caller, session)
            yield session

    async def identify(
        self, access_token: str, rows: SqlRepository[Any] | SqlJsonRows
    ) -> tuple[Caller, Any]:
        """The caller behind a token and their row, in one round trip.

        Args:
            rows: of the model, as objects or as documents.

        Raises:
            InvalidToken, SessionEnded, UserBanned: as `Accounts.authenticate`.
        """
        tokens = self.accounts.tokens
        caller = tokens.claimed(access_token)
        checked, found = await self._executor.fetch(
            SERVICE, tokens.query_of(caller), rows.query_of(caller.user_id)
        )
        return tokens.admit(caller, checked), rows.result_of(found)

    async def check(self) -> None:
        """Reach the database and the bytes of the files. Raises Unavailable."""
        async with self.database.read() as connection:
            await connection.execute(text("SELECT 1"))
        await self.files.check()

    async def close(self) -> None:
        """Finish what goes on after answers, then close every connection."""
        await self.background.close()
        await self.accounts.close()
        await self.database.close()
