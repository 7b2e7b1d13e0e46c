"""OpenID Connect: what a provider says of itself, and the check of its ID tokens."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from time import monotonic
from typing import Any

import jwt

from amphibase.accounts.jwt.key_file import parse_jwks
from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected, TokenVerifier
from amphibase.accounts.oauth.http import ProviderError, RequestCheck, get_json

CACHE_SECONDS = 3600
KEYS_SECONDS = 60
"""How long the keys are not read again, however many tokens name unknown ones."""

ANY_TENANT = "{tenantid}"
"""Stands for the tenant in the issuer of Azure's configurations that several tenants share."""

REQUIRED = ("exp", "sub", "aud", "iss")


class OpenIdProvider:
    """A provider of OpenID Connect, found by discovery
    (https://openid.net/specs/openid-connect-discovery-1_0.html).

    Args:
        url: where `/.well-known/openid-configuration` is.

    Attributes:
        check: of each request; None of a provider that the settings name.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._discovery_url: str | None = None
        self._issuer: str | None = None
        self.check: RequestCheck | None = None
        self._metadata: Mapping[str, Any] = {}
        self._metadata_until = 0.0
        self._verifier: TokenVerifier | None = None
        self._keys_read_at = 0.0

    def expect(
        self,
        issuer: str,
        discovery_url: str | None,
        check: RequestCheck,
    ) -> None:
        """Require an issuer; its configuration is at the URL, where there is one.

        Args:
            check: of each request.
        """
        self._issuer, self._discovery_url = issuer, discovery_url
        self.check = check

    async def metadata(self) -> Mapping[str, Any]:
        """Return what the provider says of itself. Raises ProviderError."""
        if monotonic() >= self._metadata_until:
            usual = f"{self._url}/.well-known/openid-configuration"
            metadata = await get_json(self._discovery_url or usual, check=self.check)
            names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
            if not isinstance(metadata, dict) or not all(
                isinstance(metadata.get(name), str) for name in names
            ):
                raise ProviderError(f"{self._url} has no OpenID configuration")
            if self._issuer is not None and metadata["issuer"] != self._issuer:
                raise ProviderError(f"{self._url} has the configuration of another issuer")
            self._metadata, self._metadata_until = metadata, monotonic() + CACHE_SECONDS
        return self._metadata

    async def verify(
        self, id_token: str, client_ids: tuple[str, ...], *, access_token: str | None = None
    ) -> Mapping[str, Any]:
        """Return the claims of an ID token (OpenID Connect Core, section 3.1.3.7).

        Args:
            client_ids: one of which has to be its audience.
            access_token: what its `at_hash` has to fit, where it has one.

        Raises:
            TokenRejected: it is not the provider's, not for these clients, or not valid now.
            ProviderError: the keys cannot be read.
        """
        claims = await self._claims(id_token)
        issuer = (await self.metadata())["issuer"]
        if claims["iss"] != issuer.replace(ANY_TENANT, str(claims.get("tid", ""))):
            raise TokenRejected(TokenFault.CLAIMS, "the issuer is another")
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not set(audiences) & set(client_ids):
            raise TokenRejected(TokenFault.AUDIENCE)
        if len(audiences) > 1 and claims.get("azp") not in client_ids:
            raise TokenRejected(TokenFault.AUDIENCE, "the authorized party is another")
        at_hash = claims.get("at_hash")
        if access_token is not None and at_hash is not None:
            # The key that signed the token is pinned to this algorithm.
            expected = half_hash(access_token, jwt.get_unverified_header(id_token)["alg"])
            if not hmac.compare_digest(str(at_hash).encode(), expected.encode()):
                raise TokenRejected(TokenFault.CLAIMS, "at_hash is not that of the access token")
        return claims

    async def _claims(self, id_token: str) -> Mapping[str, Any]:
        verifier = self._verifier or await self._read_keys()
        try:
            return verifier.verify(id_token, required=REQUIRED)
        except TokenRejected as rejected:
            # The provider may have a new key.
            if rejected.fault not in (TokenFault.KEY, TokenFault.SIGNATURE, TokenFault.ALGORITHM):
                raise
            if monotonic() < self._keys_read_at + KEYS_SECONDS:
                raise
        return (await self._read_keys()).verify(id_token, required=REQUIRED)

    async def _read_keys(self) -> TokenVerifier:
        url = (await self.metadata())["jwks_uri"]
        found = await get_json(url, check=self.check)
        try:
            # A public key must never be taken for a shared secret.
            keys = [key for key in parse_jwks(found) if not key.is_secret]
        except ValueError as error:
            raise ProviderError(f"{url} has no JSON Web Key Set") from error
        if not keys:
            raise ProviderError(f"{url} has no key that is supported, to verify ID tokens with")
        self._verifier = TokenVerifier(keys)
        self._keys_read_at = monotonic()
        return self._verifier


def half_hash(access_token: str, algorithm: str) -> str:
    """Return the `at_hash` of an access token (OpenID Connect Core, section 3.1.3.6).

    Args:
        algorithm: of the ID token's signature, whose hash it is. EdDSA names none, and has SHA-512
            as Ed25519 does.
    """
    value = access_token.encode()
    if algorithm == "EdDSA":
        digest = hashlib.sha512(value).digest()
    else:
        digest = jwt.get_algorithm_by_name(algorithm).compute_hash_digest(value)
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
