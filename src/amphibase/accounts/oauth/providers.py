"""The third parties that sign users in: where they are, and how they say who somebody is."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx
from httpx_oauth.exceptions import HTTPXOAuthError
from httpx_oauth.oauth2 import BaseOAuth2

from amphibase.accounts.external_identities import ExternalIdentity
from amphibase.accounts.oauth import profiles
from amphibase.accounts.oauth.http import (
    CodeRejected,
    ProviderError,
    RequestCheck,
    client,
    get_json,
)
from amphibase.accounts.oauth.openid import ANY_TENANT, OpenIdProvider
from amphibase.settings.oauth import ProviderSettings

OPENID_SCOPES = ("openid", "email", "profile")


@dataclass(frozen=True, slots=True)
class ProviderTokens:
    """What a third party issues for its own API."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)


class FlowSecrets:
    """What binds the two halves of a flow, derived from its state and stored nowhere.

    Args:
        key: a secret of the project.
        state: of the flow.

    Attributes:
        verifier: of PKCE, with the third party.
        nonce: of the ID token.
        browser: what the browser that went to the third party keeps.
    """

    def __init__(self, key: bytes, state: str) -> None:
        self.verifier = _derive(key, f"verifier {state}")
        self.nonce = _derive(key, f"nonce {state}")
        self.browser = _derive(key, f"browser {state}")

    @property
    def challenge(self) -> str:
        """The challenge of the verifier (RFC 7636, section 4.2)."""
        return _base64(hashlib.sha256(self.verifier.encode()).digest())


class _Client(BaseOAuth2[dict[str, Any]]):
    check: RequestCheck | None = None

    def get_httpx_client(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return client(self.check)


class OpenIdConnect:
    """A provider whose ID tokens say who signs in.

    Args:
        posts_back: whether it sends browsers back by a form instead of a redirect.
    """

    def __init__(
        self,
        name: str,
        settings: ProviderSettings,
        url: str,
        *,
        scopes: Sequence[str] = OPENID_SCOPES,
        posts_back: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self._url = url
        self._scopes = scopes
        self.posts_back = posts_back
        self._audiences = settings.client_ids[:1]
        self._has_pkce = True
        self._parameters: Mapping[str, str] = {}
        self.openid = OpenIdProvider(f"{url}/v2.0" if name == "azure" else url)

    async def authorization_url(
        self,
        redirect_uri: str,
        state: str,
        secrets: FlowSecrets,
        scopes: Sequence[str],
        extra: Mapping[str, str],
    ) -> str:
        """Return where a browser is sent to. Raises ProviderError."""
        mode = {"response_mode": "form_post"} if self.posts_back else {}
        return await (await self._client()).get_authorization_url(
            redirect_uri,
            state,
            self._scopes_with(scopes),
            secrets.challenge if self._has_pkce else None,
            "S256" if self._has_pkce else None,
            {**extra, **self._parameters, **mode, "nonce": secrets.nonce},
        )

    def _scopes_with(self, scopes: Sequence[str]) -> list[str]:
        """Return what is asked for where a request asks for these."""
        return list(dict.fromkeys((*self._scopes, *scopes)))

    async def exchange(
        self, response: Mapping[str, str], redirect_uri: str, secrets: FlowSecrets
    ) -> tuple[ExternalIdentity, ProviderTokens]:
        """Exchange the code of an authorization response for who has signed in.

        Raises:
            ProviderError, TokenRejected: the response, or what the provider says, is not valid.
        """
        await self._check_issuer(response.get("iss"))
        code = response["code"]
        verifier = secrets.verifier if self._has_pkce else None
        token = await _token(await self._client(), code, redirect_uri, verifier)
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise ProviderError(f"{self.name} sends no ID token")
        tokens = _tokens(token)
        claims = await self.openid.verify(
            id_token, self._audiences, access_token=tokens.access_token
        )
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), secrets.nonce.encode()):
            raise ProviderError(f"The ID token of {self.name} is of another sign-in")
        identity = await self.identity(claims)
        if self.name == "apple":
            identity = profiles.with_apple_name(identity, response.get("user", ""))
        return identity, tokens

    async def _check_issuer(self, issuer: str | None) -> None:
        """Check that the response is this provider's, and no other's (RFC 9207, section 2.4).

        Raises:
            ProviderError: another provider sent the browser back, so that the code is not its.
        """
        metadata = await self.openid.metadata()
        own: str = metadata["issuer"]
        is_named = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer is None and not is_named:
            return
        if issuer != own and ANY_TENANT not in own:
            raise ProviderError(f"The response is not of {own}, but of {issuer}")

    async def identity(self, claims: Mapping[str, Any]) -> ExternalIdentity:
        """Return whom a verified ID token names. Raises ProviderError."""
        if self.name == "azure":
            issuer = (await self.openid.metadata())["issuer"]
            return profiles.of_azure(claims, self._url, issuer)
        return profiles.of_claims(self.name, claims)

    async def _client(self) -> _Client:
        metadata = await self.openid.metadata()
        return _oauth_client(
            self.settings,
            metadata["authorization_endpoint"],
            metadata["token_endpoint"],
            self.openid.check,
        )


