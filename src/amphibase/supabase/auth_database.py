"""Auth's own tables, for what its API does not tell: where a user is signed in, and whether a
session still holds."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.engine import URL

from amphibase.accounts.session_rows import end_sessions, sessions_of
from amphibase.accounts.token_check import SessionCheck
from amphibase.backend import SERVICE, Caller, UserSession
from amphibase.database.build import build_executor
from amphibase.database.engine import Database, PoolOptions
from amphibase.schema.tables import tables


class AuthDatabase:
    """Reads and ends sessions in the database of a project (`SUPABASE_DB_URL`).

    Args:
        url: of the database, as a user who may read and delete sessions, such as `postgres`.
    """

    def __init__(self, url: URL, options: PoolOptions) -> None:
        self._database = Database(url, options)
        self._executor = build_executor(self._database, rls=False)
        table_set = tables(self._database.dialect)
        self._sessions = table_set.sessions
        self._check = SessionCheck(table_set)

    async def admit(self, caller: Caller) -> Caller:
        """Return the caller whose token holds. Raises SessionEnded, UserBanned."""
        (rows,) = await self._executor.fetch(SERVICE, self._check.query_of(caller))
        return self._check.admit(caller, rows)

    async def sessions(self, user_id: UUID) -> Sequence[UserSession]:
        """Return where a user is signed in, newest first."""
        async with self._executor.reading(SERVICE) as connection:
            return await sessions_of(connection, self._sessions, user_id)

    async def end(self, user_id: UUID, session_id: UUID | None = None) -> bool:
        """End one session of a user, or all; return whether any was ended."""
        async with self._executor.writing(SERVICE) as connection:
            return await end_sessions(connection, self._sessions, user_id, session_id)

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()
