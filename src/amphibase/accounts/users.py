"""The rows of an account (`users`, `identities`) and what they mean; used by `accounts.py`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend import Account, Claims
from amphibase.database.errors import translated_errors
from amphibase.errors import Conflict, EmailAlreadyRegistered, NotFound
from amphibase.models import utc_now, uuid7
from amphibase.schema.tables import Tables

PROVIDER: Claims = {"provider": "email", "providers": ["email"]}


class AccountRows:
    """Reads and writes the rows of accounts, in the transaction that each method is handed."""

    def __init__(self, tables: Tables) -> None:
        self._users = tables.users
        self._identities = tables.identities

    async def insert(
        self,
        connection: AsyncConnection,
        *,
        id: UUID | None,
        email: str,
        password_hash: str | None,
        confirmed: bool,
        user_metadata: Claims,
        app_metadata: Claims,
        signed_in: bool = False,
    ) -> Account:
        """Add an account with its identity. Raises EmailAlreadyRegistered, Conflict (the id)."""
        now = utc_now()
        id = id or uuid7()
        with _email_taken():
            await connection.execute(
                insert(self._users).values(
                    id=id,
                    email=email,
                    encrypted_password=password_hash or "",
                    email_confirmed_at=now if confirmed else None,
                    last_sign_in_at=now if signed_in else None,
                    raw_user_meta_data=dict(user_metadata),
                    raw_app_meta_data={**PROVIDER, **app_metadata},
                    created_at=now,
                    updated_at=now,
                )
            )
        await connection.execute(
            insert(self._identities).values(
                id=uuid7(),
                provider="email",
                provider_id=str(id),
                user_id=id,
                identity_data=_identity_data(id, email, confirmed),
                created_at=now,
                updated_at=now,
            )
        )
        return account_of(await self.get(connection, id))

    async def find(self, connection: AsyncConnection, id: UUID) -> Row[Any] | None:
        """The row with that id, unless it was deleted."""
        users = self._users
        found = await connection.execute(
            select(users).where(users.c.id == id, users.c.deleted_at.is_(None))
        )
        return found.one_or_none()

    async def get(self, connection: AsyncConnection, id: UUID, *, lock: bool = False) -> Row[Any]:
        """The row with that id, locked until the transaction ends if asked. Raises NotFound."""
        users = self._users
        statement = select(users).where(users.c.id == id, users.c.deleted_at.is_(None))
        if lock:
            statement = statement.with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise NotFound("There is no such user")
        return row

    async def find_by_email(
        self, connection: AsyncConnection, email: str, *, lock: bool = False
    ) -> Row[Any] | None:
        """The row with that address, whatever its case; locked if asked."""
        users = self._users
        statement = select(users).where(
            users.c.email == email.lower(),
            users.c.is_sso_user.is_(False),
            users.c.deleted_at.is_(None),
        )
        if lock:
            statement = statement.with_for_update()
        return (await connection.execute(statement)).one_or_none()

    async def change(self, connection: AsyncConnection, id: UUID, **values: Any) -> None:
        """Write columns of the account. Raises EmailAlreadyRegistered."""
        with _email_taken():
            await connection.execute(
                update(self._users)
                .where(self._users.c.id == id)
                .values(updated_at=utc_now(), **values)
            )
        if "email" in values or "email_confirmed_at" in values:
            row = await self.get(connection, id)
            await connection.execute(
                update(self._identities)
                .where(self._identities.c.user_id == id, self._identities.c.provider == "email")
                .values(
                    identity_data=_identity_data(id, row.email, row.email_confirmed_at is not None),
                    updated_at=utc_now(),
                )
            )

    async def change_if_password_is(
        self, connection: AsyncConnection, id: UUID, password_hash: str, **values: Any
    ) -> bool:
        """Write columns only while the password is still that one, and the account neither banned
        nor deleted; whether that was so."""
        users = self._users
        changed = await connection.execute(
            update(users)
            .where(
                users.c.id == id,
                users.c.encrypted_password == password_hash,
                users.c.deleted_at.is_(None),
                users.c.banned_until.is_(None) | (users.c.banned_until <= utc_now()),
            )
            .values(values)
        )
        return changed.rowcount > 0

    async def confirm_email(self, connection: AsyncConnection, id: UUID) -> None:
        """Note that the address is the user's, unless that is known already."""
        row = await self.get(connection, id, lock=True)
        if row.email_confirmed_at is None:
            await self.change(connection, id, email_confirmed_at=utc_now())

    async def touch(self, connection: AsyncConnection, id: UUID) -> None:
        """Write the row as it is, for an answer that must cost as much as a real change."""
        await connection.execute(
            update(self._users).where(self._users.c.id == id).values(aud=self._users.c.aud)
        )


def account_of(row: Row[Any]) -> Account:
    """The account that a row of `users` holds."""
    return Account(
        id=row.id,
        email=row.email or "",
        email_confirmed_at=row.email_confirmed_at,
        banned_until=row.banned_until,
        last_sign_in_at=row.last_sign_in_at,
        user_metadata=row.raw_user_meta_data or {},
        app_metadata=row.raw_app_meta_data or {},
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def imagined_account(email: str, user_metadata: Claims) -> Account:
    """What a new account that awaits confirmation would look like; nothing is stored."""
    now = utc_now()
    return Account(
        id=uuid7(),
        email=email,
        email_confirmed_at=None,
        banned_until=None,
        last_sign_in_at=None,
        user_metadata=user_metadata,
        app_metadata=PROVIDER,
        created_at=now,
        updated_at=now,
    )


def merged(known: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with changes applied key by key; None removes a key."""
    result = {**(known or {}), **changes}
    return {key: value for key, value in result.items() if value is not None}


def _identity_data(id: UUID, email: str, confirmed: bool) -> dict[str, Any]:
    return {"sub": str(id), "email": email, "email_verified": confirmed, "phone_verified": False}


@contextmanager
def _email_taken() -> Iterator[None]:
    try:
        with translated_errors():
            yield
    except Conflict as error:
        if "email" in error.columns:
            raise EmailAlreadyRegistered from error
        raise