class OAuth:
    """A provider whose API says who signs in.

    Args:
        check: of each request; None of a provider that the settings name.
    """

    posts_back = False

    def __init__(
        self,
        settings: ProviderSettings,
        *,
        authorize: str,
        token: str,
        scopes: Sequence[str],
        check: RequestCheck | None = None,
    ) -> None:
        self.settings = settings
        self._check = check
        self._client = _oauth_client(settings, authorize, token, check)
        self._scopes = scopes
        self._has_pkce = True
        self._parameters: Mapping[str, str] = {}

    async def authorization_url(
        self,
        redirect_uri: str,
        state: str,
        secrets: FlowSecrets,
        scopes: Sequence[str],
        extra: Mapping[str, str],
    ) -> str:
        """Return where a browser is sent to."""
        return await self._client.get_authorization_url(
            redirect_uri,
            state,
            self._scopes_with(scopes),
            secrets.challenge if self._has_pkce else None,
            "S256" if self._has_pkce else None,
            {**extra, **self._parameters},
        )

    def _scopes_with(self, scopes: Sequence[str]) -> list[str]:
        """Return what is asked for where a request asks for these."""
        return list(dict.fromkeys((*self._scopes, *scopes)))

    async def exchange(
        self, response: Mapping[str, str], redirect_uri: str, secrets: FlowSecrets
    ) -> tuple[ExternalIdentity, ProviderTokens]:
        """Exchange the code of an authorization response for who has signed in.

        Raises:
            ProviderError: what the provider says is not valid.
        """
        verifier = secrets.verifier if self._has_pkce else None
        tokens = _tokens(await _token(self._client, response["code"], redirect_uri, verifier))
        try:
            return await self.profile(tokens.access_token), tokens
        except (KeyError, TypeError, AttributeError) as error:
            raise ProviderError(f"{type(self).__name__} sends another profile") from error

    async def profile(self, access_token: str) -> ExternalIdentity:
        """Fetch who has signed in. Raises ProviderError."""
        raise NotImplementedError


class GitHub(OAuth):
    """GitHub, or an Enterprise Server of one's own."""

    def __init__(self, settings: ProviderSettings) -> None:
        host = settings.url or "https://github.com"
        self._api = f"{settings.url}/api/v3" if settings.url else "https://api.github.com"
        super().__init__(
            settings,
            authorize=f"{host}/login/oauth/authorize",
            token=f"{host}/login/oauth/access_token",
            scopes=("user:email",),
        )

    async def profile(self, access_token: str) -> ExternalIdentity:
        user = await get_json(f"{self._api}/user", token=access_token)
        emails = await get_json(f"{self._api}/user/emails", token=access_token)
        return profiles.of_github(user, emails, self._api)


class GitLab(OAuth):
    """GitLab, or one's own."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._host = settings.url or "https://gitlab.com"
        super().__init__(
            settings,
            authorize=f"{self._host}/oauth/authorize",
            token=f"{self._host}/oauth/token",
            scopes=("read_user",),
        )

    async def profile(self, access_token: str) -> ExternalIdentity:
        user = await get_json(f"{self._host}/api/v4/user", token=access_token)
        return profiles.of_gitlab(user, self._host)


class Discord(OAuth):
    """Discord."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._api = f"{settings.url or 'https://discord.com'}/api"
        super().__init__(
            settings,
            authorize=f"{self._api}/oauth2/authorize",
            token=f"{self._api}/oauth2/token",
            scopes=("email", "identify"),
        )

    async def profile(self, access_token: str) -> ExternalIdentity:
        user = await get_json(f"{self._api}/users/@me", token=access_token)
        return profiles.of_discord(user, self._api)


Provider = OpenIdConnect | OAuth


def build_provider(name: str, settings: ProviderSettings) -> Provider:
    """Return a provider by its name in Supabase Auth."""
    match name:
        case "github":
            return GitHub(settings)
        case "gitlab":
            return GitLab(settings)
        case "discord":
            return Discord(settings)
        case "apple":
            # Apple sends the name and the address by POST alone.
            return OpenIdConnect(
                name,
                settings,
                settings.url or "https://appleid.apple.com",
                scopes=("email", "name"),
                posts_back=True,
            )
        case "azure":
            url = settings.url or "https://login.microsoftonline.com/common"
            return OpenIdConnect(name, settings, url)
        case "google":
            return OpenIdConnect(name, settings, settings.url or "https://accounts.google.com")
    return OpenIdConnect(name, settings, settings.url or "")


def _oauth_client(
    settings: ProviderSettings, authorize: str, token: str, check: RequestCheck | None
) -> _Client:
    oauth = _Client(settings.client_ids[0], settings.secret, authorize, token)
    oauth.check = check
    return oauth


async def _token(
    oauth: _Client, code: str, redirect_uri: str, verifier: str | None
) -> Mapping[str, Any]:
    try:
        token = await oauth.get_access_token(code, redirect_uri, verifier)
    except HTTPXOAuthError as error:
        raise CodeRejected(f"The code was not exchanged: {type(error).__name__}") from error
    if not isinstance(token, dict) or not isinstance(token.get("access_token"), str):
        raise CodeRejected("The code was not exchanged: there is no access token")
    return token


def _tokens(token: Mapping[str, Any]) -> ProviderTokens:
    refresh_token = token.get("refresh_token")
    return ProviderTokens(
        token["access_token"], refresh_token if isinstance(refresh_token, str) else None
    )


def _derive(key: bytes, purpose: str) -> str:
    return _base64(hmac.digest(key, purpose.encode(), "sha256"))


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
