"""Tokens of links in letters: hashed at rest, good once, good for a while."""

from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.accounts.sessions import digest, new_token
from amphibase.models import utc_now, uuid7
from amphibase.schema.tables import Tables

LIFETIME = timedelta(hours=1)
Kind = Literal[
    "confirmation_token",
    "recovery_token",
    "email_change_token_current",
    "email_change_token_new",
    "reauthentication_token",
]


class Links:
    """The one-time tokens of an SQL home; every method runs in the transaction it is handed.

    Args:
        lifetime: how long a token is good for.
    """

    def __init__(self, tables: Tables, lifetime: timedelta = LIFETIME) -> None:
        self._lifetime = lifetime
        self._table = tables.one_time_tokens
        self._users = tables.users

    async def issue(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        kind: Kind,
        email: str,
        token: str | None = None,
    ) -> str:
        """A new token for the user; an earlier one of the same kind is void from now on.

        Args:
            email: where the letter goes; the token is good while that is the user's address, or
                for `email_change_token_new` the one that it is to become.
            token: one that nobody can guess; made where not given.
        """
        await self.revoke(connection, user_id, kind)
        token = token or new_token()
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

    async def is_good(self, connection: AsyncConnection, token: str, kind: Kind) -> bool:
        """Whether the token could be redeemed now."""
        return (await connection.execute(self._good(token, kind))).first() is not None

    async def redeem(self, connection: AsyncConnection, token: str, kind: Kind) -> UUID | None:
        """The user whom the token was issued to, and no second time; None when it is not good."""
        # The user's row is locked first, as by whoever issues: the other way round, each would
        # wait for what the other holds.
        locked = self._good(token, kind).with_for_update(of=self._users)
        id = (await connection.execute(locked)).scalar_one_or_none()
        if id is None:
            return None
        deleted = await connection.execute(
            delete(self._table).where(self._table.c.id == id).returning(self._table.c.user_id)
        )
        return deleted.scalar_one_or_none()

    async def revoke(self, connection: AsyncConnection, user_id: UUID, *kinds: Kind) -> None:
        """Make the user's tokens of these kinds void."""
        await connection.execute(
            delete(self._table).where(
                self._table.c.user_id == user_id, self._table.c.token_type.in_(kinds)
            )
        )

    def _good(self, token: str, kind: Kind) -> Select[Any]:
        # A letter to an address that is the user's no longer proves nothing.
        table, users = self._table, self._users
        address = users.c.email_change if kind == "email_change_token_new" else users.c.email
        return (
            select(table.c.id)
            .join(users, users.c.id == table.c.user_id)
            .where(
                table.c.token_hash == digest(token),
                table.c.token_type == kind,
                table.c.relates_to == address,
                table.c.created_at > utc_now() - self._lifetime,
            )
        )
