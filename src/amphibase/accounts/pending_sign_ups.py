"""The rows of sign-ups whose address has not been confirmed, each with its own hashed token."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, insert, literal, or_, select, update

from amphibase.accounts.sessions import digest
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import NO_VALUES, SqlConnection
from amphibase.database.together import execute_together
from amphibase.schema.tables import Tables

MAX_PENDING = 5
"""How many sign-ups may be pending for one address."""

MAX_SWEPT = 100
"""How many expired ones a new one deletes."""


class PendingSignUps:
    """Reads and writes the rows; every method runs in the caller's transaction.

    Args:
        lifetime: how long the token of a sign-up is valid.
    """

    def __init__(self, tables: Tables, lifetime: timedelta) -> None:
        self._table = tables.pending_sign_ups
        self._lifetime = lifetime

    async def valid(self, connection: SqlConnection, email: str) -> Sequence[Row[Any]]:
        """Return the sign-ups of an address whose tokens are still valid, oldest first."""
        table = self._table
        rows = await connection.execute(
            select(table)
            .where(table.c.email == email, table.c.created_at > self._oldest)
            .order_by(table.c.created_at, table.c.id)
        )
        return rows.all()

    async def add(self, connection: SqlConnection, **values: Any) -> None:
        """Add a sign-up, and delete those of all addresses that have expired."""
        table = self._table
        expired = (
            select(table.c.id)
            .where(table.c.created_at <= self._oldest)
            .limit(MAX_SWEPT)
            .with_for_update(skip_locked=True)
        )
        await connection.execute(delete(table).where(table.c.id.in_(expired)))
        await connection.execute(insert(table).values(created_at=utc_now(), **values))

    async def contest(self, connection: SqlConnection, email: str, is_contested: bool) -> None:
        """Mark that different passwords were pending for an address at the same time.

        Args:
            is_contested: False writes the rows as they are, at the same cost.
        """
        table = self._table
        await connection.execute(
            update(table)
            .where(table.c.email == email)
            .values(is_contested=or_(table.c.is_contested, literal(is_contested)))
        )

    async def renew(self, connection: SqlConnection, id: UUID, **values: Any) -> None:
        """Write the columns of a sign-up whose email is sent again; its time begins anew."""
        await connection.execute(
            update(self._table).where(self._table.c.id == id).values(created_at=utc_now(), **values)
        )

    async def discard(self, connection: SqlConnection, id: UUID) -> None:
        """Delete one sign-up."""
        statement = delete(self._table).where(self._table.c.id == id)
        await execute_together(connection, (statement, NO_VALUES))

    async def find(self, connection: SqlConnection, *tokens: str) -> Row[Any] | None:
        """Return the sign-up with one of these tokens while it is valid."""
        table = self._table
        rows = await connection.execute(
            select(table)
            .where(
                table.c.token_hash.in_([digest(token) for token in tokens]),
                table.c.created_at > self._oldest,
            )
            .order_by(table.c.created_at.desc())
            .limit(1)
        )
        return rows.one_or_none()

    async def delete(self, connection: SqlConnection, *emails: str | None) -> None:
        """Delete all sign-ups of these addresses."""
        addresses = [email.lower() for email in emails if email]
        await connection.execute(delete(self._table).where(self._table.c.email.in_(addresses)))

    @property
    def _oldest(self) -> datetime:
        return utc_now() - self._lifetime
