"""Passwords that stayed behind when accounts moved: the project that they came from has them."""

from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Row, func, or_, select

from amphibase.accounts.users import Users
from amphibase.database.sql_connection import SqlConnection
from amphibase.schema.tables import Tables


class PreviousProject(Protocol):
    """Where the accounts were before."""

    async def user_id(self, email: str, password: str) -> UUID | None:
        """Return whose address and password these are there; None where they are nobody's.

        Raises:
            Unavailable: the project cannot be reached.
            TooManyRequests: it rejects further attempts for a while.
        """

    async def close(self) -> None:
        """Close the connections."""


class PreviousPasswords:
    """Takes over the password of an account that has none, at its first sign-in.

    The project is asked after every sign-in that fails here, so that the time of a response does
    not reveal which accounts exist or have been taken over.
    """

    def __init__(self, tables: Tables, users: Users, project: PreviousProject) -> None:
        self._table = tables.users
        self._users = users
        self._project = project

    async def belongs_to(self, user: Row[Any] | None, email: str, password: str) -> bool:
        """Return whether the password is the one that the user had before the move.

        Args:
            user: None where no user has the address.

        Raises:
            Unavailable, TooManyRequests: the project does not say.
        """
        id = await self._project.user_id(email, password)
        return user is not None and not user.encrypted_password and user.id == id

    async def store(self, connection: SqlConnection, id: UUID, password_hash: str) -> bool:
        """Store the hash of a user who still has none; return whether that was so."""
        user = await self._users.find(connection, id, lock=True)
        if user is None or user.encrypted_password:
            return False
        await self._users.change(connection, id, encrypted_password=password_hash)
        return True

    async def count_left(self, connection: SqlConnection) -> int:
        """Count the accounts with an address and without a password."""
        table = self._table.c
        statement = select(func.count()).where(
            table.email != "",
            or_(table.encrypted_password.is_(None), table.encrypted_password == ""),
            table.deleted_at.is_(None),
            table.is_sso_user.is_(False),
        )
        count: int = (await connection.execute(statement)).scalar_one()
        return count

    async def close(self) -> None:
        """Close the connections to the project."""
        await self._project.close()
