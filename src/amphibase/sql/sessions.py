"""Sessions and their refresh tokens in an SQL home: opening, rotating, ending.

A refresh token is good once. The next one is derived from it with a key that only the server has,
so that the database keeps hashes alone and yet a client that lost an answer gets the same next
token again. Reuse is judged as Supabase does it: a used token is taken for a lost answer when it
is the parent of the active one, or was used a few seconds ago; else it was stolen, and the session
ends.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend import Device, Session
from amphibase.models import utc_now, uuid7
from amphibase.sql.tables import Tables

TOKEN_BYTES = 32
MAX_LOST_ANSWERS = 16
"""How many rotations inside the reuse interval a late duplicate is followed through."""


def new_token() -> str:
    """A token that cannot be guessed: 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """What is stored of a token. It is random, so a plain hash keeps it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


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


class Sessions:
    """The sessions of an SQL home; every method runs in the transaction it is handed.

    Args:
        secret: 32 bytes that refresh tokens are derived with.
        lifetime: how long a session lives without being refreshed.
        reuse_interval: how long a used refresh token is still taken for a lost answer.
    """

    def __init__(
        self, tables: Tables, secret: bytes, lifetime: timedelta, reuse_interval: timedelta
    ) -> None:
        self._sessions = tables.sessions
        self._tokens = tables.refresh_tokens
        self._claims = tables.mfa_amr_claims
        self._secret = secret
        self._lifetime = lifetime
        self._reuse_interval = reuse_interval

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
        await connection.execute(
            insert(self._claims).values(
                id=uuid7(),
                session_id=session_id,
                authentication_method=method,
                created_at=now,
                updated_at=now,
            )
        )
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
                select(self._tokens).where(self._tokens.c.token == digest(token))
            )
        ).one()
        if used.created_at < now - self._lifetime or (session.not_after or now) < now:
            await self.end(connection, session.user_id, session.id)
            return Refusal.EXPIRED
        if used.revoked:
            following = await self._active_after(connection, session.id, token, used, now)
            if following is None:
                await self.end(connection, session.user_id, session.id)
                return Refusal.REUSED
        else:
            following = self._next(token)
            await connection.execute(
                update(self._tokens)
                .where(self._tokens.c.id == used.id)
                .values(revoked=True, updated_at=now)
            )
            await self._store(connection, session.id, session.user_id, following, used.token, now)
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
        return Opened(session.id, session.user_id, following, amr)

    async def of(self, connection: AsyncConnection, user_id: UUID) -> Sequence[Session]:
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
            Session(
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
        owner = select(self._tokens.c.session_id).where(self._tokens.c.token == digest(token))
        return (
            await connection.execute(
                select(self._sessions)
                .where(self._sessions.c.id == owner.scalar_subquery())
                .with_for_update()
            )
        ).one_or_none()

    async def _active_after(
        self,
        connection: AsyncConnection,
        session_id: UUID,
        token: str,
        used: Row[Any],
        now: datetime,
    ) -> str | None:
        active = (
            await connection.execute(
                select(self._tokens.c.token).where(
                    self._tokens.c.session_id == session_id,
                    self._tokens.c.revoked.is_(False),
                )
            )
        ).scalar_one_or_none()
        if active is None:
            return None
        recent = used.updated_at >= now - self._reuse_interval
        for _ in range(MAX_LOST_ANSWERS if recent else 1):
            token = self._next(token)
            if hmac.compare_digest(digest(token), active):
                return token
        return None

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

    def _next(self, token: str) -> str:
        code = hmac.digest(self._secret, token.encode("utf-8", "surrogatepass"), "sha256")
        return base64.urlsafe_b64encode(code).rstrip(b"=").decode()
