"""Who is behind an access token: what it says, and whether its session still holds."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select

from amphibase.accounts.jwt.claimed_caller import claimed_caller
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import Caller
from amphibase.column_defaults import utc_now
from amphibase.database.compiled import CompiledSelect, Query
from amphibase.errors import SessionEnded, UserBanned
from amphibase.schema.tables import Tables


class SessionCheck:
    """The check whether a token's session holds: a query, and what its rows mean."""

    def __init__(self, tables: Tables) -> None:
        users, sessions = tables.users, tables.sessions
        its_session = (sessions.c.user_id == users.c.id) & (
            sessions.c.id == bindparam("session_id")
        )
        self._session_select = CompiledSelect(
            select(users.c.banned_until, sessions.c.id)
            .select_from(users.outerjoin(sessions, its_session))
            .where(users.c.id == bindparam("user_id"), users.c.deleted_at.is_(None))
        )

    def query_of(self, caller: Caller) -> Query:
        """Return what to ask the executor of a token's caller."""
        values = {"user_id": caller.user_id, "session_id": caller.session_id}
        return Query(self._session_select, values)

    def admit(self, caller: Caller, rows: Sequence[Any]) -> Caller:
        """Return the caller, if the executor's rows let them in. Raises SessionEnded,
        UserBanned."""
        if not rows:
            raise SessionEnded
        banned_until, session_id = rows[0]
        if session_id != caller.session_id:
            raise SessionEnded
        if banned_until is not None and banned_until > utc_now():
            raise UserBanned
        return caller


class TokenCheck(SessionCheck):
    """The check of a token in three parts, of which the second is the database's."""

    def __init__(self, tables: Tables, keys: KeyRing) -> None:
        super().__init__(tables)
        self._keys = keys

    def claimed(self, access_token: str) -> Caller:
        """Return whom a token names, by its signature and its claims alone. Raises InvalidToken."""
        return claimed_caller(self._keys, access_token)
