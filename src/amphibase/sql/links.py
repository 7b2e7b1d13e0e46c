"""Tokens of links in letters: hashed at rest, good once, good for an hour."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.models import utc_now, uuid7
from amphibase.sql.sessions import digest, new_token
from amphibase.sql.tables import Tables

LIFETIME = timedelta(hours=1)
Kind = Literal["confirmation_token", "recovery_token"]


class Links:
    """The one-time tokens of an SQL home; every method runs in the transaction it is handed."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.one_time_tokens

    async def issue(
        self, connection: AsyncConnection, user_id: UUID, kind: Kind, email: str
    ) -> str:
        """A new token for the user; an earlier one of the same kind is void from now on."""
        await self.revoke(connection, user_id, kind)
        token = new_token()
        now = utc_now()
        await connection.execute(
            insert(self._table).values(
                id=uuid7(),
                user_id=user_id,
                token_type=kind,
                token_hash=digest(token),
                relates_to=email,
                created_at=now,
                updated_at=now,
            )
        )
        return token

    async def redeem(self, connection: AsyncConnection, token: str, kind: Kind) -> UUID | None:
        """The user whom the token was issued to, and no second time; None when it is not good."""
        deleted = await connection.execute(
            delete(self._table)
            .where(self._table.c.token_hash == digest(token), self._table.c.token_type == kind)
            .returning(self._table.c.user_id, self._table.c.created_at)
        )
        row = deleted.one_or_none()
        return row.user_id if row and row.created_at > utc_now() - LIFETIME else None

    async def revoke(self, connection: AsyncConnection, user_id: UUID, kind: Kind) -> None:
        """Make the user's token of that kind void."""
        await connection.execute(
            delete(self._table).where(
                self._table.c.user_id == user_id, self._table.c.token_type == kind
            )
        )
