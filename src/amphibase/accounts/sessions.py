"""Sessions and their refresh tokens in an SQL home: opening, rotating, ending.

A refresh token is good once. The next one is derived from what is stored of it (its hash) with a
key that only the server has, so that the database keeps hashes alone, and yet the active token can
be handed out again: it is what follows its parent. Reuse is judged as Supabase does it: a used
token is taken for a lost answer when it is the parent of the active one, or was used a few seconds
ago; then the active one is the answer. Else it was stolen, and what `Reuse` says happens.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend import Device, UserSession
from amphibase.models import utc_now, uuid7
from amphibase.schema.tables import Tables

TOKEN_BYTES = 32

_OF_SUPABASE = re.compile(r"[\w-]{1,63}", re.ASCII)

Reuse = Literal["ends the session", "revokes its tokens", "is refused"]
"""What a token that was used long before does: Supabase's Auth revokes the tokens, so that access
tokens live on until they expire, or, with rotation switched off, refuses that one alone."""


def new_token() -> str:
    """A token that cannot be guessed: 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """What is stored of a token. It is random, so a plain hash keeps it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _kept_as(token: str) -> list[str]:
    """What the rows may have of a token: Supabase's, which are shorter than any digest, came as
    they are. A digest that somebody read is no token."""
    return [digest(token), token] if _OF_SUPABASE.fullmatch(token) else [digest(token)]


class Refusal(Enum):
    """Why a refresh token was refused, in words for its bearer."""

    UNKNOWN = "The refresh token is not valid; sign in again"
    EXPIRED = "The session has expired; sign in again"
    REUSED = "The refresh token was used before; the session has ended, sign in again"


@dataclass(frozen=True, slots=True)
class Opened:
    """A living session and the refresh token to continue it with."""

    session_id: UUID
    user_id: UUID
    refresh_token: str
    amr: list[dict[str, Any]]
    aal: str = "aal1"


class Sessions:
    """The sessions of an SQL home; every method runs in the transaction it is handed.

    Args:
        secret: 32 bytes that refresh tokens are derived with.
        lifetime: how long a session lives without being refreshed.
        reuse_interval: how long a used refresh token is still taken for a lost answer.
        reuse: what happens to a session whose token is used again after that.
    """

    def __init__(
        self,
        tables: Tables,
        secret: bytes,
        lifetime: timedelta,
        reuse_interval: timedelta,
        reuse: Reuse = "ends the session",
    ) -> None:
        self._sessions = tables.sessions
        self._tokens = tables.refresh_tokens
        self._claims = tables.mfa_amr_claims
        self._secret = secret
        self._lifetime = lifetime
        self._reuse_interval = reuse_interval
        self._reuse = reuse

    async def open(
        self, connection: AsyncConnection, user_id: UUID, device: Device, method: str
    ) -> Opened:
        """Open a session; the user's expired ones are swept away.

        Args:
            method: how the user proved who they are, for the `amr` claim: `password`, `otp`.
        """
        now = utc_now()
        session_id = uuid7()
        await connection.execute(
            delete(self._sessions).where(
                self._sessions.c.user_id == user_id,
                # NULL where the session came from a home that notes the first refresh only.
                func.coalesce(self._sessions.c.refreshed_at, self._sessions.c.created_at)
                < now - self._lifetime,
            )
        )
        await connection.execute(
            insert(self._sessions).values(
                id=session_id,
                user_id=user_id,
                aal="aal1",
                created_at=now,
                updated_at=now,
                refreshed_at=now,
                user_agent=device.user_agent,
                ip=device.ip,
            )
        )
        await self._note_method(connection, session_id, method, now)
        token = new_token()
        await self._store(connection, session_id, user_id, token, None, now)
        amr = [{"method": method, "timestamp": int(now.timestamp())}]
        return Opened(session_id, user_id, token, amr)

    async def rotate(self, connection: AsyncConnection, token: str) -> Opened | Refusal:
        """Exchange a refresh token for the next one. A refusal's consequences (an ended session)
        are part of the transaction: commit it before telling."""
        session = await self._lock_session_of(connection, token)
        if session is None:
            return Refusal.UNKNOWN
        now = utc_now()
        used = (
            await connection.execute(
                select(self._tokens).where(self._tokens.c.token.in_(_kept_as(token)))
            )
        ).one()
        if used.created_at < now - self._lifetime or (session.not_after or now) < now:
            await self.end(connection, session.user_id, session.id)
            return Refusal.EXPIRED
        if used.revoked:
            following = await self._active_after(connection, session.id, used, now)
            if following is None:
                await self._punish(connection, session, now)
                return Refusal.REUSED
        else:
            following = await self._follow(connection, session, used, now)
            # The used ones stay while they could be told from unknown ones: their reuse ends the
            # session.
            await connection.execute(
                delete(self._tokens).where(
                    self._tokens.c.session_id == session.id,
                    self._tokens.c.created_at < now - self._lifetime,
                )
            )
            await connection.execute(
                update(self._sessions)
                .where(self._sessions.c.id == session.id)
                .values(refreshed_at=now, updated_at=now)
            )
        amr = await self._methods(connection, session.id)
        return Opened(session.id, session.user_id, following, amr, session.aal or "aal1")

    async def strengthen(
        self, connection: AsyncConnection, session_id: UUID, factor_id: UUID, method: str
    ) -> Opened | None:
        """Note that the user has shown a second factor: the session is `aal2` from now on, and
        its refresh token is exchanged. None where it has ended.

        Args:
            method: of the factor, for the `amr` claim: `totp`.
        """
        now = utc_now()
        strengthened = await connection.execute(
            update(self._sessions)
            .where(self._sessions.c.id == session_id)
            .values(aal="aal2", factor_id=factor_id, updated_at=now)
            .returning(self._sessions)
        )
        session = strengthened.one_or_none()
        active = await self._active(connection, session_id)
        if session is None or active is None:
            return None
        await connection.execute(
            delete(self._claims).where(
                self._claims.c.session_id == session_id,
                self._claims.c.authentication_method == method,
            )
        )
        await self._note_method(connection, session_id, method, now)
        following = await self._follow(connection, session, active, now)
        amr = await self._methods(connection, session_id)
        return Opened(session_id, session.user_id, following, amr, session.aal)

    async def of(self, connection: AsyncConnection, user_id: UUID) -> Sequence[UserSession]:
        """Where a user is signed in, newest first."""
        table = self._sessions
        rows = await connection.execute(
            select(
                table.c.id, table.c.user_agent, table.c.ip, table.c.created_at, table.c.refreshed_at
            )
            .where(table.c.user_id == user_id)
            .order_by(table.c.created_at.desc(), table.c.id.desc())
        )
        return [
            UserSession(
                id=row.id,
                user_agent=row.user_agent,
                ip=str(row.ip) if row.ip else None,
                created_at=row.created_at,
                refreshed_at=row.refreshed_at or row.created_at,
            )
            for row in rows
        ]

    async def end(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        session_id: UUID | None = None,
        *,
        keep: UUID | None = None,
    ) -> bool:
        """End one session of a user, or all, or all but one; whether any was ended."""
        statement = delete(self._sessions).where(self._sessions.c.user_id == user_id)
        if session_id is not None:
            statement = statement.where(self._sessions.c.id == session_id)
        if keep is not None:
            statement = statement.where(self._sessions.c.id != keep)
        return (await connection.execute(statement)).rowcount > 0

    async def _lock_session_of(self, connection: AsyncConnection, token: str) -> Row[Any] | None:
        # The lock comes first and the token is read in a statement of its own: on Postgres only
        # a new statement sees what the lock's former holder has committed.
        owner = select(self._tokens.c.session_id).where(self._tokens.c.token.in_(_kept_as(token)))
        return (
            await connection.execute(
                select(self._sessions)
                .where(self._sessions.c.id == owner.scalar_subquery())
                .with_for_update()
            )
        ).one_or_none()

    async def _active(self, connection: AsyncConnection, session_id: UUID) -> Row[Any] | None:
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
        self, connection: AsyncConnection, session_id: UUID, used: Row[Any], now: datetime
    ) -> str | None:
        active = await self._active(connection, session_id)
        if active is None or not active.parent:
            return None
        if used.token != active.parent and used.updated_at < now - self._reuse_interval:
            return None
        token = self._following(active.parent)
        # Another key derives another token, which nobody would know again.
        return token if hmac.compare_digest(digest(token), active.token) else None

    async def _follow(
        self, connection: AsyncConnection, session: Row[Any], used: Row[Any], now: datetime
    ) -> str:
        following = self._following(used.token)
        await connection.execute(
            update(self._tokens)
            .where(self._tokens.c.id == used.id)
            .values(revoked=True, updated_at=now)
        )
        await self._store(connection, session.id, session.user_id, following, used.token, now)
        return following

    async def _punish(self, connection: AsyncConnection, session: Row[Any], now: datetime) -> None:
        match self._reuse:
            case "ends the session":
                await self.end(connection, session.user_id, session.id)
            case "revokes its tokens":
                await connection.execute(
                    update(self._tokens)
                    .where(
                        self._tokens.c.session_id == session.id,
                        self._tokens.c.revoked.is_not(True),
                    )
                    .values(revoked=True, updated_at=now)
                )

    async def _note_method(
        self, connection: AsyncConnection, session_id: UUID, method: str, now: datetime
    ) -> None:
        await connection.execute(
            insert(self._claims).values(
                id=uuid7(),
                session_id=session_id,
                authentication_method=method,
                created_at=now,
                updated_at=now,
            )
        )

    async def _methods(self, connection: AsyncConnection, session_id: UUID) -> list[dict[str, Any]]:
        rows = await connection.execute(
            select(self._claims.c.authentication_method, self._claims.c.created_at)
            .where(self._claims.c.session_id == session_id)
            .order_by(self._claims.c.created_at.desc())
        )
        return [{"method": name, "timestamp": int(at.timestamp())} for name, at in rows]

    async def _store(
        self,
        connection: AsyncConnection,
        session_id: UUID,
        user_id: UUID,
        token: str,
        parent: str | None,
        now: datetime,
    ) -> None:
        await connection.execute(
            insert(self._tokens).values(
                token=digest(token),
                parent=parent,
                user_id=str(user_id),
                session_id=session_id,
                revoked=False,
                created_at=now,
                updated_at=now,
            )
        )

    def _following(self, stored: str) -> str:
        code = hmac.digest(self._secret, stored.encode(), "sha256")
        return base64.urlsafe_b64encode(code).rstrip(b"=").decode()
