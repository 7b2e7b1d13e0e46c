"""The rows of accounts (`users`, `identities`) and what they mean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BindParameter,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from amphibase.backend import Account, Claims
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.errors import translated_errors
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import Conflict, EmailAlreadyRegistered, NotFound
from amphibase.schema.tables import Tables

EMAIL_PROVIDER: Claims = {"provider": "email", "providers": ["email"]}

_LOCK_ADDRESS = text("SELECT pg_advisory_xact_lock(hashtextextended('amphibase ' || :email, 0))")


class Users:
    """Reads and writes the rows of accounts; every method runs in the caller's transaction."""

    def __init__(self, tables: Tables) -> None:
        self._users = users = tables.users
        self._identities = tables.identities
        self._by_id = select(users).where(
            users.c.id == bindparam("its_id"), users.c.deleted_at.is_(None)
        )
        self._locked_by_id = self._by_id.with_for_update()
        self._by_email = self.with_email(bindparam("address"))
        self._locked_by_email = self._by_email.with_for_update()
        self._change_checked = (
            update(users)
            .where(
                users.c.id == bindparam("its_id"),
                users.c.encrypted_password == bindparam("its_hash"),
                users.c.deleted_at.is_(None),
                users.c.banned_until.is_(None) | (users.c.banned_until <= bindparam("now")),
            )
            .returning(users)
        )

    async def lock_address(self, connection: SqlConnection, email: str) -> None:
        """Let nobody else make or take an account with that address until the transaction ends.

        On SQLite one transaction writes at a time anyway.
        """
        if connection.dialect.name == "postgresql":
            await connection.execute(_LOCK_ADDRESS, {"email": email.lower()})

    async def insert(
        self, connection: SqlConnection, *, identity: Claims | None = None, **values: Any
    ) -> None:
        """Add an account, with an identity where it has an address.

        The caller holds the lock of the address (`lock_address`), and has seen that no account has
        it: the database's own constraint tells addresses of another case apart.

        Args:
            identity: what else the identity says of the user; None adds no identity.
            values: columns of `users`.

        Raises:
            EmailAlreadyRegistered: another account has the address, in the same case.
            Conflict: the id or the phone number is taken.
        """
        now, email = utc_now(), values.get("email")
        values = {"id": uuid7(), "created_at": now, "updated_at": now, **values}
        with email_conflicts():
            await connection.execute(insert(self._users), values)
        if identity is not None and email:
            await self.add_identity(
                connection,
                values["id"],
                "email",
                email,
                data=identity,
                verified=values.get("email_confirmed_at") is not None,
            )

    async def find(
        self, connection: SqlConnection, id: UUID, *, lock: bool = False
    ) -> Row[Any] | None:
        """Return the row with that id, unless it was deleted.

        Args:
            lock: keep the row from others until the transaction ends.
        """
        statement = self._locked_by_id if lock else self._by_id
        return (await connection.execute(statement, {"its_id": id})).one_or_none()

    async def get(self, connection: SqlConnection, id: UUID, *, lock: bool = False) -> Row[Any]:
        """Return the row with that id. Raises NotFound."""
        row = await self.find(connection, id, lock=lock)
        if row is None:
            raise NotFound("There is no such user")
        return row

    async def find_by_email(
        self, connection: SqlConnection, email: str, *, lock: bool = False
    ) -> Row[Any] | None:
        """Return the row with that address, whatever the case of either.

        Where rows that came by SQL differ in case alone, the confirmed one counts, else the oldest.
        """
        statement = self._locked_by_email if lock else self._by_email
        found = await connection.execute(statement, {"address": email.lower()})
        row: Row[Any] | None = found.one_or_none()
        return row

    def with_email(self, email: BindParameter[str]) -> Select[Any]:
        """Return the query of `find_by_email`.

        Args:
            email: gets an address in lower case.
        """
        users = self._users
        return (
            select(users)
            .where(
                func.lower(users.c.email) == email,
                users.c.is_sso_user.is_(False),
                users.c.deleted_at.is_(None),
            )
            .order_by(users.c.email_confirmed_at.is_(None), users.c.created_at, users.c.id)
            .limit(1)
        )

    async def count_confirmed_without_email(self, connection: SqlConnection, limit: int) -> int:
        """Count the accounts whose address counts as confirmed and was sent no email for that.

        Args:
            limit: where the counting stops.
        """
        users = self._users
        found = (
            select(users.c.id)
            .where(
                users.c.email_confirmed_at.is_not(None),
                users.c.confirmation_sent_at.is_(None),
                users.c.deleted_at.is_(None),
            )
            .limit(limit)
            .subquery()
        )
        counted = await connection.execute(select(func.count()).select_from(found))
        count: int = counted.scalar_one()
        return count

    async def change(self, connection: SqlConnection, id: UUID, **values: Any) -> None:
        """Write columns of the account. Raises EmailAlreadyRegistered."""
        with email_conflicts():
            await connection.execute(
                update(self._users)
                .where(self._users.c.id == id)
                .values(updated_at=utc_now(), **values)
            )

    async def change_if_password_is(
        self, connection: SqlConnection, id: UUID, password_hash: str, **values: Any
    ) -> Row[Any] | None:
        """Write columns only while the password hash is still that one, and the account neither
        banned nor deleted; return the row then."""
        checked = {"its_id": id, "its_hash": password_hash, "now": utc_now()}
        changed = await connection.execute(self._change_checked, {**checked, **values})
        row: Row[Any] | None = changed.one_or_none()
        return row

    async def identities(self, connection: SqlConnection, id: UUID) -> Sequence[Row[Any]]:
        """Return how the user signs in, oldest first."""
        table = self._identities
        rows = await connection.execute(
            select(table).where(table.c.user_id == id).order_by(table.c.created_at, table.c.id)
        )
        return rows.all()

    async def add_identity(
        self,
        connection: SqlConnection,
        id: UUID,
        provider: str,
        address: str | None,
        *,
        verified: bool = False,
        data: Mapping[str, Any] = MappingProxyType({}),
    ) -> Row[Any]:
        """Add the identity of a provider to a user who has none of it; return its row.

        Args:
            provider: `email` or `phone`, which is also what the address is.
            address: None for an identity that does not say it.
            verified: whether the address is proven to be theirs.
            data: what else the identity says of the user.
        """
        now = utc_now()
        named = {provider: address} if address is not None else {}
        fields = {**data, **_unverified(id), **named, f"{provider}_verified": verified}
        added = await connection.execute(
            insert(self._identities).returning(self._identities),
            {
                "id": uuid4(),
                "provider": provider,
                "provider_id": str(id),
                "user_id": id,
                "identity_data": fields,
                "last_sign_in_at": now,
                "created_at": now,
                "updated_at": now,
            },
        )
        row: Row[Any] = added.one()
        return row

    async def set_identity(
        self,
        connection: SqlConnection,
        id: UUID,
        provider: str,
        address: str,
        *,
        verified: bool | None = None,
    ) -> None:
        """Give the user's identity of a provider another address; add it where they have none.

        Args:
            provider: `email` or `phone`, which is also what the address is.
            verified: whether the address is proven to be theirs; None leaves that as it is.
        """
        table = self._identities
        existing = (
            await connection.execute(
                select(table).where(table.c.user_id == id, table.c.provider == provider)
            )
        ).one_or_none()
        if existing is None:
            await self.add_identity(connection, id, provider, address, verified=verified is True)
        else:
            fields = {**_unverified(id), **(existing.identity_data or {}), provider: address}
            if verified is not None:
                fields[f"{provider}_verified"] = verified
            await self._write_identity(connection, existing.id, fields)

    async def prove_identities(
        self,
        connection: SqlConnection,
        user: Row[Any],
        *,
        data: Mapping[str, Any] | None = None,
        marks: bool = True,
    ) -> None:
        """Mark the identities with the user's address as verified, and delete what is unproven.

        Args:
            data: what the identity by email says of the user from now on, instead of what
                unconfirmed sign-ups set; None leaves that.
            marks: False leaves whether they are verified.
        """
        table = self._identities
        for identity in await self.identities(connection, user.id):
            fields = identity.identity_data or {}
            if identity.email and identity.email == (user.email or "").lower():
                if data is not None and identity.provider == "email":
                    names = ("sub", "email", "email_verified", "phone_verified")
                    fields = {**data, **{name: fields[name] for name in names if name in fields}}
                if marks:
                    fields = {**fields, "email_verified": True}
                await self._write_identity(connection, identity.id, fields)
            elif data is not None and fields.get("email_verified") is not True:
                await connection.execute(delete(table).where(table.c.id == identity.id))

    async def sync_providers(self, connection: SqlConnection, id: UUID) -> None:
        """Write into `app_metadata` how the user signs in; the first provider stays the first."""
        row = await self.get(connection, id)
        identities = await self.identities(connection, id)
        providers = list(dict.fromkeys(identity.provider for identity in identities))
        metadata = row.raw_app_meta_data or {}
        first = metadata.get("provider")
        if first not in providers:
            first = providers[0] if providers else None
        changes = {"provider": first, "providers": providers or None}
        await self.change(connection, id, raw_app_meta_data=merged(metadata, changes))

    async def delete(self, connection: SqlConnection, id: UUID) -> bool:
        """Delete the account; return whether it existed. Raises ForeignKeyViolation."""
        with translated_errors():
            deleted = await connection.execute(delete(self._users).where(self._users.c.id == id))
        return deleted.rowcount > 0

    async def _write_identity(
        self, connection: SqlConnection, id: UUID, data: Mapping[str, Any]
    ) -> None:
        await connection.execute(
            update(self._identities)
            .where(self._identities.c.id == id)
            .values(identity_data=dict(data), updated_at=utc_now())
        )


def _unverified(id: UUID) -> dict[str, Any]:
    """Return what an identity says of a user of whom nothing is proven."""
    return {"sub": str(id), "email_verified": False, "phone_verified": False}


def account_of(row: Row[Any]) -> Account:
    """Return the account that a row of `users` holds."""
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


def sanitized_account(id: UUID, email: str, user_metadata: Claims) -> Account:
    """Return what a sign-up that awaits confirmation shows, whether or not anything is stored."""
    now = utc_now()
    return Account(
        id=id,
        email=email,
        email_confirmed_at=None,
        banned_until=None,
        last_sign_in_at=None,
        user_metadata=user_metadata,
        app_metadata=EMAIL_PROVIDER,
        created_at=now,
        updated_at=now,
    )


def merged(metadata: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with changes applied key by key; None removes a key."""
    result = {**(metadata or {}), **changes}
    return {key: value for key, value in result.items() if value is not None}


@contextmanager
def email_conflicts() -> Iterator[None]:
    """Raise EmailAlreadyRegistered where a statement inside meets the address of another."""
    try:
        with translated_errors():
            yield
    except Conflict as error:
        if "email" in error.columns:
            raise EmailAlreadyRegistered from error
        raise
