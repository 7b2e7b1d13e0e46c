"""Users with their identities and second factors, as Supabase Auth shows them."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from amphibase.accounts.user_states import is_banned
from amphibase.accounts.users import Users
from amphibase.column_defaults import utc_now
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.sql_connection import SqlConnection, StatementResult, Values
from amphibase.database.together import read_together
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError, database_errors
from amphibase.gateway.auth.pages import CursorPage, RequestedPage
from amphibase.schema.auth_tables import ONE_TIME_TOKENS
from amphibase.schema.tables import Tables


@dataclass(frozen=True, slots=True)
class AuthUser:
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
        id: UUID = self.row.id
        return id

    @property
    def is_confirmed(self) -> bool:
        """Whether the address is proven to be theirs."""
        return self.row.email_confirmed_at is not None

    @property
    def is_banned(self) -> bool:
        return is_banned(self.row)

    @property
    def has_verified_factor(self) -> bool:
        return any(factor.status == "verified" for factor in self.factors)


class AuthUsers:
    """Reads and writes users, in the caller's transaction.

    Args:
        rows: the rows that the application's accounts have too.
        database: for what is read in no other transaction.
    """

    def __init__(self, tables: Tables, rows: Users, database: PipelineDatabase) -> None:
        self._rows = rows
        self._database = database
        self._users = tables.users
        self._identities = tables.identities
        self._factors = tables.mfa_factors
        self._by_id = select(self._users).where(self._users.c.id == bindparam("its_user"))
        self._locked_by_id = self._by_id.with_for_update()
        self._parts = [
            _oldest_first(table).where(table.c.user_id == bindparam("its_user"))
            for table in (self._identities, self._factors)
        ]
        self._by_email = self._with_parts(rows.with_email(bindparam("address")))
        by_phone = select(self._users).where(self._has_phone(bindparam("number")))
        self._by_phone = self._with_parts(by_phone)

    def _with_parts(self, query: Select[Any]) -> list[Select[Any]]:
        """Return the query of a user, and those of their identities and factors."""
        id = query.with_only_columns(self._users.c.id).scalar_subquery()
        tables = (self._identities, self._factors)
        return [query, *(_oldest_first(table).where(table.c.user_id == id) for table in tables)]

    # Reading

    async def find(
        self, connection: SqlConnection, id: UUID, *, lock: bool = False
    ) -> AuthUser | None:
        """Return the user with that id, a deleted one too.

        Args:
            lock: keep the row from others until the transaction ends.
        """
        by_id, values = self._locked_by_id if lock else self._by_id, {"its_user": id}
        found, *parts = await read_together(
            connection, (by_id, values), *((part, values) for part in self._parts)
        )
        row = found.one_or_none()
        return _whole(row, parts) if row is not None else None

    async def get(self, connection: SqlConnection, id: UUID, *, lock: bool = False) -> AuthUser:
        """Return the user with that id. Raises AuthError."""
        user = await self.find(connection, id, lock=lock)
        if user is None:
            raise AuthError(codes.USER_NOT_FOUND)
        return user

    async def of(self, connection: SqlConnection, row: Row[Any]) -> AuthUser:
        """Return the user whose row has been read."""
        return _whole(row, await self._parts_of(connection, row.id))

    async def find_by_email(
        self, connection: SqlConnection, email: str, *, lock: bool = False
    ) -> AuthUser | None:
        """Return the user with that address, but for those of single sign-on."""
        row = await self._rows.find_by_email(connection, email, lock=lock)
        return await self.of(connection, row) if row is not None else None

    async def read_by_email(self, email: str) -> AuthUser | None:
        """Return the user that `find_by_email` finds, in one round trip and no transaction."""
        return await self._read(self._by_email, {"address": email.lower()})

    async def read_by_phone(self, phone: str) -> AuthUser | None:
        """Return the user that `find_by_phone` finds, as `read_by_email` does."""
        return await self._read(self._by_phone, {"number": phone})

    async def _read(self, queries: Sequence[Select[Any]], values: Values) -> AuthUser | None:
        found, *parts = await self._database.fetch(*((query, values) for query in queries))
        row = found.one_or_none()
        return _whole(row, parts) if row is not None else None

    async def find_by_phone(
        self, connection: SqlConnection, phone: str, *, lock: bool = False
    ) -> AuthUser | None:
        """Return the user with that number, digits alone."""
        return await self._one(connection, self._has_phone(phone), lock)

    def _has_phone(self, phone: str | BindParameter[str]) -> ColumnElement[bool]:
        return (self._users.c.phone == phone) & self._users.c.deleted_at.is_(None)

    async def find_by_new_phone(self, connection: SqlConnection, phone: str) -> AuthUser | None:
        """Return the user who requested last a change to that number; locked."""
        users = self._users
        latest = (
            select(users.c.id)
            .where(users.c.phone_change == phone, users.c.deleted_at.is_(None))
            .order_by(users.c.phone_change_sent_at.desc())
            .limit(1)
        )
        return await self._one(connection, users.c.id == latest.scalar_subquery(), lock=True)

    async def find_by_new_email(self, connection: SqlConnection, email: str) -> AuthUser | None:
        """Return the user who requested last a change to that address; locked."""
        users = self._users
        latest = (
            select(users.c.id)
            .where(users.c.email_change == email, users.c.deleted_at.is_(None))
            .order_by(users.c.email_change_sent_at.desc())
            .limit(1)
        )
        return await self._one(connection, users.c.id == latest.scalar_subquery(), lock=True)

    async def page(
        self,
        connection: SqlConnection,
        page: RequestedPage,
        audience: str,
        text: str = "",
        *,
        descending: bool = True,
    ) -> tuple[Sequence[Row[Any]], int]:
        """Return one page of the rows of an audience's users, and how many there are.

        Args:
            text: a part of their address or `full_name`, as a pattern of LIKE; empty for all.
            descending: whether the newest come first.
        """
        users, matches = self._users, self._matches(audience, text)
        count = select(func.count()).select_from(users).where(matches)
        total = (await connection.execute(count)).scalar_one()
        statement = self._ordered(descending=descending).where(matches)
        rows = await connection.execute(statement.limit(page.size).offset(page.offset))
        return rows.all(), total

    async def page_after(
        self,
        connection: SqlConnection,
        page: CursorPage,
        audience: str,
        text: str = "",
        *,
        descending: bool = True,
    ) -> Sequence[Row[Any]]:
        """Return the rows of an audience's users that follow a cursor: a page, and one more.

        Args:
            text, descending: see `page`.
        """
        users = self._users
        statement = self._ordered(descending=descending).where(self._matches(audience, text))
        if page.after is not None:
            position = tuple_(users.c.created_at, users.c.id)
            last = tuple_(page.after.created_at, page.after.id)
            statement = statement.where(position < last if descending else position > last)
        result = await connection.execute(statement.limit(page.size + 1))
        rows: Sequence[Row[Any]] = result.all()
        return rows

    def _matches(self, audience: str, text: str) -> ColumnElement[bool]:
        users = self._users
        name = users.c.raw_user_meta_data["full_name"].as_string()
        matches = or_(users.c.email.like(f"%{text}%"), name.ilike(f"%{text}%"))
        return and_(users.c.aud == audience, matches if text else true())

    def _ordered(self, *, descending: bool) -> Select[Any]:
        users = self._users
        columns = (users.c.created_at, users.c.id)
        order = [column.desc() if descending else column.asc() for column in columns]
        return select(users).order_by(*order)

    async def _one(self, connection: SqlConnection, condition: Any, lock: bool) -> AuthUser | None:
        statement = select(self._users).where(condition)
        if lock:
            statement = statement.with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        return await self.of(connection, row) if row is not None else None

    async def _parts_of(self, connection: SqlConnection, id: UUID) -> Sequence[StatementResult]:
        """Return the identities and the factors of a user."""
        return await read_together(connection, *((part, {"its_user": id}) for part in self._parts))

    async def imitate(self, connection: SqlConnection, nobody: UUID) -> None:
        """Cost what it costs to read a user whose row has been read.

        Args:
            nobody: an id that no user has.
        """
        await self._parts_of(connection, nobody)

    # Writing

    async def insert(self, connection: SqlConnection, **values: Any) -> None:
        """Add a user without identities; see `Users.insert`.

        Raises:
            EmailAlreadyRegistered, AuthError: the address, number or id is taken.
        """
        is_anonymous = bool(values.get("is_anonymous"))
        action = "creating anonymous" if is_anonymous else "saving new"
        with database_errors(action, shows_raised=not is_anonymous):
            await self._rows.insert(connection, **values)

    async def change(self, connection: SqlConnection, id: UUID, **values: Any) -> None:
        """Write columns of a user.

        Raises:
            EmailAlreadyRegistered, AuthError: the address or number is taken.
        """
        with database_errors("updating"):
            await self._rows.change(connection, id, **values)

    async def add_email_identity(self, connection: SqlConnection, user: AuthUser) -> None:
        """Give a user with a first password the identity by email that they lack.

        Only a confirmed address of a person's own account becomes one.
        """
        row = user.row
        is_own = row.email and user.is_confirmed and not (row.is_sso_user or row.is_anonymous)
        if is_own and all(identity.provider != "email" for identity in user.identities):
            await self._rows.add_identity(connection, user.id, "email", row.email, verified=True)
            await self._rows.sync_providers(connection, user.id)

    async def remove_identity(
        self,
        connection: SqlConnection,
        user: AuthUser,
        identity: Row[Any],
        *,
        accepts_unverified: bool,
    ) -> dict[str, Any]:
        """Delete a way to sign in; return the columns of the user that change with it.

        Without it the user has no number, or not the address that no other identity has: that of
        another identity takes its place, one that the third party has verified first, and is
        confirmed only then.

        Args:
            accepts_unverified: whether addresses need no proof.

        Raises:
            AuthError: other users have the addresses of all other identities.
        """
        await connection.execute(
            delete(self._identities).where(self._identities.c.id == identity.id)
        )
        if identity.provider == "phone":
            return {"phone": None, "phone_confirmed_at": None}
        others = [other for other in user.identities if other.id != identity.id]
        if (user.row.email or "").lower() in (other.email or "" for other in others):
            return {}
        for other in sorted(others, key=_email_rank):
            if other.email and await self._rows.find_by_email(connection, other.email) is not None:
                continue
            if other.email and (accepts_unverified or _has_verified_email(other)):
                return {"email": other.email}
            metadata = {**(user.row.raw_user_meta_data or {}), "email_verified": False}
            unconfirmed = {"email_confirmed_at": None, "raw_user_meta_data": metadata}
            return {"email": other.email, **unconfirmed}
        raise AuthError(codes.EMAIL_CONFLICT)

    async def soft_delete(self, connection: SqlConnection, user: AuthUser) -> None:
        """Mark the user as deleted and erase every personal value.

        The id stays for the rows that refer to it.
        """
        now, row = utc_now(), user.row
        await connection.execute(delete(self._factors).where(self._factors.c.user_id == user.id))
        await self.change(
            connection,
            user.id,
            **dict.fromkeys(ONE_TIME_TOKENS, ""),
            email=_obfuscated(user.id, row.email) if row.email else None,
            phone=_obfuscated(user.id, row.phone)[:15] if row.phone else None,
            phone_change="",
            encrypted_password="",
            raw_user_meta_data={},
            raw_app_meta_data={},
            deleted_at=now,
        )
        for identity in user.identities:
            await connection.execute(
                update(self._identities)
                .where(self._identities.c.id == identity.id)
                .values(
                    provider_id=_obfuscated(user.id, identity.provider_id),
                    identity_data={},
                    updated_at=now,
                )
            )


def _whole(row: Row[Any], parts: Sequence[StatementResult]) -> AuthUser:
    # Statements that find a user by an address find them anew: it may be another's in between.
    identities, factors = ([each for each in part if each.user_id == row.id] for part in parts)
    return AuthUser(row, identities, factors)


def _has_verified_email(identity: Row[Any]) -> bool:
    return (identity.identity_data or {}).get("email_verified") in (True, "true")


def _email_rank(identity: Row[Any]) -> int:
    """Return how soon the address of an identity becomes the user's; those of one rank by age."""
    if not identity.email:
        return 2
    return 0 if _has_verified_email(identity) else 1


def _obfuscated(id: UUID, text: str) -> str:
    digest = hashlib.sha256(f"{id}{text}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _oldest_first(table: Table) -> Select[Any]:
    return select(table).order_by(table.c.created_at, table.c.id)
