"""Accounts on one's own database: the contract of `backend.Accounts` over the account engine."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from amphibase.accounts.engine import AccountEngine, is_banned
from amphibase.accounts.issuer import TokenIssuer
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.mail.account_emails import AccountEmails
from amphibase.accounts.mail.mailer import build_mailer, sender_address
from amphibase.accounts.mail.templates import EmailTemplates
from amphibase.accounts.one_time_tokens import OneTimeTokens
from amphibase.accounts.passwords import check_hash, check_strength
from amphibase.accounts.sessions import RefreshRejection, Sessions
from amphibase.accounts.sign_up import SignUpRequest, SignUps
from amphibase.accounts.sign_up_policy import SignUpPolicy
from amphibase.accounts.token_check import TokenCheck
from amphibase.accounts.users import EMAIL_PROVIDER, account_of, merged, sanitized_account
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
    InvalidCredentials,
    InvalidLink,
    InvalidRefreshToken,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    UserBanned,
)
from amphibase.models import utc_now, uuid7
from amphibase.records.cursors import Cursors
from amphibase.records.ordering import ordering
from amphibase.schema.tables import tables
from amphibase.settings import Settings

INVITATION_LIFETIME = timedelta(days=7)


class SqlAccounts:
    """Sign-up, sign-in, sessions and passwords on one's own database.

    Args:
        executor: runs the token check, which every authenticated request waits for.
        background: where emails are sent, after the response.

    Attributes:
        tokens: the parts of `authenticate`, for callers who read more in the same round trip.
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
        self._cursors = Cursors(keys.derive("cursor"))
        table_set = tables(database.dialect)
        self._table = table_set.users
        self._issuer = TokenIssuer(keys, settings)
        self._sessions = Sessions(
            table_set,
            keys.derive("refresh token"),
            timedelta(days=settings.refresh_token_days),
            timedelta(seconds=settings.refresh_reuse_seconds),
        )
        self._one_time_tokens = OneTimeTokens(table_set)
        self._engine = AccountEngine(
            database,
            table_set,
            self._sessions,
            self._one_time_tokens,
            confirms_emails=settings.email_confirmation == "required",
        )
        self._users = self._engine.users
        self._passwords = self._engine.passwords
        self._sign_ups = SignUps(self._engine)
        self._emails = AccountEmails(
            self._engine,
            self._sign_ups,
            EmailTemplates(settings.public_url, sender_address(settings), settings.routes_prefix),
            build_mailer(settings),
            background,
        )
        self._invitation_tokens = OneTimeTokens(table_set, INVITATION_LIFETIME)
        self._sign_up_policy = SignUpPolicy(settings.sign_up, settings.sign_up_domains)
        self.tokens = TokenCheck(table_set, keys)

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
            user_metadata={**user_metadata, **({"name": name} if name else {})},
            ip=device.ip,
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
            now = utc_now()
            await self._users.change(connection, user.id, last_sign_in_at=now)
            session = await self._sessions.open(connection, user.id, device, "password")
        account = replace(account_of(user), last_sign_in_at=now)
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
        async with self._database.read() as connection:
            current_hash = (await self._users.get(connection, user_id)).encrypted_password
        # A user with a confirmed address and no password sets the first one.
        if current_hash and not await self._passwords.verify(current or "", current_hash):
            raise InvalidCredentials("The current password is wrong")
        password_hash = await self._passwords.hash(new)
        async with self._database.write() as connection:
            user = await self._users.get(connection, user_id, lock=True)
            if user.encrypted_password != current_hash:
                raise InvalidCredentials("The current password is wrong")
            await self._engine.set_password(
                connection, user, password_hash, keep_session=caller.session_id
            )

    async def forgot_password(self, email: str) -> None:
        # Read for everybody, so that a lost database is an error.
        await self.get_by_email(email)
        self._emails.send_reset(email)

    async def reset_password(self, token: str, new: str) -> None:
        check_strength(new, self._settings.password_min_length)
        async with self._database.read() as connection:
            # Read first, so that guesses cost no hash.
            if not await self._one_time_tokens.is_valid(connection, token, "recovery_token"):
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
            if not proven.password_required:
                return SignedIn(account, None)
            session = await self._sessions.open(connection, account.id, device, "otp")
        return SignedIn(account, self._issuer.tokens(account, session), password_required=True)

    async def accept_invitation(
        self, token: str, password: str, *, name: str = "", device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        self._sign_up_policy.check_invitation()
        check_strength(password, self._settings.password_min_length)
        tokens = self._invitation_tokens
        async with self._database.read() as connection:
            # Read first, so that guesses cost no hash.
            if not await tokens.is_valid(connection, token, "confirmation_token"):
                raise InvalidLink
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
            metadata = merged(user.raw_user_meta_data, {"name": name} if name else {})
            await self._users.change(
                connection, user_id, raw_user_meta_data=metadata, last_sign_in_at=utc_now()
            )
            session = await self._sessions.open(connection, user_id, device, "otp")
            account = account_of(await self._users.get(connection, user_id))
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
            await self._users.lock_address(connection, email)
            row = await self._users.insert(
                connection,
                identity={},
                id=id or uuid7(),
                email=email.lower(),
                encrypted_password=password_hash or "",
                email_confirmed_at=utc_now() if email_confirmed else None,
                raw_user_meta_data=dict(user_metadata),
                raw_app_meta_data={**EMAIL_PROVIDER, **app_metadata},
            )
            if email_confirmed:
                await self._engine.revoke_outstanding(connection, row)
            return account_of(await self._users.get(connection, row.id))

    async def invite(
        self, email: str, *, user_metadata: Claims = NO_CLAIMS, app_metadata: Claims = NO_CLAIMS
    ) -> Account:
        self._sign_up_policy.check_invitation()
        async with self._database.write() as connection:
            row = await self._sign_ups.add_by_admin(connection, email.lower(), user_metadata)
            await self._users.change(
                connection,
                row.id,
                raw_app_meta_data=merged(row.raw_app_meta_data, app_metadata),
                invited_at=utc_now(),
                confirmation_sent_at=utc_now(),
            )
            token = await self._invitation_tokens.issue(
                connection, row.id, "confirmation_token", row.email
            )
            account = account_of(await self._users.get(connection, row.id))
        self._emails.send_invitation(account.email, token)
        return account

    async def get(self, id: UUID) -> Account | None:
        async with self._database.read() as connection:
            row = await self._users.find(connection, id)
        return account_of(row) if row else None

    async def get_by_email(self, email: str) -> Account | None:
        async with self._database.read() as connection:
            row = await self._users.find_by_email(connection, email)
        return account_of(row) if row else None

    async def list(self, *, cursor: str | None = None, limit: int = 100) -> Page[Account]:
        users = self._table
        order = ordering([], [users.c.created_at, users.c.id], [], self._database.dialect)
        statement = (
            select(users, *(term.compared for term in order.terms))
            .where(users.c.deleted_at.is_(None))
            .order_by(*order.clauses)
            .limit(limit + 1)
        )
        if cursor is not None:
            statement = statement.where(order.after(self._cursors.read("accounts", cursor)))
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        items = [account_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        position = order.position(rows[limit - 1][-len(order.terms) :])
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
        password_hash = None
        if password is not None:
            check_strength(password, self._settings.password_min_length)
            password_hash = await self._passwords.hash(password)
        async with self._database.write() as connection:
            row = await self._users.get(connection, id, lock=True)
            role = (row.raw_app_meta_data or {}).get("role")
            if email is not None and email.lower() != row.email:
                await self._engine.change_email(connection, row, email.lower(), is_proven=False)
                row = await self._users.get(connection, id)
            values: dict[str, Any] = {}
            if user_metadata is not None:
                values["raw_user_meta_data"] = merged(row.raw_user_meta_data, user_metadata)
            if app_metadata is not None:
                values["raw_app_meta_data"] = merged(row.raw_app_meta_data, app_metadata)
            await self._users.change(connection, id, **values)
            if email_confirmed is not None:
                await self._engine.set_confirmed(connection, row, email_confirmed)
            if password_hash is not None:
                await self._engine.set_password(connection, row, password_hash)
            account = account_of(await self._users.get(connection, id))
            if account.app_metadata.get("role") != role:
                await self._sessions.end(connection, id)
            return account

    async def ban(self, id: UUID, duration: timedelta | None) -> Account:
        async with self._database.write() as connection:
            row = await self._users.get(connection, id, lock=True)
            until = None if duration is None else utc_now() + duration
            await self._engine.ban(connection, row, until)
            if until is not None:
                await self._sessions.end(connection, id)
            return account_of(await self._users.get(connection, id))

    async def delete(self, id: UUID) -> bool:
        async with self._database.write() as connection:
            return await self._engine.delete(connection, id)

    async def close(self) -> None:
        """Stop the password workers."""
        self._passwords.close()


def _user_id(caller: Caller) -> UUID:
    if caller.user_id is None:
        raise Unauthenticated
    return caller.user_id
