"""Accounts in a Supabase project: the contract of `backend.Accounts` over Supabase Auth."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from amphibase.accounts.passwords import MAX_PASSWORD_BYTES, check_hash, check_strength
from amphibase.accounts.sign_up_policy import SignUpPolicy
from amphibase.backend import (
    NO_CLAIMS,
    SERVICE,
    UNKNOWN_DEVICE,
    Account,
    Caller,
    Capabilities,
    Claims,
    Device,
    Page,
    SignedIn,
    SignOutScope,
    UserSession,
)
from amphibase.background import Background
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    EmailAlreadyRegistered,
    InvalidCredentials,
    InvalidRefreshToken,
    InvalidRequest,
    NotFound,
    NotSupported,
    SessionEnded,
    Unauthenticated,
    Unavailable,
    WeakPassword,
)
from amphibase.models import uuid7
from amphibase.records.cursors import Cursors
from amphibase.settings.application import Settings
from amphibase.supabase.auth_api import USERS_PATH, AuthApi, caller_of, is_text
from amphibase.supabase.auth_database import AuthDatabase
from amphibase.supabase.auth_responses import read_account, read_signed_in
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json
from amphibase.supabase.identities import SupabaseIdentities
from amphibase.supabase.token_check import ProjectTokenCheck

MAX_NEW_PASSWORD_BYTES = 72
"""Auth takes no longer ones, since bcrypt would not read on."""

MAX_PER_PAGE = 1000


class SupabaseAccounts:
    """Sign-up, sign-in, sessions and passwords in a Supabase project.

    The project's own settings decide beside those here: whether addresses are confirmed, how strong
    a password has to be, how long tokens live, and what its emails say.

    Args:
        token_check: verifies access tokens.
        background: where requests that send emails run, after the response.
        database: of the project, where `SUPABASE_DB_URL` names it.
    """

    def __init__(
        self,
        client: SupabaseClient,
        token_check: ProjectTokenCheck,
        cursors: Cursors,
        background: Background,
        capabilities: Capabilities,
        settings: Settings,
        database: AuthDatabase | None = None,
    ) -> None:
        self._database = database
        self._auth = AuthApi(client, background)
        self.identities = SupabaseIdentities(self._auth, client.project.url, settings)
        self._token_check = token_check
        self._cursors = cursors
        self._capabilities = capabilities
        self._min_length = settings.password_min_length
        self._sign_up_policy = SignUpPolicy(settings.sign_up, settings.sign_up_domains)

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
        self._check_new_password(password)
        body = {"email": email.lower(), "password": password}
        data = {**user_metadata, **({"name": name} if name else {})}
        response = await self._auth.send("POST", "/signup", {**body, "data": data}, device=device)
        return read_signed_in(response)

    async def sign_in(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        if not is_text(password) or len(password.encode()) > MAX_PASSWORD_BYTES:
            raise InvalidCredentials
        body = {"email": email.lower(), "password": password}
        try:
            response = await self._auth.send(
                "POST", "/token", body, params={"grant_type": "password"}, device=device
            )
        except InvalidRequest:  # what can be no address, or no password
            raise InvalidCredentials from None
        return read_signed_in(response)

    async def refresh(self, refresh_token: str) -> SignedIn:
        if not is_text(refresh_token):
            raise InvalidRefreshToken
        body = {"refresh_token": refresh_token}
        try:
            # A repeated request gets the same tokens: Auth allows for a lost response.
            response = await self._auth.send(
                "POST", "/token", body, params={"grant_type": "refresh_token"}, idempotent=True
            )
        except (InvalidRequest, SessionEnded):
            raise InvalidRefreshToken from None
        return read_signed_in(response)

    async def authenticate(self, access_token: str) -> Caller:
        return await self._token_check.admit(access_token)

    async def sign_out(self, caller: Caller, scope: SignOutScope = "local") -> None:
        _user_id(caller)
        await self._auth.sign_out(caller, scope)

    async def sessions(self, caller: Caller) -> Sequence[UserSession]:
        user_id = _user_id(caller)
        return await self._sessions().sessions(user_id)

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        user_id = _user_id(caller)
        if not await self._sessions().end(user_id, session_id):
            raise NotFound("You have no such session")

    # Passwords and addresses

    async def change_password(self, caller: Caller, current: str | None, new: str) -> None:
        _user_id(caller)
        self._check_new_password(new)
        await self._check_current_password(caller, current)
        # Auth ends the other sessions with it.
        await self._auth.send("PUT", "/user", {"password": new}, caller=caller)

    async def change_email(self, caller: Caller, current_password: str | None, new: str) -> None:
        _user_id(caller)
        self._sign_up_policy.check_domain(new)
        account = await self._check_current_password(caller, current_password)
        if account.email == new.lower():
            raise InvalidRequest("This is the address of your account already")
        # Whether another account has the address is for its owner alone to know.
        with suppress(EmailAlreadyRegistered):
            await self._auth.send("PUT", "/user", {"email": new.lower()}, caller=caller)

    async def confirm_email_change(self, caller: Caller, token: str) -> Account | None:
        confirmed = await self._auth.redeem_email_change(token)
        if confirmed is None:
            return None
        await self._auth.end(confirmed)
        return confirmed.account

    async def _check_current_password(self, caller: Caller, password: str | None) -> Account:
        """Return the caller's account, whose password is right; it may have none."""
        response = await self._auth.send("GET", "/user", caller=caller)
        account = read_account(response)
        if password is not None or _has_password(read_json(response)):
            try:
                proof = await self.sign_in(account.email, password or "")
            except InvalidCredentials:
                raise InvalidCredentials("The current password is wrong") from None
            await self._auth.end(proof)
        return account

    async def forgot_password(self, email: str) -> None:
        await self._auth.send_later("a reset email", "/recover", {"email": email.lower()})

    async def reset_password(self, token: str, new: str) -> None:
        self._check_new_password(new)
        proof = await self._auth.redeem("recovery", token)
        try:
            # As the service: Auth then ends every session, that of the link too.
            await self._auth.change(proof.account.id, {"password": new})
        except AmphibaseError:  # such as by the project's own rules for passwords
            await self._auth.end(proof)
            raise

    async def verify_email(
        self, token: str, *, password: str | None = None, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        verified = await self._auth.redeem("signup", token, device)
        await self._auth.end(verified)
        return SignedIn(verified.account, None)

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
        self._check_new_password(password)
        invited = await self._auth.redeem("invite", token, device)
        body: dict[str, Any] = {"password": password}
        if data := {**user_metadata, **({"name": name} if name else {})}:
            body["data"] = data
        try:
            response = await self._auth.send("PUT", "/user", body, caller=caller_of(invited))
        except AmphibaseError:
            await self._auth.end(invited)
            raise
        return SignedIn(read_account(response), invited.tokens)

    async def resend_verification(self, email: str, *, device: Device = UNKNOWN_DEVICE) -> None:
        body = {"type": "signup", "email": email.lower()}
        await self._auth.send_later("a confirmation email", "/resend", body, device)

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
        body: dict[str, Any] = {
            "id": str(id or uuid7()),
            "email": email.lower(),
            "email_confirm": email_confirmed,
            "user_metadata": dict(user_metadata),
            "app_metadata": dict(app_metadata),
        }
        if password is not None:
            self._check_new_password(password)
            body["password"] = password
        elif password_hash is not None:
            check_hash(password_hash)
            body["password_hash"] = password_hash
        try:
            return read_account(await self._auth.send("POST", USERS_PATH, body, caller=SERVICE))
        except Unavailable:
            # The response may have been lost, or the id be taken, for which Auth has no code.
            created = await self.get(UUID(body["id"]))
            if created is None:
                raise
            if created.email != body["email"]:
                raise Conflict("A user with this id exists already", columns=["id"]) from None
            return created

    async def invite(
        self, email: str, *, user_metadata: Claims = NO_CLAIMS, app_metadata: Claims = NO_CLAIMS
    ) -> Account:
        self._sign_up_policy.check_invitation()
        body = {"email": email.lower(), "data": dict(user_metadata)}
        account = read_account(await self._auth.send("POST", "/invite", body, caller=SERVICE))
        if not app_metadata:
            return account
        return await self._auth.change(account.id, {"app_metadata": dict(app_metadata)})

    async def get(self, id: UUID) -> Account | None:
        return await self._auth.get(id)

    async def get_by_email(self, email: str) -> Account | None:
        email = email.lower()
        page = 1
        while True:
            # `filter` finds the address in others too, so the right one is looked for.
            accounts, is_last = await self._auth.users(page, MAX_PER_PAGE, filter=email)
            for account in accounts:
                if account.email == email:
                    return account
            if is_last:
                return None
            page += 1

    async def list(self, *, cursor: str | None = None, limit: int = 100) -> Page[Account]:
        seen, last_id, last_time = 0, "", None
        if cursor is not None:
            seen, last_id, text = self._cursors.read("accounts", cursor)
            last_time = datetime.fromisoformat(text)
        items: list[Account] = []
        page = seen // limit + 1
        while True:
            # Auth counts pages: accounts that came meanwhile have moved some that were listed.
            accounts, is_last = await self._auth.users(page, limit)
            items += [
                account
                for account in accounts
                if last_time is None
                or (account.created_at <= last_time and str(account.id) != last_id)
            ]
            page += 1
            if is_last or len(items) >= limit:
                break
        following = items[limit:]
        items = items[:limit]
        if (is_last and not following) or not items:
            return Page(items, None)
        position = [seen + len(items), str(items[-1].id), items[-1].created_at.isoformat()]
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
        body: dict[str, Any] = {}
        if email is not None:
            body["email"] = email.lower()
        if password is not None:
            self._check_new_password(password)
            body["password"] = password
        if email_confirmed is False:
            raise NotSupported("Supabase Auth cannot take back the confirmation of an address")
        if email_confirmed:
            body["email_confirm"] = True
        if user_metadata is not None:
            body["user_metadata"] = dict(user_metadata)
        if app_metadata is not None:
            body["app_metadata"] = dict(app_metadata)
            account = await self._auth.existing(id)
            role = account.app_metadata.get("role")
            if app_metadata.get("role", role) != role:
                await self._change(id, body)
                await self._end_all(account)
                return await self._auth.existing(id)
        return await self._change(id, body)

    async def _change(self, id: UUID, body: dict[str, Any]) -> Account:
        try:
            return await self._auth.change(id, body)
        except Unavailable:
            # For an address that is another's Auth has no code (500, "Error updating user").
            owner = await self.get_by_email(body["email"]) if "email" in body else None
            if owner is None or owner.id == id:
                raise
            raise EmailAlreadyRegistered from None

    async def ban(self, id: UUID, duration: timedelta | None) -> Account:
        if duration is None:
            return await self._auth.change(id, {"ban_duration": "none"})
        account = await self._auth.existing(id)
        await self._end_all(account)
        return await self._auth.change(id, {"ban_duration": f"{duration.total_seconds():.3f}s"})

    async def delete(self, id: UUID) -> bool:
        try:
            await self._auth.send("DELETE", f"{USERS_PATH}/{id}", {}, caller=SERVICE)
        except NotFound:
            return False
        return True

    def _sessions(self) -> AuthDatabase:
        """Return the database that knows sessions. Raises NotSupported."""
        self._capabilities.require("session_list")
        assert self._database is not None
        return self._database

    async def _end_all(self, account: Account) -> None:
        """End every session of a user."""
        if self._database is not None:
            await self._database.end(account.id)
        else:
            await self._auth.end_all(account)

    def _check_new_password(self, password: str) -> None:
        check_strength(password, self._min_length)
        if not is_text(password):
            raise WeakPassword("The password holds half of a character")
        if len(password.encode()) > MAX_NEW_PASSWORD_BYTES:
            raise WeakPassword(f"The password must have at most {MAX_NEW_PASSWORD_BYTES} bytes")


def _user_id(caller: Caller) -> UUID:
    if caller.user_id is None:
        raise Unauthenticated
    return caller.user_id


def _has_password(user: dict[str, Any]) -> bool:
    """Return whether a user may have a password: Auth says with whom they sign in, not how."""
    identities = user.get("identities") or []
    return any(identity.get("provider") == "email" for identity in identities)
