"""Accounts on one's own database: the contract of `backend.Accounts` over the account engine."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from amphibase.accounts.issuer import TokenIssuer
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.one_time_tokens import EMAIL_CHANGE
from amphibase.accounts.open_session import OpenSession, RefreshRejection
from amphibase.accounts.passwords import check_strength
from amphibase.accounts.previous_passwords import PreviousProject
from amphibase.accounts.sign_up import SignUpRequest
from amphibase.accounts.token_check import TokenCheck
from amphibase.accounts.user_states import is_banned, is_unproven_sign_up
from amphibase.accounts.users import account_of, merged, sanitized_account
from amphibase.backend import (
    NO_CLAIMS,
    SERVICE,
    UNKNOWN_DEVICE,
    Account,
    AccountHooks,
    Caller,
    Claims,
    Device,
    SignedIn,
    SignOutScope,
    SignUpAttempt,
    Transaction,
    UserSession,
)
from amphibase.background import Background
from amphibase.database.engine import Database
from amphibase.database.executor import Executor
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import (
    InvalidCredentials,
    InvalidLink,
    InvalidRefreshToken,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    UserBanned,
)
from amphibase.models import utc_now, uuid7
from amphibase.settings.application import Settings
from amphibase.sql.account_administration import SqlAccountAdministration
from amphibase.sql.identities import SqlIdentities

OpenTransaction = Callable[[SqlConnection], AbstractAsyncContextManager[Transaction]]


class SqlAccounts(SqlAccountAdministration):
    """Sign-up, sign-in, sessions and passwords on one's own database.

    Args:
        executor: runs the token check, which every authenticated request waits for.
        background: where emails are sent, after the response.
        previous: the project that accounts without a password have come from.

    Attributes:
        tokens: the parts of `authenticate`, for callers who read more in the same round trip.
        identities: sign-in through third parties.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        keys: KeyRing,
        background: Background,
        settings: Settings,
        previous: PreviousProject | None = None,
    ) -> None:
        super().__init__(database, keys, background, settings, self._added_claims, previous)
        self._executor = executor
        self._issuer = TokenIssuer(keys, settings)
        self._hooks: AccountHooks | None = None
        self._transaction: OpenTransaction | None = None
        self.tokens = TokenCheck(self._tables, keys)
        self.identities = SqlIdentities(
            self._engine,
            self._tables,
            keys,
            self._issuer,
            self._sign_up_policy,
            settings,
            self._before_sign_up,
            self._after_sign_up,
        )

    def use_hooks(self, hooks: AccountHooks, transaction: OpenTransaction) -> None:
        """Call an application's hooks from now on.

        Args:
            transaction: opens a transaction of the records on a connection of the accounts.
        """
        self._hooks, self._transaction = hooks, transaction

    async def _before_sign_up(self, attempt: SignUpAttempt) -> None:
        if self._hooks is not None:
            await self._hooks.before_sign_up(attempt)

    async def _after_sign_up(self, connection: SqlConnection, account: Account) -> None:
        if self._hooks is not None and self._transaction is not None:
            async with self._transaction(connection) as transaction:
                await self._hooks.after_sign_up(account, transaction)

    async def _added_claims(
        self, connection: SqlConnection, user: Row[Any], session: OpenSession
    ) -> Claims:
        if self._hooks is None or self._transaction is None or not self._hooks.adds_claims:
            return NO_CLAIMS
        account = account_of(user)
        async with self._transaction(connection) as transaction:
            claims = self._issuer.claims(account, session)
            return await self._hooks.before_token(account, claims, transaction)

    # Signing up, in and out

    async def sign_up(
        self,
        email: str,
        password: str,
        *,
        name: str = "",
        user_metadata: Claims = NO_CLAIMS,
        device: Device = UNKNOWN_DEVICE,
    ) -> SignedIn:
        self._sign_up_policy.check(email)
        check_strength(password, self._settings.password_min_length)
        request = SignUpRequest(
            email=email.lower(),
            password=password,
            user_metadata=_metadata(name, user_metadata),
            ip=device.ip,
        )
        await self._before_sign_up(
            SignUpAttempt(
                email=request.email,
                user_metadata=request.user_metadata,
                invited=False,
                device=device,
            )
        )
        if self._settings.email_confirmation == "off":
            return await self._sign_up_confirmed(request, password, device)
        result = await self._sign_ups.add_pending(request)
        self._emails.send_sign_up(request.email, result)
        id = result.user_id or uuid7()
        return SignedIn(sanitized_account(id, request.email, request.user_metadata), None)

    async def _sign_up_confirmed(
        self, request: SignUpRequest, password: str, device: Device
    ) -> SignedIn:
        password_hash = await self._passwords.hash(password)
        async with self._database.write() as connection:
            user = await self._sign_ups.add_confirmed(connection, request, password_hash)
            await self._users.change(connection, user.id, last_sign_in_at=utc_now())
            user = await self._users.get(connection, user.id)
            account = account_of(user)
            await self._after_sign_up(connection, account)
            session = await self._engine.open_session(connection, user, device, "password")
        return SignedIn(account, self._issuer.tokens(account, session))

    async def sign_in(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        credentials = await self._engine.credentials(email)
        checked = await self._engine.check_password(credentials, password)
        async with self._database.write() as connection:
            user, session = await self._engine.sign_in(connection, checked, device)
        account = account_of(user)
        return SignedIn(account, self._issuer.tokens(account, session))

    async def refresh(self, refresh_token: str) -> SignedIn:
        result = await self._engine.refresh(refresh_token)
        if isinstance(result, RefreshRejection):
            raise InvalidRefreshToken(result.value)
        user, session = result
        account = account_of(user)
        return SignedIn(account, self._issuer.tokens(account, session))

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

    async def change_password(self, caller: Caller, current: str | None, new: str) -> None:
        user_id = _user_id(caller)
        check_strength(new, self._settings.password_min_length)
        current_hash = await self._check_current_password(user_id, current)
        password_hash = await self._passwords.hash(new)
        async with self._database.write() as connection:
            user = await self._lock_user(connection, user_id, current_hash)
            await self._engine.set_password(
                connection, user, password_hash, keep_session=caller.session_id
            )

    async def change_email(self, caller: Caller, current_password: str | None, new: str) -> None:
        user_id, new = _user_id(caller), new.lower()
        self._sign_up_policy.check_domain(new)
        current_hash = await self._check_current_password(user_id, current_password)
        async with self._database.write() as connection:
            user = await self._lock_user(connection, user_id, current_hash)
            if (user.email or "").lower() == new:
                raise InvalidRequest("This is the address of your account already")
            other = await self._users.find_by_email(connection, new)
            tokens = await self._email_changes.begin(connection, user, new)
        is_free = other is None or is_unproven_sign_up(other)
        self._emails.send_email_change(user.email or "", new, tokens, is_free=is_free)

    async def confirm_email_change(self, caller: Caller, token: str) -> Account | None:
        async with self._database.write() as connection:
            redeemed = await self._one_time_tokens.redeem_any(connection, token, *EMAIL_CHANGE)
            if redeemed is None:
                raise InvalidLink
            user_id, kind = redeemed
            user = await self._users.get(connection, user_id, lock=True)
            if is_banned(user):
                raise UserBanned
            is_enough = kind == "email_change_token_new" and caller.user_id == user_id
            needs_other = bool(user.email) and not is_enough
            if not await self._email_changes.confirm(connection, user, needs_other=needs_other):
                return None
            return account_of(await self._users.get(connection, user_id))

    async def _check_current_password(self, user_id: UUID, password: str | None) -> str | None:
        """Return the hash of the password, which is right; an account may have none."""
        async with self._database.read() as connection:
            password_hash: str | None = (
                await self._users.get(connection, user_id)
            ).encrypted_password
        if password_hash and not await self._passwords.verify(password or "", password_hash):
            raise InvalidCredentials("The current password is wrong")
        return password_hash

    async def _lock_user(
        self, connection: SqlConnection, user_id: UUID, password_hash: str | None
    ) -> Row[Any]:
        """Lock a user whose password has been checked, and has not been changed since."""
        user = await self._users.get(connection, user_id, lock=True)
        if user.encrypted_password != password_hash:
            raise InvalidCredentials("The current password is wrong")
        return user

    async def forgot_password(self, email: str) -> None:
        # Read for everybody, so that a lost database is an error.
        await self.get_by_email(email)
        self._emails.send_reset(email)

    async def reset_password(self, token: str, new: str) -> None:
        check_strength(new, self._settings.password_min_length)
        async with self._database.read() as connection:
            # Read first, so that guesses cost no hash.
            if not await self._one_time_tokens.user_of(connection, token, "recovery_token"):
                raise InvalidLink
        password_hash = await self._passwords.hash(new)
        async with self._database.write() as connection:
            user_id = await self._one_time_tokens.redeem(connection, token, "recovery_token")
            if user_id is None:
                raise InvalidLink
            user = await self._users.get(connection, user_id, lock=True)
            user = await self._engine.prove_email(connection, user)
            await self._engine.set_password(connection, user, password_hash)

    async def verify_email(
        self, token: str, *, password: str | None = None, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        keeps_password = await self._knows_password(token, password)
        async with self._database.write() as connection:
            proven = await self._sign_ups.redeem(connection, token, keeps_password=keeps_password)
            if proven is None:
                raise InvalidLink
            account = account_of(proven.user)
            if proven.is_new:
                await self._after_sign_up(connection, account)
            if not proven.password_required:
                return SignedIn(account, None)
            session = await self._engine.open_session(connection, proven.user, device, "otp")
        return SignedIn(account, self._issuer.tokens(account, session), password_required=True)

    async def accept_invitation(
        self,
        token: str,
        password: str,
        *,
        name: str = "",
        user_metadata: Claims = NO_CLAIMS,
        device: Device = UNKNOWN_DEVICE,
    ) -> SignedIn:
        self._sign_up_policy.check_invitation()
        check_strength(password, self._settings.password_min_length)
        tokens = self._invitation_tokens
        async with self._database.read() as connection:
            # Read first, so that guesses cost no hash.
            user_id = await tokens.user_of(connection, token, "confirmation_token")
            if user_id is None:
                raise InvalidLink
            user = await self._users.get(connection, user_id)
        changes = _metadata(name, user_metadata)
        await self._before_sign_up(
            SignUpAttempt(
                email=user.email,
                user_metadata=merged(user.raw_user_meta_data, changes),
                invited=True,
                device=device,
            )
        )
        password_hash = await self._passwords.hash(password)
        async with self._database.write() as connection:
            user_id = await tokens.redeem(connection, token, "confirmation_token")
            if user_id is None:
                raise InvalidLink
            user = await self._users.get(connection, user_id, lock=True)
            if is_banned(user):
                raise UserBanned
            user = await self._engine.prove_email(connection, user)
            await self._engine.set_password(connection, user, password_hash)
            metadata = merged(user.raw_user_meta_data, changes)
            await self._users.change(
                connection, user_id, raw_user_meta_data=metadata, last_sign_in_at=utc_now()
            )
            user = await self._users.get(connection, user_id)
            account = account_of(user)
            await self._after_sign_up(connection, account)
            session = await self._engine.open_session(connection, user, device, "otp")
        return SignedIn(account, self._issuer.tokens(account, session))

    async def _knows_password(self, token: str, password: str | None) -> bool:
        if not self._settings.confirmation_asks_password:
            return True
        sign_up = await self._sign_ups.find(token)
        if sign_up is None or password is None:
            return False
        return await self._passwords.verify(password, sign_up.encrypted_password)

    async def resend_verification(self, email: str, *, device: Device = UNKNOWN_DEVICE) -> None:
        await self.get_by_email(email)
        self._emails.send_confirmation(email, device.ip)


def _metadata(name: str, user_metadata: Claims) -> dict[str, Any]:
    return {**user_metadata, **({"name": name} if name else {})}


def _user_id(caller: Caller) -> UUID:
    if caller.user_id is None:
        raise Unauthenticated
    return caller.user_id
