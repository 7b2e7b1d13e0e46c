"""The rules that change the state of an account, once for every front.

The application's routes (`sql/accounts.py`) and the gateway's endpoints (`gateway/auth/`) check
their input and shape their responses themselves; what happens to an account happens here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Never
from uuid import UUID

from sqlalchemy import Row, delete

from amphibase.accounts.one_time_tokens import OneTimeTokens
from amphibase.accounts.open_session import OpenSession, RefreshRejection
from amphibase.accounts.passwords import PasswordWorkers, needs_rehash
from amphibase.accounts.pending_sign_ups import PendingSignUps
from amphibase.accounts.previous_passwords import PreviousPasswords, PreviousProject
from amphibase.accounts.sessions import Sessions
from amphibase.accounts.user_states import (
    email_claims,
    is_banned,
    is_unproven_sign_up,
    with_new_email,
)
from amphibase.accounts.users import Users, merged
from amphibase.backend import Claims, Device
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection, SqlDatabase
from amphibase.errors import (
    EmailAlreadyRegistered,
    EmailNotConfirmed,
    InvalidCredentials,
    UserBanned,
)
from amphibase.schema.tables import Tables

AddedClaims = Callable[[SqlConnection, Row[Any], OpenSession], Awaitable[Claims]]
"""Returns what the access token of a user's session has beside the standard claims."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is checked against.

    Args:
        user: None where no user has the address.
        is_confirmed: whether the address or number that the user signs in with is confirmed.
        email: the address that the user signs in with; None for a number.
    """

    user: Row[Any] | None = field(repr=False)
    is_confirmed: bool
    email: str | None = None

    @property
    def password_hash(self) -> str | None:
        """The hash of the user's password."""
        return (self.user.encrypted_password or None) if self.user is not None else None


@dataclass(frozen=True, slots=True)
class CheckedPassword:
    """A password that is a user's.

    Args:
        password_hash: what it was checked against.
        new_hash: what replaces a hash of an older kind.
    """

    user_id: UUID
    password_hash: str = field(repr=False)
    new_hash: str | None = field(default=None, repr=False)


