"""Sessions and their refresh tokens: opening, rotating, ending.

A refresh token is good once. The next one is derived from what is stored of it (its hash) with a
key that only the server has, so that the database keeps hashes alone, and yet the active token can
be issued again: it is what follows its parent. Reuse is judged as Supabase Auth does it: a used
token counts as a lost response when it is the parent of the active one, or was used a few seconds
ago; then the active one is sent again. Else it was stolen, and the `ReusePolicy` applies.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, func, or_, select, update

from amphibase.accounts.open_session import OpenSession, RefreshRejection, ReusePolicy
from amphibase.accounts.session_rows import SessionStatements, end_sessions, sessions_of
from amphibase.backend import Device, UserSession
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.sql_connection import SqlConnection
from amphibase.database.together import Change, execute_together
from amphibase.schema.tables import Tables

TOKEN_BYTES = 32

_OF_SUPABASE = re.compile(r"[\w-]{1,63}", re.ASCII)


def new_token() -> str:
    """Return a token of 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """Return what is stored of a token: a plain hash, since tokens are random."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _stored_forms(token: str) -> list[str]:
    """Return what a row may hold of a token.

    Tokens from Supabase, which are shorter than any digest, are stored as they are. A digest
    that is read from the database is not a token.
    """
    return [digest(token), token] if _OF_SUPABASE.fullmatch(token) else [digest(token)]


class Sessions:
    """Opens and ends sessions; every method runs in the caller's transaction.

    Args:
        secret: 32 bytes that refresh tokens are derived with.
        lifetime: how long a session lives without being refreshed.
        reuse_interval: how long the reuse of a token still counts as a lost response.
        reuse: what the reuse of a token does after that.
        timebox: how long a session lives at most; None sets no limit.
        single_per_user: whether only the newest session of a user can be refreshed.
        weak_for: how long a session without a second factor can be refreshed where its user has
            one; None for as long as any other.
    """

    def __init__(
        self,
        tables: Tables,
        secret: bytes,
        lifetime: timedelta,
        reuse_interval: timedelta,
        reuse: ReusePolicy = ReusePolicy.END_SESSION,
        *,
        timebox: timedelta | None = None,
        single_per_user: bool = False,
        weak_for: timedelta | None = None,
    ) -> None:
        self._sessions = tables.sessions
        self._tokens = tables.refresh_tokens
        self._claims = tables.mfa_amr_claims
        self._secret = secret
        self._lifetime = lifetime
        self._reuse_interval = reuse_interval
        self._reuse = reuse
        self._timebox = timebox
        self._single_per_user = single_per_user
        self._weak_for = weak_for
        self._factors = tables.mfa_factors
        self._statements = SessionStatements(tables)

    async def open(
        self, connection: SqlConnection, user_id: UUID, device: Device, method: str
    ) -> OpenSession:
        """Open a session and delete the user's expired ones.

        Args:
            method: how the user proved who they are, for the `amr` claim: `password`, `otp`.
        """
        now = utc_now()
        session_id, token = uuid4(), new_token()
        session = {
            "id": session_id,
            "user_id": user_id,
            "aal": "aal1",
            "created_at": now,
            "updated_at": now,
            "user_agent": device.user_agent,
            "ip": device.ip,
        }
        await execute_together(
            connection,
            (
                self._statements.delete_expired,
                {"its_user": user_id, "oldest": now - self._lifetime},
            ),
            (self._statements.insert_session, session),
            self._method_row(session_id, method, now),
            self._token_row(session_id, user_id, token, None, now),
        )
        amr = [{"method": method, "timestamp": int(now.timestamp())}]
        weak_until = await self._weak_until(connection, user_id, now)
        return OpenSession(session_id, user_id, token, amr, method=method, weak_until=weak_until)

    async def rotate(
        self, connection: SqlConnection, token: str, device: Device | None = None
    ) -> OpenSession | RefreshRejection:
        """Exchange a refresh token for the next one.

        What a rejection does (ending the session) is part of the transaction: commit it, then
        raise.

        Args:
            device: what the session is used from now; None leaves that as it is.
        """
        session = await self._lock_session_of(connection, token)
        if session is None:
            return RefreshRejection.UNKNOWN
        now = utc_now()
        used = (
            await connection.execute(
                select(self._tokens).where(self._tokens.c.token.in_(_stored_forms(token)))
            )
        ).one()
        rejection = await self._validity_rejection(connection, session, used, now)
        if rejection is not None:
            await self.end(connection, session.user_id, session.id)
            return rejection
        weak_until = None
        if session.aal != "aal2":
            weak_until = await self._weak_until(connection, session.user_id, session.created_at)
            if weak_until is not None and weak_until < now:
                # Whoever shows the second factor in time goes on with the same session.
                return RefreshRejection.WEAK
        if used.revoked:
            following = await self._active_after(connection, session.id, used, now)
            if following is None:
                await self._apply_reuse_policy(connection, session, now)
                return RefreshRejection.REUSED
        else:
            following = self._next_of(used.token)
            await execute_together(
                connection,
                *self._replacement(session, used, following, now),
                # The used ones stay for as long as their reuse has to be recognised.
                (
                    self._statements.delete_old_tokens,
                    {"its_session": session.id, "oldest": now - self._lifetime},
                ),
                (
                    self._statements.change_session,
                    {
                        "its_session": session.id,
                        "refreshed_at": now,
                        "updated_at": now,
                        **({"user_agent": device.user_agent, "ip": device.ip} if device else {}),
                    },
                ),
            )
        return OpenSession(
            session.id,
            session.user_id,
            following,
            await self._methods(connection, session.id),
            session.aal or "aal1",
            is_repeated=used.revoked,
            weak_until=weak_until,
        )

    async def raise_to_aal2(
        self, connection: SqlConnection, session_id: UUID, factor_id: UUID, method: str
    ) -> OpenSession | None:
        """Raise a session to `aal2` after a second factor, and exchange its refresh token.

        Returns None where the session has ended.

        Args:
            method: of the factor, for the `amr` claim: `totp`.
        """
        now = utc_now()
        raised = await connection.execute(
            update(self._sessions)
            .where(self._sessions.c.id == session_id)
            .values(aal="aal2", factor_id=factor_id, updated_at=now)
            .returning(self._sessions)
        )
        session = raised.one_or_none()
        active = await self._active(connection, session_id)
        if session is None or active is None:
            return None
        await connection.execute(
            delete(self._claims).where(
                self._claims.c.session_id == session_id,
                self._claims.c.authentication_method == method,
            )
        )
        await connection.execute(*self._method_row(session_id, method, now))
        following = self._next_of(active.token)
        await execute_together(connection, *self._replacement(session, active, following, now))
        amr = await self._methods(connection, session_id)
        return OpenSession(session_id, session.user_id, following, amr, session.aal, method)

    async def find(
        self, connection: SqlConnection, session_id: UUID, user_id: UUID
    ) -> Row[Any] | None:
        """Return the row of a user's session; None where it has ended."""
        values = {"its_id": session_id, "its_user": user_id}
        return (await connection.execute(self._statements.of_user, values)).one_or_none()

    async def of(self, connection: SqlConnection, user_id: UUID) -> Sequence[UserSession]:
        """Return where a user is signed in, newest first."""
        return await sessions_of(connection, self._sessions, user_id)

    async def end(
        self,
        connection: SqlConnection,
        user_id: UUID,
        session_id: UUID | None = None,
        *,
        keep: UUID | None = None,
    ) -> bool:
        """End one session of a user, or all, or all but one; return whether any was ended."""
        return await end_sessions(connection, self._sessions, user_id, session_id, keep=keep)

    def has_expired(self, session: Row[Any]) -> bool:
        """Return whether a session is too old, or was not used for too long."""
        now = utc_now()
        last_used = session.refreshed_at or session.created_at
        return self._is_over(session, now) or last_used < now - self._lifetime

    def _oldest(self, now: datetime) -> datetime | None:
        return now - self._timebox if self._timebox is not None else None

    def _is_over(self, session: Row[Any], now: datetime) -> bool:
        oldest = self._oldest(now)
        is_older = oldest is not None and session.created_at < oldest
        return is_older or (session.not_after or now) < now

    async def _validity_rejection(
        self, connection: SqlConnection, session: Row[Any], used: Row[Any], now: datetime
    ) -> RefreshRejection | None:
        oldest = self._oldest(now)
        if self._is_over(session, now):
            return RefreshRejection.EXPIRED
        if used.created_at < now - self._lifetime:
            return RefreshRejection.INACTIVE
        if not self._single_per_user:
            return None
        table = self._sessions
        last_used = func.coalesce(table.c.refreshed_at, table.c.created_at)
        newer = select(table.c.id).where(
            table.c.user_id == session.user_id,
            table.c.id != session.id,
            last_used > (session.refreshed_at or session.created_at),
            or_(table.c.not_after.is_(None), table.c.not_after > now),
            last_used > now - self._lifetime,
        )
        if oldest:
            newer = newer.where(table.c.created_at > oldest)
        is_superseded = (await connection.execute(newer.limit(1))).first() is not None
        return RefreshRejection.SUPERSEDED if is_superseded else None

    async def _weak_until(
        self, connection: SqlConnection, user_id: UUID, created_at: datetime
    ) -> datetime | None:
        """Return until when a session is good that has shown no second factor; None for ever."""
        if self._weak_for is None:
            return None
        factors = self._factors
        verified = select(factors.c.id).where(
            factors.c.user_id == user_id, factors.c.status == "verified"
        )
        has_factor = (await connection.execute(verified.limit(1))).first() is not None
        return created_at + self._weak_for if has_factor else None

    async def _lock_session_of(self, connection: SqlConnection, token: str) -> Row[Any] | None:
        # The lock comes first and the token is read in a statement of its own: on Postgres only
        # a new statement sees what the lock's former holder has committed.
        owner = select(self._tokens.c.session_id).where(
            self._tokens.c.token.in_(_stored_forms(token))
        )
        return (
            await connection.execute(
                select(self._sessions)
                .where(self._sessions.c.id == owner.scalar_subquery())
                .with_for_update()
            )
        ).one_or_none()

    async def _active(self, connection: SqlConnection, session_id: UUID) -> Row[Any] | None:
        # The newest: sessions that came from Supabase may have several.
        return (
            await connection.execute(
                select(self._tokens)
                .where(self._tokens.c.session_id == session_id, self._tokens.c.revoked.is_not(True))
                .order_by(self._tokens.c.id.desc())
                .limit(1)
            )
        ).one_or_none()

    async def _active_after(
        self, connection: SqlConnection, session_id: UUID, used: Row[Any], now: datetime
    ) -> str | None:
        active = await self._active(connection, session_id)
        if active is None or not active.parent:
            return None
        if used.token != active.parent and used.updated_at < now - self._reuse_interval:
            return None
        token = self._next_of(active.parent)
        # Another key derives another token, which no row has.
        return token if hmac.compare_digest(digest(token), active.token) else None

    def _replacement(
        self, session: Row[Any], used: Row[Any], following: str, now: datetime
    ) -> tuple[Change, Change]:
        """Return what puts a token in the place of one that has been used."""
        values = {"its_id": used.id, "revoked": True, "updated_at": now}
        return (
            (self._statements.change_token, values),
            self._token_row(session.id, session.user_id, following, used.token, now),
        )

    async def _apply_reuse_policy(
        self, connection: SqlConnection, session: Row[Any], now: datetime
    ) -> None:
        match self._reuse:
            case ReusePolicy.END_SESSION:
                await self.end(connection, session.user_id, session.id)
            case ReusePolicy.REVOKE_TOKENS:
                await connection.execute(
                    update(self._tokens)
                    .where(
                        self._tokens.c.session_id == session.id,
                        self._tokens.c.revoked.is_not(True),
                    )
                    .values(revoked=True, updated_at=now)
                )

    def _method_row(self, session_id: UUID, method: str, now: datetime) -> Change:
        values = {
            "id": uuid7(),
            "session_id": session_id,
            "authentication_method": method,
            "created_at": now,
            "updated_at": now,
        }
        return self._statements.insert_method, values

    async def _methods(self, connection: SqlConnection, session_id: UUID) -> list[dict[str, Any]]:
        rows = await connection.execute(self._statements.its_methods, {"its_session": session_id})
        return [
            {"method": row.authentication_method, "timestamp": int(row.created_at.timestamp())}
            for row in rows
        ]

    def _token_row(
        self, session_id: UUID, user_id: UUID, token: str, parent: str | None, now: datetime
    ) -> Change:
        values = {
            "token": digest(token),
            "parent": parent,
            "user_id": str(user_id),
            "session_id": session_id,
            "revoked": False,
            "created_at": now,
            "updated_at": now,
        }
        return self._statements.insert_token, values

    def _next_of(self, stored: str) -> str:
        code = hmac.digest(self._secret, stored.encode(), "sha256")
        return base64.urlsafe_b64encode(code).rstrip(b"=").decode()
