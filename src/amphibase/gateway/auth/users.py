"""The rows of users, identities and second factors, as Supabase's Auth keeps them."""

import base64
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.accounts.users import merged
from amphibase.database.errors import translated_errors
from amphibase.errors import AmphibaseError, Conflict, Retryable
from amphibase.gateway.auth.errors import AuthError
from amphibase.models import utc_now, uuid7
from amphibase.schema.auth_tables import ONE_TIME_TOKENS
from amphibase.schema.tables import Tables

EMAIL_EXISTS = "A user with this email address has already been registered"
PHONE_EXISTS = "A user with this phone number has already been registered"
TAKEN = {
    "users_email_partial_key": ("email_exists", EMAIL_EXISTS),
    "users_phone_key": ("phone_exists", PHONE_EXISTS),
    "users_pkey": ("conflict", "A user with this id exists already"),
}
"""What the constraints of `users` mean."""

logger = logging.getLogger("amphibase.gateway.auth")


@dataclass(frozen=True, slots=True)
class Person:
    """A user as a whole.

    Args:
        row: of `users`.
        identities: how they sign in, oldest first.
        factors: their second factors, oldest first.
    """

    row: Row[Any]
    identities: Sequence[Row[Any]]
    factors: Sequence[Row[Any]]

    @property
    def id(self) -> UUID:
        found: UUID = self.row.id
        return found

    @property
    def is_confirmed(self) -> bool:
        """Whether the address is known to be theirs."""
        return self.row.email_confirmed_at is not None

    @property
    def is_banned(self) -> bool:
        return self.row.banned_until is not None and self.row.banned_until > utc_now()

    @property
    def has_verified_factor(self) -> bool:
        return any(factor.status == "verified" for factor in self.factors)


