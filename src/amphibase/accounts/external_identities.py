"""Accounts at third parties: whom one signs in, and what it proves.

An account at a third party belongs to one user for good. A new one belongs to the user of its
address, but only where the third party has verified that address: everybody can register the
address of somebody else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, insert, select, update

from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.user_states import is_banned
from amphibase.accounts.users import merged
from amphibase.backend import Claims
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import Conflict, EmailNotConfirmed, IdentityNotLinked, NotFound, UserBanned
from amphibase.schema.tables import Tables

OWN_PROVIDERS = ("email", "phone")
"""The providers of identities that are not at a third party."""


class IdentityTaken(Conflict):
    """Raised where an account at a third party belongs to a user already.

    Attributes:
        is_own: whether that is the user who links it.
    """

    def __init__(self, *, is_own: bool) -> None:
        self.is_own = is_own
        super().__init__("The identity is linked already")


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """An account at a third party.

    Args:
        subject: its id there, which never changes.
        email: in lower case; None where there is none.
        is_verified: whether the third party has verified the address.
        data: what it says of the user, for the metadata.

    Raises:
        ValueError: the text is such that no database keeps it.
    """

    provider: str
    subject: str
    email: str | None
    is_verified: bool
    data: Claims = field(repr=False)

    def __post_init__(self) -> None:
        if not _is_storable(self.data):
            raise ValueError("has a NUL character, or half of a surrogate pair, in its text")


@dataclass(frozen=True, slots=True)
class ExternalSignIn:
    """Whom an account at a third party signs in.

    Args:
        user: the row.
        linked: the identity that the sign-in has added to a user who had the address; None where
            the user had it.
    """

    user: Row[Any]
    linked: Row[Any] | None = None


class ExternalIdentities:
    """Signs users in by accounts at third parties; every method runs in the caller's
    transaction.

    Args:
        links_unproven: whether an account whose address counts as confirmed without an email is
            linked by that address, although whoever made it may know its password.
        copies_data: whether each sign-in writes what the third party says into the metadata.
    """

    def __init__(
        self,
        engine: AccountEngine,
        tables: Tables,
        *,
        links_unproven: bool = True,
        copies_data: bool = True,
    ) -> None:
        self._engine = engine
        self._links_unproven = links_unproven
        self._copies_data = copies_data
        self._users = engine.users
        self._table = tables.identities

    async def owner(
        self, connection: SqlConnection, identity: ExternalIdentity, *, lock: bool = False
    ) -> Row[Any] | None:
        """Return whom `sign_in` would sign in.

        Args:
            lock: let nobody else change that until the transaction ends.
        """
        existing = await self._find(connection, identity, lock=lock)
        if existing is not None:
            return await self._users.get(connection, existing.user_id, lock=lock)
        if identity.email is None or not identity.is_verified:
            return None
        if lock:
            await self._users.lock_address(connection, identity.email)
        return await self._users.find_by_email(connection, identity.email, lock=lock)

    async def sign_in(
        self, connection: SqlConnection, identity: ExternalIdentity
    ) -> ExternalSignIn | None:
        """Return the user of an account at a third party, locked; None where it is a new one.

        One that is new and whose address is verified is linked to the user of the address. What was
        unproven of that user, such as the password of somebody who signed up with the address, is
        gone after that.

        Raises:
            UserBanned: the user is banned.
            IdentityNotLinked: the user has the address and a password, and proved neither.
        """
        owner = await self.owner(connection, identity, lock=True)
        if owner is None:
            return None
        _check_ban(owner)
        existing = await self._find(connection, identity)
        if existing is not None:
            await self._refresh(connection, existing, identity)
            if self._copies_data:
                metadata = merged(owner.raw_user_meta_data, identity.data)
                await self._users.change(connection, owner.id, raw_user_meta_data=metadata)
            return ExternalSignIn(await self._users.get(connection, owner.id))
        if not self._links_unproven and _is_unproven(owner):
            raise IdentityNotLinked
        await self._engine.prove_email(connection, owner)
        linked = await self._add(connection, owner.id, identity)
        return ExternalSignIn(await self._users.get(connection, owner.id), linked)

    async def add_user(
        self,
        connection: SqlConnection,
        identity: ExternalIdentity,
        *,
        id: UUID,
        accepts_unverified: bool,
        email_optional: bool = False,
        **columns: Any,
    ) -> Row[Any]:
        """Add the user of an account at a third party that `sign_in` does not know.

        Args:
            accepts_unverified: whether addresses need no proof.
            email_optional: whether a user may have no address.
            columns: further columns of the user's row.

        Raises:
            EmailNotConfirmed: the third party has not verified the address, or has none.
            EmailAlreadyRegistered: another user has the address, which is not verified.
        """
        if identity.email is not None:
            if not (identity.is_verified or accepts_unverified):
                raise EmailNotConfirmed
            await self._engine.claim_address(connection, identity.email)
        elif not email_optional:
            raise EmailNotConfirmed
        await self._users.insert(
            connection,
            id=id,
            email=identity.email,
            email_confirmed_at=utc_now() if identity.email else None,
            raw_user_meta_data=dict(identity.data),
            raw_app_meta_data={},
            **columns,
        )
        await self._add(connection, id, identity)
        return await self._users.get(connection, id)

    async def accept_invitation(
        self, connection: SqlConnection, user: Row[Any], identity: ExternalIdentity
    ) -> Row[Any]:
        """Sign an invited user in, whose invitation has been redeemed; return the row.

        Args:
            user: locked, with the address of the identity.

        Raises:
            IdentityTaken: it belongs to a user already.
            UserBanned: the user is banned.
        """
        existing = await self._find(connection, identity, lock=True)
        if existing is not None:
            raise IdentityTaken(is_own=existing.user_id == user.id)
        _check_ban(user)
        user = await self._engine.prove_email(connection, user)
        metadata = merged(user.raw_user_meta_data, identity.data)
        await self._users.change(connection, user.id, raw_user_meta_data=metadata)
        await self._add(connection, user.id, identity)
        return await self._users.get(connection, user.id)

    async def link(
        self, connection: SqlConnection, user_id: UUID, identity: ExternalIdentity
    ) -> Row[Any]:
        """Link an account at a third party to a user who is signed in; return its row.

        A user without an address gets that of the account, and is not anonymous after that.

        Args:
            user_id: who is signed in.

        Raises:
            IdentityTaken: it belongs to a user already.
            NotFound: the user has been deleted.
            UserBanned: the user has been banned.
            EmailNotConfirmed: the user has no address, and that of the account is not verified.
            EmailAlreadyRegistered: another user has that address.
        """
        # In this order, as in `sign_in`: two requests never wait for each other.
        existing = await self._find(connection, identity, lock=True)
        if existing is not None:
            raise IdentityTaken(is_own=existing.user_id == user_id)
        user = await self._users.get(connection, user_id, lock=True)
        _check_ban(user)
        if not user.email:
            if identity.email is None or not identity.is_verified:
                raise EmailNotConfirmed
            await self._engine.claim_address(connection, identity.email, user.id)
            await self._engine.revoke_outstanding(
                connection,
                user,
                email=identity.email,
                email_confirmed_at=utc_now(),
                is_anonymous=False,
            )
        return await self._add(connection, user.id, identity)

    async def _find(
        self, connection: SqlConnection, identity: ExternalIdentity, *, lock: bool = False
    ) -> Row[Any] | None:
        """Return the row of an identity.

        Args:
            lock: let nobody else add it until the transaction ends.
        """
        if lock:
            await self._users.lock_address(connection, f"{identity.provider} {identity.subject}")
        table = self._table
        rows = await connection.execute(
            select(table).where(
                table.c.provider == identity.provider, table.c.provider_id == identity.subject
            )
        )
        return rows.one_or_none()

    async def unlink(self, connection: SqlConnection, user: Row[Any], id: UUID) -> None:
        """Remove an identity at a third party.

        Args:
            user: locked.

        Raises:
            NotFound: the user has no such identity at a third party.
            Conflict: it is the only way in which the user signs in.
        """
        identities = await self._users.identities(connection, user.id)
        external = [other.id for other in identities if other.provider not in OWN_PROVIDERS]
        if id not in external:
            raise NotFound("You have no such identity")
        if len(external) == 1 and not user.encrypted_password:
            raise Conflict(
                "This is the only way in which you sign in: set a password or link another first"
            )
        await connection.execute(delete(self._table).where(self._table.c.id == id))
        await self._users.sync_providers(connection, user.id)

    async def _add(
        self, connection: SqlConnection, user_id: UUID, identity: ExternalIdentity
    ) -> Row[Any]:
        now = utc_now()
        added = await connection.execute(
            insert(self._table)
            .values(
                id=uuid4(),
                provider=identity.provider,
                provider_id=identity.subject,
                user_id=user_id,
                identity_data=dict(identity.data),
                last_sign_in_at=now,
                created_at=now,
                updated_at=now,
            )
            .returning(self._table)
        )
        row: Row[Any] = added.one()
        await self._users.sync_providers(connection, user_id)
        return row

    async def _refresh(
        self, connection: SqlConnection, row: Row[Any], identity: ExternalIdentity
    ) -> None:
        now = utc_now()
        await connection.execute(
            update(self._table)
            .where(self._table.c.id == row.id)
            .values(identity_data=dict(identity.data), last_sign_in_at=now, updated_at=now)
        )


def _is_storable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_storable(part) for item in value.items() for part in item)
    if isinstance(value, list):
        return all(map(_is_storable, value))
    return not isinstance(value, str) or not re.search("[\x00\ud800-\udfff]", value)


def _is_unproven(user: Row[Any]) -> bool:
    """Return whether the address counts as confirmed without an email, and a password signs in."""
    return bool(
        user.email_confirmed_at is not None
        and user.confirmation_sent_at is None
        and user.encrypted_password
    )


def _check_ban(user: Row[Any]) -> None:
    if is_banned(user):
        raise UserBanned
