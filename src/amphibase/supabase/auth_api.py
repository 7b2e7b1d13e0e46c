"""Calls to Supabase Auth: as whom they are sent, and what they respond with."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx

from amphibase.backend import (
    ANONYMOUS,
    SERVICE,
    UNKNOWN_DEVICE,
    Account,
    Caller,
    Device,
    SignedIn,
    SignOutScope,
)
from amphibase.background import Background
from amphibase.errors import (
    AmphibaseError,
    EmailAlreadyRegistered,
    InvalidLink,
    InvalidRequest,
    NotFound,
    SessionEnded,
    Unauthenticated,
    UserBanned,
)
from amphibase.redaction import redacted_logger
from amphibase.supabase.auth_responses import account_of, read_account, read_signed_in
from amphibase.supabase.client import Params, SupabaseClient
from amphibase.supabase.errors import EmailsTooFrequent, read_json

logger = redacted_logger("amphibase.supabase")

USERS_PATH = "/admin/users"


class AuthApi:
    """Calls to the Auth of one project.

    Args:
        background: where requests that send emails run, after the response.
    """

    def __init__(self, client: SupabaseClient, background: Background) -> None:
        self._client = client
        self._background = background

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        caller: Caller = ANONYMOUS,
        params: Params = (),
        device: Device = UNKNOWN_DEVICE,
        idempotent: bool = False,
    ) -> httpx.Response:
        """Send a request.

        Args:
            body: as JSON.
            device: of the user on whose behalf the application calls.
            idempotent: as of `SupabaseClient.request`.
        """
        headers = _device_headers(device)
        if device.ip and caller is ANONYMOUS and self._client.project.service_key.is_opaque:
            # Auth believes the address of a secret key alone, for its limits by address.
            caller = SERVICE
            headers["Sb-Forwarded-For"] = device.ip
        return await self._client.request(
            "auth",
            method,
            path,
            caller,
            params=params,
            headers=headers,
            json=body,
            idempotent=idempotent,
        )

    async def send_later(
        self, what: str, path: str, body: Any, device: Device = UNKNOWN_DEVICE
    ) -> None:
        """Send a request after the response, so that no time reveals whether an account exists.

        Raises:
            Unavailable: Auth cannot be reached.
        """
        await self._client.request("auth", "GET", "/health", ANONYMOUS)
        self._background.run(what, self._send_unnoticed(path, body, device))

    async def _send_unnoticed(self, path: str, body: Any, device: Device) -> None:
        try:
            await self.send("POST", path, body, device=device)
        except EmailsTooFrequent as error:
            logger.warning("Auth sent no email: %s", error)

    async def redeem(self, kind: str, token: str, device: Device = UNKNOWN_DEVICE) -> SignedIn:
        """Use up the token of an email; Auth opens a session with it."""
        return read_signed_in(await self._verify(kind, token, device))

    async def redeem_email_change(self, token: str) -> SignedIn | None:
        """Use up a token of a change of address; None where Auth awaits the other one."""
        response = await self._verify("email_change", token)
        return read_signed_in(response) if "access_token" in read_json(response) else None

    async def _verify(
        self, kind: str, token: str, device: Device = UNKNOWN_DEVICE
    ) -> httpx.Response:
        if not is_text(token):
            raise InvalidLink
        body = {"type": kind, "token_hash": token}
        try:
            return await self.send("POST", "/verify", body, device=device)
        except EmailAlreadyRegistered:
            raise
        except InvalidRequest:
            raise InvalidLink from None

    async def change(self, id: UUID, body: Any) -> Account:
        """Change a user as the service. Raises NotFound."""
        path = f"{USERS_PATH}/{id}"
        return read_account(await self.send("PUT", path, body, caller=SERVICE, idempotent=True))

    async def get(self, id: UUID) -> Account | None:
        """Return the user with that id; None for one that was deleted softly too."""
        try:
            response = await self.send("GET", f"{USERS_PATH}/{id}", caller=SERVICE)
        except NotFound:
            return None
        user = read_json(response)
        return None if user.get("deleted_at") else account_of(user)

    async def existing(self, id: UUID) -> Account:
        """Return the user with that id. Raises NotFound."""
        account = await self.get(id)
        if account is None:
            raise NotFound("There is no such user")
        return account

    async def users(
        self, page: int, per_page: int, **filters: str
    ) -> tuple[Sequence[Account], bool]:
        """Return a page of all users, and whether it is the last."""
        params = {"page": str(page), "per_page": str(per_page), **filters}
        response = await self.send("GET", USERS_PATH, caller=SERVICE, params=params)
        users = read_json(response)["users"]
        total = response.headers.get("x-total-count", "")
        is_last = page * per_page >= int(total) if total.isdecimal() else len(users) < per_page
        return [account_of(user) for user in users if not user.get("deleted_at")], is_last

    async def sign_out(self, caller: Caller, scope: SignOutScope = "local") -> None:
        """End a user's sessions; those that have ended already are no error."""
        try:
            await self.send(
                "POST", "/logout", caller=caller, params={"scope": scope}, idempotent=True
            )
        except (SessionEnded, NotFound):
            return

    async def end(self, signed_in: SignedIn) -> None:
        """End a session that nobody is going to use."""
        try:
            await self.sign_out(caller_of(signed_in))
        except AmphibaseError as error:
            logger.warning("A session was left open: %s", error)

    async def end_all(self, account: Account) -> None:
        """End every session of a user, as the user, since the service cannot."""
        with suppress(UserBanned):  # and so without a session that could go on
            try:
                await self.sign_out(Caller("authenticated", account.id), "global")
            except Unauthenticated:  # no secret to issue a token with
                if account.email_confirmed_at is None:
                    return
                body = {"type": "magiclink", "email": account.email}
                response = await self.send("POST", "/admin/generate_link", body, caller=SERVICE)
                signed_in = await self.redeem("magiclink", read_json(response)["hashed_token"])
                await self.sign_out(caller_of(signed_in), "global")


def caller_of(signed_in: SignedIn) -> Caller:
    assert signed_in.tokens is not None
    return Caller("authenticated", signed_in.account.id, token=signed_in.tokens.access_token)


def is_text(value: str) -> bool:
    """Return whether a string can be sent as JSON: no half of a surrogate pair, no NUL."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _device_headers(device: Device) -> dict[str, str]:
    """Return the headers by which Auth names the device of a session."""
    headers = {}
    if device.user_agent:
        agent = device.user_agent.encode("ascii", "replace").decode()
        headers["User-Agent"] = "".join(each for each in agent if each.isprintable())
    if device.ip:
        headers["X-Forwarded-For"] = device.ip
    return headers