class AccountEngine:
    """Applies the rules; a method with a connection runs in the caller's transaction.

    Args:
        confirms_emails: whether a sign-up waits until its address is proven.
        stores_unproven_users: whether a sign-up adds the row of its user before the address is
            proven, with the claims of the address in the metadata, as Supabase Auth does.
        added_claims: called in the transaction that opens or refreshes a session.
        previous: the project that accounts without a password have come from.
    """

    def __init__(
        self,
        database: SqlDatabase,
        tables: Tables,
        sessions: Sessions,
        tokens: OneTimeTokens,
        *,
        confirms_emails: bool,
        stores_unproven_users: bool = False,
        added_claims: AddedClaims | None = None,
        previous: PreviousProject | None = None,
    ) -> None:
        self.database = database
        self.users = Users(tables)
        self.previous = PreviousPasswords(tables, self.users, previous) if previous else None
        self.sessions = sessions
        self.tokens = tokens
        self.pending = PendingSignUps(tables, tokens.lifetime)
        self.passwords = PasswordWorkers()
        self.stores_unproven_users = stores_unproven_users
        self._confirms_emails = confirms_emails
        self._added_claims = added_claims
        self._factors = tables.mfa_factors
        self._flows = tables.flow_state

    # Signing in

    async def credentials(self, email: str) -> Credentials:
        """Return what the password of an address is checked against."""
        async with self.database.read() as connection:
            user = await self.users.find_by_email(connection, email)
        return Credentials(user, user is not None and user.email_confirmed_at is not None, email)

    async def check_password(self, credentials: Credentials, password: str) -> CheckedPassword:
        """Check a password before a session is opened; holds no connection meanwhile.

        Raises:
            InvalidCredentials: the address is unknown or the password is wrong; both take the
                same time.
            EmailNotConfirmed: the password is right and the address is not confirmed, or it is
                that of a pending sign-up, whether or not the address has an account.
            UserBanned: after the right password only.
            Unavailable, TooManyRequests: the password may be one of the previous project's, which
                does not say.
        """
        user, password_hash = credentials.user, credentials.password_hash
        if not await self.passwords.verify(password, password_hash):
            password_hash = await self._take_over(credentials, password)
        if user is None or not password_hash:
            await self._reject(password, credentials.email)
        if is_banned(user):
            raise UserBanned
        if not credentials.is_confirmed:
            raise EmailNotConfirmed
        is_outdated = needs_rehash(password_hash)
        new_hash = await self.passwords.hash(password) if is_outdated else None
        return CheckedPassword(user.id, password_hash, new_hash)

    async def _take_over(self, credentials: Credentials, password: str) -> str | None:
        """Store a password that the previous project knows; return its hash, or None."""
        user, email = credentials.user, credentials.email
        if self.previous is None or email is None:
            return None
        if not await self.previous.belongs_to(user, email, password) or user is None:
            return None
        password_hash = await self.passwords.hash(password)
        async with self.database.write() as connection:
            is_stored = await self.previous.store(connection, user.id, password_hash)
        return password_hash if is_stored else None

    async def sign_in(
        self, connection: SqlConnection, checked: CheckedPassword, device: Device
    ) -> tuple[Row[Any], OpenSession]:
        """Open a session; a hash of an older kind is replaced.

        Returns:
            The user's row and the session.

        Raises:
            InvalidCredentials: the password has been changed since it was checked, or the account
                banned or deleted.
        """
        now = utc_now()
        values: dict[str, Any] = {"last_sign_in_at": now, "updated_at": now}
        if checked.new_hash is not None:
            values["encrypted_password"] = checked.new_hash
        user = await self.users.change_if_password_is(
            connection, checked.user_id, checked.password_hash, **values
        )
        if user is None:
            raise InvalidCredentials
        return user, await self.open_session(connection, user, device, "password")

    async def open_session(
        self, connection: SqlConnection, user: Row[Any], device: Device, method: str
    ) -> OpenSession:
        """Open a session of a user; see `Sessions.open`."""
        session = await self.sessions.open(connection, user.id, device, method)
        return await self.with_claims(connection, user, session)

    async def with_claims(
        self, connection: SqlConnection, user: Row[Any], session: OpenSession
    ) -> OpenSession:
        """Return a session with the claims of its next access token, which hooks may add."""
        if self._added_claims is None:
            return session
        return replace(session, claims=await self._added_claims(connection, user, session))

    async def _reject(self, password: str, email: str | None) -> Never:
        # Read and verified for every address: who signed up with it learns that their own sign-up
        # is pending, and the time does not reveal whether there was an account.
        if self._confirms_emails and email is not None:
            async with self.database.read() as connection:
                pending = await self.pending.valid(connection, email.lower())
            pending_hash = pending[-1].encrypted_password if pending else None
            if await self.passwords.verify(password, pending_hash):
                raise EmailNotConfirmed
        raise InvalidCredentials

    async def refresh(
        self, refresh_token: str, device: Device | None = None
    ) -> tuple[Row[Any], OpenSession] | RefreshRejection:
        """Exchange a refresh token.

        Args:
            device: what the session is used from now; None leaves that as it is.

        Returns:
            The user's row and the session, or why the token is rejected; what the rejection did
            to the session is committed.

        Raises:
            UserBanned: the token stays valid for when the ban ends.
        """
        async with self.database.write() as connection:
            session = await self.sessions.rotate(connection, refresh_token, device)
            if isinstance(session, RefreshRejection):
                return session
            user = await self.users.find(connection, session.user_id)
            if user is None:
                return RefreshRejection.UNKNOWN
            if is_banned(user):
                raise UserBanned
            return user, await self.with_claims(connection, user, session)

    # Proof of an address

    async def prove_email(
        self,
        connection: SqlConnection,
        user: Row[Any],
        *,
        password_hash: str | None = None,
        user_metadata: Claims | None = None,
        marks_identities: bool = True,
    ) -> Row[Any]:
        """Record that the address is the user's, since an email reached them; return the row.

        What was unproven is gone with it: sign-ups, links, sessions, factors and identities. The
        password and the metadata of the sign-up with the address go too, unless they are
        passed on here.

        Args:
            user: locked.
            password_hash: the password of the sign-up that is proven.
            user_metadata: the metadata of that sign-up.
            marks_identities: whether the identities with the address say so, too.
        """
        if user.email_confirmed_at is not None:
            if marks_identities:
                await self.users.prove_identities(connection, user)
            return user
        await self.pending.delete(connection, user.email)
        await self.tokens.revoke(connection, user.id)
        await self.sessions.end(connection, user.id)
        await connection.execute(
            delete(self._factors).where(
                self._factors.c.user_id == user.id, self._factors.c.status == "unverified"
            )
        )
        values: dict[str, Any] = {"email_confirmed_at": utc_now()}
        data = None
        if is_unproven_sign_up(user):
            data = dict(user_metadata or {})
            values["encrypted_password"] = password_hash or ""
            values["raw_user_meta_data"] = self._metadata(user, data)
        elif self.stores_unproven_users:
            values["raw_user_meta_data"] = merged(user.raw_user_meta_data, {"email_verified": True})
        await self.users.change(connection, user.id, **values)
        await self.users.prove_identities(connection, user, data=data, marks=marks_identities)
        return await self.users.get(connection, user.id)

    async def change_email(
        self, connection: SqlConnection, user: Row[Any], email: str, *, is_proven: bool = True
    ) -> None:
        """Set another address of the user, who is not anonymous after that.

        Args:
            user: locked.
            is_proven: whether an email reached the user there; False leaves it as it was.

        Raises:
            EmailAlreadyRegistered: another user has the address by now.
        """
        await self.claim_address(connection, email, user.id)
        confirmed_at = user.email_confirmed_at or (utc_now() if is_proven else None)
        values: dict[str, Any] = {"email": email, "email_confirmed_at": confirmed_at}
        if is_proven:
            values["is_anonymous"] = False
            if self.stores_unproven_users:
                values["raw_user_meta_data"] = with_new_email(user.raw_user_meta_data, email)
        await self.revoke_outstanding(connection, user, **values)
        is_verified = confirmed_at is not None
        await self.users.set_identity(connection, user.id, "email", email, verified=is_verified)
        # As in Supabase Auth, only a confirmation by email makes a provider of the identity.
        if self._confirms_emails or not user.is_anonymous:
            await self.users.sync_providers(connection, user.id)

    async def check_address_free(self, connection: SqlConnection, email: str) -> None:
        """Raise EmailAlreadyRegistered where an account has the address."""
        user = await self.users.find_by_email(connection, email)
        if user is not None and not is_unproven_sign_up(user):
            raise EmailAlreadyRegistered

    async def claim_address(
        self, connection: SqlConnection, email: str, user_id: UUID | None = None
    ) -> None:
        """Take an address for a user, and delete the unconfirmed sign-ups with it.

        Args:
            user_id: who takes it; None for a new user.

        Raises:
            EmailAlreadyRegistered: another account has the address.
        """
        await self.users.lock_address(connection, email)
        other = await self.users.find_by_email(connection, email, lock=True)
        if other is not None and other.id != user_id:
            if not is_unproven_sign_up(other):
                raise EmailAlreadyRegistered
            await self.users.delete(connection, other.id)
        await self.pending.delete(connection, email)

    # Passwords, bans and deletions

    async def set_password(
        self,
        connection: SqlConnection,
        user: Row[Any],
        password_hash: str,
        *,
        keep_session: UUID | None = None,
    ) -> None:
        """Set a new password; every session but one ends.

        Args:
            user: locked.
            keep_session: the session that goes on; None ends all.
        """
        await self.revoke_outstanding(connection, user, encrypted_password=password_hash)
        await self.sessions.end(connection, user.id, keep=keep_session)

    async def ban(self, connection: SqlConnection, user: Row[Any], until: datetime | None) -> None:
        """Ban a user, or lift the ban with None."""
        if until is None:
            await self.users.change(connection, user.id, banned_until=None)
        else:
            await self.revoke_outstanding(connection, user, banned_until=until)

    async def set_confirmed(
        self, connection: SqlConnection, user: Row[Any], is_confirmed: bool
    ) -> None:
        """Confirm an address by an administrator's word, or take that back.

        Args:
            user: locked.
        """
        confirmed_at = (user.email_confirmed_at or utc_now()) if is_confirmed else None
        await self.revoke_outstanding(connection, user, email_confirmed_at=confirmed_at)
        await self.users.set_identity(
            connection, user.id, "email", user.email, verified=is_confirmed
        )

    async def delete(self, connection: SqlConnection, id: UUID) -> bool:
        """Delete an account with all that is under way for it; return whether it existed."""
        user = await self.users.find(connection, id, lock=True)
        if user is not None:
            await self.revoke_outstanding(connection, user)
        return await self.users.delete(connection, id)

    async def revoke_outstanding(
        self, connection: SqlConnection, user: Row[Any], **values: Any
    ) -> None:
        """Revoke every link, code, flow, pending change and pending sign-up of a user.

        A new password, a ban, a deletion, another address and a confirmation by an administrator
        do so in their own transaction: a stranger who had the account for a minute keeps no way
        back.

        Args:
            user: locked.
            values: columns of the user to write in the same statement.
        """
        await self.tokens.revoke(connection, user.id)
        await connection.execute(delete(self._flows).where(self._flows.c.user_id == user.id))
        await self.pending.delete(connection, user.email, user.email_change)
        nothing_sent = dict.fromkeys(
            ("recovery_sent_at", "email_change_sent_at", "reauthentication_sent_at")
        )
        await self.users.change(
            connection,
            user.id,
            **{**nothing_sent, "email_change": "", "email_change_confirm_status": 0, **values},
        )

    def _metadata(self, user: Row[Any], data: dict[str, Any]) -> dict[str, Any]:
        if not self.stores_unproven_users:
            return data
        return {**data, **email_claims(user.id, user.email), "email_verified": True}
