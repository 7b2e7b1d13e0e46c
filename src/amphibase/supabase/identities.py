"""Sign-in through third parties in a Supabase project: the contract of `backend.Identities`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from amphibase.backend import (
    ANONYMOUS,
    UNKNOWN_DEVICE,
    BrowserRedirect,
    Caller,
    Device,
    OAuthRequest,
    SignedIn,
    UserIdentity,
)
from amphibase.errors import (
    Conflict,
    InvalidLink,
    NotFound,
    NotSupported,
    Unauthenticated,
)
from amphibase.settings.application import Settings
from amphibase.supabase.auth_api import AuthApi, is_text
from amphibase.supabase.auth_responses import read_signed_in
from amphibase.supabase.errors import read_json

IDENTITIES_PATH = "/user/identities"


class SupabaseIdentities:
    """Lets the project's Auth sign users in through the third parties that it is set up for.

    Auth sends browsers there and back to the client by itself, and holds state and code.

    Args:
        url: of the project.
    """

    def __init__(self, auth: AuthApi, url: str, settings: Settings) -> None:
        self._auth = auth
        self._url = url
        self._settings = settings

    async def begin(self, caller: Caller, request: OAuthRequest) -> str:
        params = {
            "provider": request.provider,
            "redirect_to": self._settings.oauth_redirect_url(request.redirect_to),
            "code_challenge": request.code_challenge,
            "code_challenge_method": "s256",
        }
        if caller is ANONYMOUS:
            return f"{self._url}/auth/v1/authorize?{urlencode(params)}"
        params["skip_http_redirect"] = "true"
        path = f"{IDENTITIES_PATH}/authorize"
        response = await self._auth.send("GET", path, caller=caller, params=params)
        url: str = read_json(response)["url"]
        return url

    async def authorize(self, provider: str, state: str) -> BrowserRedirect:
        raise NotSupported("The Supabase project itself sends browsers to third parties")

    async def receive(self, provider: str, response: Mapping[str, str], secret: str) -> str:
        raise NotSupported("The Supabase project itself takes browsers back from third parties")

    async def sign_in(
        self, code: str, code_verifier: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        return read_signed_in(await self._redeem(code, code_verifier, device))

    async def _redeem(self, code: str, code_verifier: str, device: Device) -> Any:
        if not is_text(code + code_verifier):
            raise InvalidLink
        body = {"auth_code": code, "code_verifier": code_verifier}
        return await self._auth.send(
            "POST", "/token", body, params={"grant_type": "pkce"}, device=device
        )

    async def link(self, caller: Caller, code: str, code_verifier: str) -> UserIdentity:
        response = await self._redeem(code, code_verifier, UNKNOWN_DEVICE)
        signed_in = read_signed_in(response)
        await self._auth.end(signed_in)  # the caller has a session
        if signed_in.account.id != _user_id(caller):
            raise InvalidLink
        identities = map(_identity_of, read_json(response)["user"]["identities"])
        return max(identities, key=lambda identity: identity.created_at)

    async def list(self, caller: Caller) -> Sequence[UserIdentity]:
        _user_id(caller)
        user = read_json(await self._auth.send("GET", "/user", caller=caller))
        identities = map(_identity_of, user.get("identities") or ())
        return sorted(identities, key=lambda identity: identity.created_at)

    async def unlink(self, caller: Caller, id: UUID) -> None:
        identities = await self.list(caller)
        if not any(other.id == id and other.provider != "email" for other in identities):
            raise NotFound("You have no such identity")
        if len(identities) == 1:
            raise Conflict("This is the only way in which you sign in: link another first")
        await self._auth.send("DELETE", f"{IDENTITIES_PATH}/{id}", caller=caller)


def _identity_of(identity: Mapping[str, Any]) -> UserIdentity:
    last_sign_in_at = identity.get("last_sign_in_at")
    return UserIdentity(
        id=UUID(identity["identity_id"]),
        provider=identity["provider"],
        email=identity.get("email"),
        created_at=datetime.fromisoformat(identity["created_at"]),
        last_sign_in_at=datetime.fromisoformat(last_sign_in_at) if last_sign_in_at else None,
    )


def _user_id(caller: Caller) -> UUID:
    if caller.user_id is None:
        raise Unauthenticated
    return caller.user_id
