"""Accounts in an SQL home: the contract of `backend.Accounts` on tables shaped like Supabase's."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.accounts.issuer import Issuer
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.mail.account_mail import Correspondence
from amphibase.accounts.mail.mailer import build_letters, build_mailer
from amphibase.accounts.one_time_tokens import Links
from amphibase.accounts.passwords import PasswordWorkers, check_hash, check_strength, needs_rehash
from amphibase.accounts.sessions import Opened, Refusal, Sessions
from amphibase.accounts.token_check import TokenCheck
from amphibase.accounts.users import AccountRows, account_of, imagined_account, merged
from amphibase.backend import (
    NO_CLAIMS,
    SERVICE,
    UNKNOWN_DEVICE,
    Account,
    Caller,
    Claims,
    Device,
    Page,
    SignedIn,
    SignOutScope,
    UserSession,
)
from amphibase.background import Background
from amphibase.database.engine import Database
from amphibase.database.executor import Executor
from amphibase.errors import (
    EmailAlreadyRegistered,
    EmailNotConfirmed,
    InvalidCredentials,
    InvalidLink,
    InvalidRefreshToken,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    UserBanned,
)
from amphibase.models import utc_now
from amphibase.records.cursors import Cursors
from amphibase.schema.tables import tables
from amphibase.settings import Settings


class SqlAccounts:
    """Sign-up, sign-in, sessions and passwords on one's own database.

    Args:
        executor: runs the token check, which every authenticated request waits for.
        background: where letters are written, after the answer.

    Attributes:
        tokens: the parts of `authenticate`, for whoever asks more in the same round trip.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        keys: KeyRing,
        background: Background,
        settings: Settings,
    ) -> None:
        self._database = database
        self._executor = executor
        self._settings = settings
        self._passwords = PasswordWorkers()
        self._cursors = Cursors(keys.derive("cursor"))
        found = tables(database.dialect)
        self._users = found.users
        self._rows = AccountRows(found)
        self._links = Links(found)
        self._issuer = Issuer(keys, settings)
        self._correspondence = Correspondence(
            database,
            self._rows,
            self._links,
            build_letters(settings),
            build_mailer(settings),
            background,
        )
        self._sessions = Sessions(
            found,
            keys.derive("refresh token"),
            timedelta(days=settings.refresh_token_days),
            timedelta(seconds=settings.refresh_reuse_seconds),
        )
        self.tokens = TokenCheck(found, keys)

    # Signing up, in and out

    async def sign_up(
        self, email: str, password: str, *, name: str = "", device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        email = email.lower()
        check_strength(password, self._settings.password_min_length)
        hashed = await self._passwords.hash(password)
        confirmed = self._settings.email_confirmation == "off"
        metadata = {"name": name} if name else {}
        try:
            async with self._database.write() as connection:
                account = await self._rows.insert(
                    connection,
                    id=None,
                    email=email,
                    password_hash=hashed,
                    confirmed=confirmed,
                    user_metadata=metadata,
                    app_metadata=NO_CLAIMS,
                    signed_in=confirmed,
                )
                if confirmed:
                    opened = await self._sessions.open(connection, account.id, device, "password")
            if confirmed:
                return SignedIn(account, self._issuer.tokens(account, opened))
        except EmailAlreadyRegistered:
            if confirmed:
                raise
            account = await self._sign_up_again(email, hashed, metadata)
        self._correspondence.send_confirmation_later(email)
        return SignedIn(account, None)

    async def sign_in(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        row = await self._row_by_email(email)
        hashed = row.encrypted_password if row else None
        matches = await self._passwords.verify(password, hashed)
        if row is None or not hashed or not matches:
            raise InvalidCredentials
        now = utc_now()
        account = replace(account_of(row), last_sign_in_at=now)
        if account.is_banned(now):
            raise UserBanned
        if account.email_confirmed_at is None:
            raise EmailNotConfirmed
        values: dict[str, Any] = {"last_sign_in_at": now}
        if needs_rehash(hashed):
            values["encrypted_password"] = await self._passwords.hash(password)
        async with self._database.write() as connection:
            # Only if the password is still the one that was checked: it may have been changed,
            # or the account banned or deleted, while the hash was computed.
            if not await self._rows.change_if_password_is(connection, account.id, hashed, **values):
                raise InvalidCredentials
            opened = await self._sessions.open(connection, account.id, device, "password")
        return SignedIn(account, self._issuer.tokens(account, opened))

    async def refresh(self, refresh_token: str) -> SignedIn:
        account = None
        async with self._database.write() as connection:
            result = await self._sessions.rotate(connection, refresh_token)
            if isinstance(result, Opened):
                row = await self._rows.find(connection, result.user_id)
                account = account_of(row) if row else None
                if account and account.is_banned(utc_now()):
                    raise UserBanned
        # Raised only here: what a refusal did (the session has ended) is committed by now.
        if isinstance(result, Refusal):
            raise InvalidRefreshToken(result.value)
        if account is None:
            raise InvalidRefreshToken
        return SignedIn(account, self._issuer.tokens(account, result))

    async def authenticate(self, access_token: str) -> Caller:
        caller = self.tokens.claimed(access_token)
        (rows,) = await self._executor.fetch(SERVICE, self.tokens.query_of(caller))
        return self.tokens.admit(caller, rows)

    async def sign_out(self, caller: Caller, scope: SignOutScope = "local") -> None:
        user_id, current = _user_id(caller), caller.session_id
        async with self._database.write() as connection:
            match scope:
                case "local" if current is not None:
                    await self._sessions.end(connection, user_id, current)
                case "others":
                    await self._sessions.end(connection, user_id, keep=current)
                case "global":
                    await self._sessions.end(connection, user_id)

    async def sessions(self, caller: Caller) -> Sequence[UserSession]:
        async with self._database.read() as connection:
            return await self._sessions.of(connection, _user_id(caller))

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        async with self._database.write() as connection:
            if not await self._sessions.end(connection, _user_id(caller), session_id):
                raise NotFound("You have no such session")

    # Passwords and addresses

    async def change_password(self, caller: Caller, current: str, new: str) -> None:
        user_id = _user_id(caller)
        check_strength(new, self._settings.password_min_length)
        async with self._database.read() as connection:
            row = await self._rows.get(connection, user_id)
        known = row.encrypted_password
        if not await self._passwords.verify(current, known) or not known:
            raise InvalidCredentials("The current password is not right")
        hashed = await self._passwords.hash(new)
        async with self._database.write() as connection:
            if not await self._rows.change_if_password_is(
                connection, user_id, known, encrypted_password=hashed, updated_at=utc_now()
            ):
                raise InvalidCredentials("The current password is not right")
            await self._links.revoke(connection, user_id, "recovery_token")
            await self._sessions.end(connection, user_id, keep=caller.session_id)

    async def forgot_password(self, email: str) -> None:
        # The look-up is made for everybody, so that a lost database is told.
        await self._row_by_email(email)
        self._correspondence.send_reset_later(email)

    async def reset_password(self, token: str, new: str) -> None:
        check_strength(new, self._settings.password_min_length)
        async with self._database.read() as connection:
            # Looked up first, so that guesses cost no hash.
            if not await self._links.is_good(connection, token, "recovery_token"):
                raise InvalidLink
        hashed = await self._passwords.hash(new)
        async with self._database.write() as connection:
            user_id = await self._links.redeem(connection, token, "recovery_token")
            if user_id is not None:
                await self._set_password(connection, user_id, hashed)
                # Whoever holds the letter has shown that the address is theirs.
                await self._rows.confirm_email(connection, user_id)
        if user_id is None:
            raise InvalidLink

    async def verify_email(self, token: str) -> Account:
        account = None
        async with self._database.write() as connection:
            user_id = await self._links.redeem(connection, token, "confirmation_token")
            if user_id is not None:
                await self._rows.confirm_email(connection, user_id)
                account = account_of(await self._rows.get(connection, user_id))
        if account is None:
            raise InvalidLink
        return account

    async def resend_verification(self, email: str) -> None:
        await self._row_by_email(email)
        self._correspondence.send_confirmation_later(email)

    # For the service

    async def create(
        self,
        email: str,
        *,
        password: str | None = None,
        password_hash: str | None = None,
        id: UUID | None = None,
        email_confirmed: bool = True,
        user_metadata: Claims = NO_CLAIMS,
        app_metadata: Claims = NO_CLAIMS,
    ) -> Account:
        if password is not None and password_hash is not None:
            raise InvalidRequest("Give a password or a password hash, not both")
        if password is not None:
            check_strength(password, self._settings.password_min_length)
            password_hash = await self._passwords.hash(password)
        elif password_hash is not None:
            check_hash(password_hash)
        async with self._database.write() as connection:
            return await self._rows.insert(
                connection,
                id=id,
                email=email.lower(),
                password_hash=password_hash,
                confirmed=email_confirmed,
                user_metadata=user_metadata,
                app_metadata=app_metadata,
            )

    async def get(self, id: UUID) -> Account | None:
        async with self._database.read() as connection:
            row = await self._rows.find(connection, id)
        return account_of(row) if row else None

    async def get_by_email(self, email: str) -> Account | None:
        row = await self._row_by_email(email)
        return account_of(row) if row else None

    async def list(self, *, cursor: str | None = None, limit: int = 100) -> Page[Account]:
        users = self._users
        statement = (
            select(users)
            .where(users.c.deleted_at.is_(None))
            .order_by(users.c.created_at.desc(), users.c.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            created_at, id = self._cursors.read("accounts", cursor)
            statement = statement.where(
                tuple_(users.c.created_at, users.c.id)
                < tuple_(datetime.fromisoformat(created_at), UUID(id))
            )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        items = [account_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        last = items[-1]
        position = [last.created_at.isoformat(), str(last.id)]
        return Page(items, self._cursors.write("accounts", position))

    async def update(
        self,
        id: UUID,
        *,
        email: str | None = None,
        password: str | None = None,
        email_confirmed: bool | None = None,
        user_metadata: Claims | None = None,
        app_metadata: Claims | None = None,
    ) -> Account:
        hashed = None
        if password is not None:
            check_strength(password, self._settings.password_min_length)
            hashed = await self._passwords.hash(password)
        async with self._database.write() as connection:
            row = await self._rows.get(connection, id, lock=True)
            values: dict[str, Any] = {}
            if email is not None:
                values["email"] = email.lower()
            if email_confirmed is not None:
                known = row.email_confirmed_at or utc_now()
                values["email_confirmed_at"] = known if email_confirmed else None
            if user_metadata is not None:
                values["raw_user_meta_data"] = merged(row.raw_user_meta_data, user_metadata)
            if app_metadata is not None:
                values["raw_app_meta_data"] = merged(row.raw_app_meta_data, app_metadata)
            await self._rows.change(connection, id, **values)
            if hashed is not None:
                await self._set_password(connection, id, hashed)
            account = account_of(await self._rows.get(connection, id))
            if account.email != row.email:
                await self._links.revoke(connection, id, "confirmation_token", "recovery_token")
            if account.app_metadata.get("role") != (row.raw_app_meta_data or {}).get("role"):
                await self._sessions.end(connection, id)
            return account

    async def ban(self, id: UUID, duration: timedelta | None) -> Account:
        async with self._database.write() as connection:
            await self._rows.get(connection, id, lock=True)
            until = None if duration is None else utc_now() + duration
            await self._rows.change(connection, id, banned_until=until)
            if until is not None:
                await self._sessions.end(connection, id)
            return account_of(await self._rows.get(connection, id))

    async def delete(self, id: UUID) -> bool:
        async with self._database.write() as connection:
            deleted = await connection.execute(delete(self._users).where(self._users.c.id == id))
            return deleted.rowcount > 0

    async def close(self) -> None:
        """Stop the password workers."""
        self._passwords.close()

    # Within

    async def _row_by_email(self, email: str) -> Row[Any] | None:
        async with self._database.read() as connection:
            return await self._rows.find_by_email(connection, email)

    async def _set_password(self, connection: AsyncConnection, id: UUID, hashed: str) -> None:
        await self._rows.change(connection, id, encrypted_password=hashed)
        await self._links.revoke(connection, id, "recovery_token")
        await self._sessions.end(connection, id)

    async def _sign_up_again(self, email: str, hashed: str, user_metadata: Claims) -> Account:
        """What a new account would look like, at what it would cost, for an address that is taken
        where the answer must not tell.

        Until the address is confirmed, the last sign-up counts: an earlier one, by somebody who
        may not own the address, must not leave its password behind.
        """
        async with self._database.write() as connection:
            row = await self._rows.find_by_email(connection, email, lock=True)
            if row is not None and row.email_confirmed_at is None:
                known = {**(row.raw_user_meta_data or {}), "name": None}
                await self._rows.change(
                    connection, row.id, raw_user_meta_data=merged(known, user_metadata)
                )
                await self._set_password(connection, row.id, hashed)
                await self._links.revoke(connection, row.id, "confirmation_token")
            elif row is not None:
                await self._rows.touch(connection, row.id)
        return imagined_account(email, user_metadata)


def _user_id(caller: Caller) -> UUID:
    if caller.user_id is None:
        raise Unauthenticated
    return caller.user_id