class Users:
    """Reads and writes them, in the transaction that each method is handed."""

    def __init__(self, tables: Tables) -> None:
        self._users = tables.users
        self._identities = tables.identities
        self._factors = tables.mfa_factors
        self._tokens = tables.one_time_tokens
        self._flows = tables.flow_state

    # Reading

    async def find(
        self, connection: AsyncConnection, id: UUID, *, lock: bool = False
    ) -> Person | None:
        """The user with that id; locked until the transaction ends if asked."""
        return await self._one(connection, self._users.c.id == id, lock)

    async def get(self, connection: AsyncConnection, id: UUID, *, lock: bool = False) -> Person:
        """The same. Raises AuthError where there is none."""
        person = await self.find(connection, id, lock=lock)
        if person is None:
            raise AuthError(404, "user_not_found", "User not found")
        return person

    async def find_by_email(
        self, connection: AsyncConnection, email: str, *, lock: bool = False
    ) -> Person | None:
        """The user with that address (in lower case), but for those of single sign-on."""
        users = self._users
        return await self._one(
            connection,
            (users.c.email == email)
            & users.c.is_sso_user.is_(False)
            & users.c.deleted_at.is_(None),
            lock,
        )

    async def find_by_phone(self, connection: AsyncConnection, phone: str) -> Person | None:
        """The user with that number, digits alone."""
        users = self._users
        condition = (users.c.phone == phone) & users.c.deleted_at.is_(None)
        return await self._one(connection, condition, lock=False)

    async def find_by_new_email(self, connection: AsyncConnection, email: str) -> Person | None:
        """Whoever asked last for that address as their new one; locked."""
        users = self._users
        latest = (
            select(users.c.id)
            .where(users.c.email_change == email, users.c.deleted_at.is_(None))
            .order_by(users.c.email_change_sent_at.desc())
            .limit(1)
        )
        return await self._one(connection, users.c.id == latest.scalar_subquery(), lock=True)

    async def page(
        self, connection: AsyncConnection, number: int, size: int
    ) -> tuple[list[Person], int]:
        """One page of all users, newest first, counted from 1; and how many there are."""
        users = self._users
        total = (await connection.execute(select(func.count()).select_from(users))).scalar_one()
        rows = await connection.execute(
            select(users)
            .order_by(users.c.created_at.desc(), users.c.id.desc())
            .limit(size)
            .offset((number - 1) * size)
        )
        return await self._whole(connection, rows.all()), total

    async def _one(self, connection: AsyncConnection, condition: Any, lock: bool) -> Person | None:
        statement = select(self._users).where(condition)
        if lock:
            statement = statement.with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        return (await self._whole(connection, [row]))[0] if row is not None else None

    async def _whole(self, connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Person]:
        ids = [row.id for row in rows]
        parts = []
        for table in (self._identities, self._factors):
            found: dict[UUID, list[Row[Any]]] = {id: [] for id in ids}
            for part in await connection.execute(
                select(table)
                .where(table.c.user_id.in_(ids))
                .order_by(table.c.created_at, table.c.id)
            ):
                found[part.user_id].append(part)
            parts.append(found)
        identities, factors = parts
        return [Person(row, identities[row.id], factors[row.id]) for row in rows]

    # Writing

    async def insert(self, connection: AsyncConnection, **values: Any) -> UUID:
        """Add a user without identities. Raises AuthError where the address, number or id is
        taken."""
        now = utc_now()
        values = {"id": uuid7(), "created_at": now, "updated_at": now, **values}
        with _database_doing("saving new"):
            await connection.execute(insert(self._users).values(values))
        id: UUID = values["id"]
        return id

    async def change(self, connection: AsyncConnection, id: UUID, **values: Any) -> None:
        """Write columns of a user. Raises AuthError where the address or number is taken."""
        with _database_doing("updating"):
            await connection.execute(
                update(self._users)
                .where(self._users.c.id == id)
                .values(updated_at=utc_now(), **values)
            )

    async def set_identity(
        self,
        connection: AsyncConnection,
        id: UUID,
        provider: str,
        address: str,
        *,
        verified: bool | None = None,
        data: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Make the user's identity of that provider, or give it another address.

        Args:
            provider: `email` or `phone`, which is also what the address is.
            data: what else a new identity says of the user.
            verified: whether the address is known to be theirs; None leaves that as it is.
        """
        table, now = self._identities, utc_now()
        known = (
            await connection.execute(
                select(table).where(table.c.user_id == id, table.c.provider == provider)
            )
        ).one_or_none()
        fields = {
            **data,
            "sub": str(id),
            "email_verified": False,
            "phone_verified": False,
            **((known.identity_data or {}) if known else {}),
            provider: address,
        }
        if verified is not None:
            fields[f"{provider}_verified"] = verified
        if known is not None:
            await connection.execute(
                update(table)
                .where(table.c.id == known.id)
                .values(identity_data=fields, updated_at=now)
            )
            return
        await connection.execute(
            insert(table).values(
                id=uuid7(),
                provider=provider,
                provider_id=str(id),
                user_id=id,
                identity_data=fields,
                last_sign_in_at=now,
                created_at=now,
                updated_at=now,
            )
        )

    async def verify_identities(self, connection: AsyncConnection, person: Person) -> None:
        """Note of the identities with the user's address that it is known to be theirs."""
        table = self._identities
        for identity in person.identities:
            if identity.email and identity.email == person.row.email:
                await connection.execute(
                    update(table)
                    .where(table.c.id == identity.id)
                    .values(
                        identity_data={**identity.identity_data, "email_verified": True},
                        updated_at=utc_now(),
                    )
                )

    async def confirm_email(self, connection: AsyncConnection, person: Person) -> None:
        """Note that the address is the user's, unless that is known already; what letters said
        before is void then."""
        if person.is_confirmed:
            return
        await self.revoke_links(connection, person.id)
        await self.change(
            connection,
            person.id,
            email_confirmed_at=utc_now(),
            raw_user_meta_data=merged(person.row.raw_user_meta_data, {"email_verified": True}),
        )

    async def note_providers(self, connection: AsyncConnection, id: UUID) -> None:
        """Write into `app_metadata` how the user signs in; the first stays the first."""
        person = await self.get(connection, id)
        providers = list(dict.fromkeys(each.provider for each in person.identities))
        known = person.row.raw_app_meta_data or {}
        first = known.get("provider")
        if first not in providers:
            first = providers[0] if providers else None
        changes = {"provider": first, "providers": providers or None}
        await self.change(connection, id, raw_app_meta_data=merged(known, changes))

    async def remove_identity(
        self, connection: AsyncConnection, person: Person, identity: Row[Any]
    ) -> None:
        """Take a way to sign in from a user, and with it the number, or the address that no other
        identity has; the first other one takes its place. Raises AuthError where that is taken."""
        await connection.execute(
            delete(self._identities).where(self._identities.c.id == identity.id)
        )
        emails = [each.email for each in person.identities if each.id != identity.id]
        if identity.provider == "phone":
            await self.change(connection, person.id, phone=None, phone_confirmed_at=None)
        elif person.row.email not in emails:
            email = next(filter(None, emails), None)
            values = {"email": email} if email else {"email": None, "email_confirmed_at": None}
            await self.revoke_links(connection, person.id)
            await self.change(connection, person.id, **values)
        await self.note_providers(connection, person.id)

    async def revoke_links(self, connection: AsyncConnection, id: UUID) -> None:
        """Make void whatever letters to the user hold."""
        await connection.execute(delete(self._tokens).where(self._tokens.c.user_id == id))

    async def delete(self, connection: AsyncConnection, id: UUID) -> None:
        """Delete the user, and all that is theirs."""
        with _database_doing("deleting"):
            await connection.execute(delete(self._users).where(self._users.c.id == id))

    async def bury(self, connection: AsyncConnection, person: Person) -> None:
        """Mark the user as deleted, and keep nothing that tells who they were: the id stays for
        the rows that refer to it."""
        now, row = utc_now(), person.row
        await self.revoke_links(connection, person.id)
        for table in (self._flows, self._factors):
            await connection.execute(delete(table).where(table.c.user_id == person.id))
        await self.change(
            connection,
            person.id,
            **dict.fromkeys(ONE_TIME_TOKENS, ""),
            email=_buried(person.id, row.email) if row.email else None,
            phone=_buried(person.id, row.phone)[:15] if row.phone else None,
            email_change="",
            phone_change="",
            encrypted_password="",
            raw_user_meta_data={},
            raw_app_meta_data={},
            deleted_at=now,
        )
        for identity in person.identities:
            await connection.execute(
                update(self._identities)
                .where(self._identities.c.id == identity.id)
                .values(
                    provider_id=_buried(person.id, identity.provider_id),
                    identity_data={},
                    updated_at=now,
                )
            )


def _buried(id: UUID, text: str) -> str:
    digest = hashlib.sha256(f"{id}{text}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@contextmanager
def _database_doing(what: str) -> Iterator[None]:
    """Tell a taken address, number or id from what the project's own tables and triggers refuse,
    which is a fault of the project: it is logged, and said to be one."""
    try:
        with translated_errors():
            yield
    except Conflict as error:
        if error.constraint in TAKEN:
            code, message = TAKEN[error.constraint]
            raise AuthError(422, code, message) from error
        raise _fault(what, error) from error
    except Retryable:
        raise
    except (AmphibaseError, SQLAlchemyError) as error:
        raise _fault(what, error) from error


def _fault(what: str, error: Exception) -> AuthError:
    logger.error("Database error %s user: %s", what, error)
    return AuthError(500, "unexpected_failure", f"Database error {what} user")
