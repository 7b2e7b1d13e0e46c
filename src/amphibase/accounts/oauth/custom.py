"""Third parties that the administration registers: what they are asked, and whom they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amphibase.accounts.external_identities import ExternalIdentity
from amphibase.accounts.oauth import profiles
from amphibase.accounts.oauth.http import ProviderError, RequestCheck, get_json
from amphibase.accounts.oauth.providers import OPENID_SCOPES, OAuth, OpenIdConnect
from amphibase.settings.oauth import ProviderSettings


@dataclass(frozen=True, slots=True)
class Registration:
    """What is registered beside the client and its secret.

    Attributes:
        name: of the provider, and of its identities.
        scopes: asked for where a request names none.
        has_pkce: whether its own codes are bound to a verifier.
        parameters: of its authorization request.
        mapping: which claim to take for which, by the name of a text, or the value itself.
        claims: which further ones an identity keeps.
    """

    name: str
    scopes: Sequence[str]
    has_pkce: bool
    parameters: Mapping[str, str]
    mapping: Mapping[str, Any]
    claims: Sequence[str]

    def identity(self, claims: Mapping[str, Any]) -> ExternalIdentity:
        """Return whom a provider's claims name. Raises ProviderError."""
        mapped = dict(claims)
        for name, source in self.mapping.items():
            if not isinstance(source, str):
                mapped[name] = source
            elif source in claims:
                mapped[name] = claims[source]
        if not isinstance(mapped.get("sub"), str) or not mapped["sub"]:
            raise ProviderError(f"{self.name} does not say who has signed in")
        kept = {name: claims[name] for name in self.claims if name in claims}
        return profiles.of_custom(self.name, mapped, kept)


class CustomOpenIdConnect(OpenIdConnect):
    """A provider of OpenID Connect that the administration registered.

    Args:
        discovery_url: where its configuration is; None for the usual place below its issuer.
        check: of each request.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        registration: Registration,
        issuer: str,
        discovery_url: str | None,
        check: RequestCheck,
    ) -> None:
        super().__init__(registration.name, settings, issuer.rstrip("/"))
        self._registration = registration
        self._audiences = settings.client_ids
        self._has_pkce = registration.has_pkce
        self._parameters = registration.parameters
        self.openid.expect(issuer, discovery_url, check)

    def _scopes_with(self, scopes: Sequence[str]) -> list[str]:
        wanted = list(scopes or self._registration.scopes)
        wanted = wanted if "openid" in wanted else [OPENID_SCOPES[0], *wanted]
        return list(dict.fromkeys(wanted))

    async def identity(self, claims: Mapping[str, Any]) -> ExternalIdentity:
        return self._registration.identity(claims)


class CustomOAuth(OAuth):
    """A provider of OAuth 2.0 that the administration registered.

    Args:
        userinfo: where it says who has signed in.
        check: of each request.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        registration: Registration,
        *,
        authorize: str,
        token: str,
        userinfo: str,
        check: RequestCheck,
    ) -> None:
        super().__init__(
            settings, authorize=authorize, token=token, scopes=registration.scopes, check=check
        )
        self._registration = registration
        self._userinfo = userinfo
        self._has_pkce = registration.has_pkce
        self._parameters = registration.parameters

    def _scopes_with(self, scopes: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(scopes or self._registration.scopes))

    async def profile(self, access_token: str) -> ExternalIdentity:
        claims = await get_json(self._userinfo, token=access_token, check=self._check)
        if not isinstance(claims, dict):
            raise ProviderError(f"{self._registration.name} sends another profile")
        return self._registration.identity(claims)
