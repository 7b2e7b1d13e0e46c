"""The SQL home as a whole: accounts, records and files on one database."""

from typing import Any

from sqlalchemy import text

from amphibase.backend import SERVICE, Caller, Capabilities, Model
from amphibase.background import Background
from amphibase.cursors import Cursors
from amphibase.errors import Forbidden
from amphibase.settings import Settings
from amphibase.sql.accounts import SqlAccounts
from amphibase.sql.engine import Database
from amphibase.sql.files import SqlFiles
from amphibase.sql.plan import build_executor
from amphibase.sql.repository import SqlRepository
from amphibase.tokens import KeyRing


class SqlBackend:
    """Accounts and records in one's own SQLite or Postgres.

    `POOL_SIZE` connections are shared by the engine, for writes and sessions, and the executor,
    for the reads that most requests wait for.
    """

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        for_reads = settings.pool_size // 2
        self.database = Database(settings, pool_size=settings.pool_size - for_reads)
        self._executor = build_executor(
            self.database,
            size=max(1, for_reads),
            pooled_by_transaction=settings.pooled_by_transaction,
        )
        self._repositories: dict[type[Any], SqlRepository[Any]] = {}
        self._cursors = Cursors(keys.derive("cursor"))
        self.background = Background()
        self.accounts = SqlAccounts(self.database, self._executor, keys, self.background, settings)
        self.files = SqlFiles(self.database, self._cursors, keys, settings)
        self.capabilities = Capabilities(
            instant_revocation=True,
            transactions=True,
            row_level_security=False,
            stored_procedures=False,
        )

    def repository(self, model: type[Model], caller: Caller) -> SqlRepository[Model]:
        """The rows of a model; without a declaration of access they are the service's alone."""
        if caller.role != "service_role":
            raise Forbidden(f"{model.__name__} declares no access; only the service may use it")
        found = self._repositories.get(model)
        if found is None:
            found = SqlRepository(model, self.database, self._executor, self._cursors)
            self._repositories[model] = found
        return found

    async def identify(self, access_token: str, model: type[Model]) -> tuple[Caller, Model | None]:
        """The caller behind a token and their row of a model, in one round trip.

        Raises:
            InvalidToken, SessionEnded, UserBanned: as `Accounts.authenticate`.
        """
        caller = self.accounts.claimed(access_token)
        rows = self.repository(model, SERVICE)
        checked, found = await self._executor.fetch(
            self.accounts.query_of(caller), rows.query_of(caller.user_id)
        )
        return self.accounts.admit(caller, checked), rows.answer_of(found)

    async def check(self) -> None:
        """Reach the database and the bytes of the files. Raises Unavailable."""
        async with self.database.read() as connection:
            await connection.execute(text("SELECT 1"))
        await self.files.check()

    async def close(self) -> None:
        """Finish what goes on after answers, then close every connection."""
        await self.background.close()
        await self.accounts.close()
        await self._executor.close()
        await self.database.close()
