"""`POST /token?grant_type=id_token`: a session for the ID token that a third party gave to the
application itself."""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.requests import Request

from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected
from amphibase.accounts.oauth.flows import EXTERNAL
from amphibase.accounts.oauth.http import ProviderError
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.bearer import signed_in
from amphibase.gateway.auth.bodies import Body, email_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, OAuthError, invalid
from amphibase.gateway.auth.external.custom import PREFIX, build_openid, find_registration
from amphibase.gateway.auth.external.endpoints import accept_identity, link, notify_linked
from amphibase.redaction import redacted_logger

if TYPE_CHECKING:  # few projects have any
    from amphibase.accounts.oauth.providers import OpenIdConnect

logger = redacted_logger("amphibase.gateway.auth")

ISSUERS = {
    "apple": "https://appleid.apple.com",
    "azure": "https://login.microsoftonline.com",
    "facebook": "https://www.facebook.com",
    "google": "https://accounts.google.com",
    "kakao": "https://kauth.kakao.com",
    "vercel_marketplace": "https://marketplace.vercel.com",
    "snapchat": "https://accounts.snapchat.com/accounts/oauth2/token",
}
"""The issuers of the tokens of third parties, where there is one for all."""

OWN_ISSUERS = {
    "apple": re.compile(r"https://(appleid|account)\.apple\.com"),
    "azure": re.compile(r"https://(login\.microsoftonline\.com|sts\.windows\.net)/.*"),
}
"""Where the token says which of several issuers it is of."""


class IdTokenGrant(Body, go_type="IdTokenGrantParams"):
    provider: str = ""
    id_token: str = ""
    access_token: str = ""
    nonce: str = ""
    client_id: str = ""
    issuer: str = ""
    link_identity: bool = False


async def by_id_token(core: Core, request: Request) -> Mapping[str, Any]:
    """Return a session for the token of a third party.

    With `link_identity` it becomes one more identity of the caller.
    """
    body = await read(request, IdTokenGrant)
    if not body.id_token:
        raise OAuthError("invalid request", "id_token required")
    if not body.provider and not (body.client_id and body.issuer):
        raise OAuthError("invalid request", "provider or client_id and issuer required")
    user_id = await _linking_user(core, request) if body.link_identity else None
    provider = await _provider(core, body)
    name = provider.name
    settings = provider.settings
    try:
        claims = await provider.openid.verify(
            body.id_token, settings.client_ids, access_token=body.access_token or None
        )
        identity = await provider.identity(claims)
    except TokenRejected as rejected:
        if rejected.fault is TokenFault.AUDIENCE:
            audiences = " ".join(_audiences(body.id_token))
            raise OAuthError(
                "invalid request", f"Unacceptable audience in id_token: [{audiences}]"
            ) from None
        logger.warning("The ID token of %s is rejected: %s", name, rejected.reason)
        raise OAuthError("invalid request", "Bad ID token") from None
    except ProviderError as error:
        logger.error("The ID token of %s cannot be verified: %s", name, error)
        raise AuthError(codes.UNEXPECTED_FAILURE, "The provider cannot be reached") from None
    if not settings.skip_nonce_check:
        _check_nonce(body.nonce, claims)
    if identity.email is not None:
        email_of(identity.email)
    async with core.database.write() as connection:
        if user_id is not None:
            user = await link(core, connection, request, user_id, identity)
        else:
            optional = settings.email_optional
            user = await accept_identity(
                core, connection, request, identity, email_optional=optional
            )
        session = await core.open_session(connection, user.id, request, EXTERNAL)
    if user_id is not None:
        await notify_linked(core, request, user, identity)
    return session


async def _provider(core: Core, body: IdTokenGrant) -> "OpenIdConnect":
    """Return the third party whose token it is. Raises AuthError."""
    from amphibase.accounts.oauth.providers import OpenIdConnect  # few projects have any

    name = body.provider
    if name not in ISSUERS:
        name = next((key for key, each in ISSUERS.items() if each == body.issuer), name)
    provider = core.provider(name)
    if isinstance(provider, OpenIdConnect) and (provider.settings.url or name not in OWN_ISSUERS):
        return provider
    if name in OWN_ISSUERS:
        issuer = _check_issuer(name, body)
    elif name in (*ISSUERS, "keycloak"):
        issuer = ISSUERS.get(name, "")
    elif name.startswith(PREFIX):
        return await _custom_provider(core, name)
    else:
        raise invalid(f"Custom OIDC provider {json.dumps(body.provider)} not allowed")
    if not isinstance(provider, OpenIdConnect):
        raise AuthError(codes.PROVIDER_DISABLED, f'Provider (issuer "{issuer}") is not enabled')
    return provider


def _check_issuer(name: str, body: IdTokenGrant) -> str:
    """Return which issuer of a third party a token is of. Raises AuthError."""
    title = name.capitalize()
    try:
        _, payload, _ = body.id_token.split(".")
        issuer = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("iss", "")
        if not isinstance(issuer, str):
            raise TypeError
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise invalid(f"Unable to detect issuer in ID token for {title} provider") from None
    if not OWN_ISSUERS[name].fullmatch(issuer):
        raise invalid(f"Detected ID token issuer is not an {title} ID token issuer")
    if body.issuer and body.issuer != issuer:
        raise invalid("Provided issuer does not match ID token issuer")
    return issuer


async def _custom_provider(core: Core, name: str) -> "OpenIdConnect":
    if not core.settings.custom_oauth_enabled:
        raise invalid("Custom OAuth providers are disabled")
    row = await find_registration(core, name)
    if row is None:
        raise invalid(f"Custom provider {json.dumps(name)} not found")
    if not row.enabled:
        message = f"Custom provider {json.dumps(name)} is disabled"
        raise AuthError(codes.PROVIDER_DISABLED, message)
    if row.provider_type != "oidc":
        raise invalid(f"Provider {json.dumps(name)} is not an OIDC provider")
    if row.issuer is None:
        raise invalid(f"OIDC provider {json.dumps(name)} missing issuer")
    return await build_openid(core, row)


async def _linking_user(core: Core, request: Request) -> UUID:
    """Return who links an identity. Raises AuthError where nobody is signed in."""
    if not request.headers.get("authorization"):
        raise OAuthError(
            "invalid request", "Linking requires a valid user access token in Authorization"
        )
    async with core.database.read() as connection:
        return (await signed_in(core, connection, request)).user.id


def _audiences(id_token: str) -> list[str]:
    import jwt  # few projects have third parties

    named = jwt.decode(id_token, options={"verify_signature": False})["aud"]
    return named if isinstance(named, list) else [named]


def _check_nonce(nonce: str, claims: Mapping[str, Any]) -> None:
    """Compare the nonce with the token's, which has its hash. Raises OAuthError."""
    named = str(claims.get("nonce") or "")
    if bool(named) != bool(nonce):
        raise OAuthError(
            "invalid request",
            "Passed nonce and nonce in id_token should either both exist or not.",
        )
    expected = hashlib.sha256(nonce.encode("utf-8", "surrogatepass")).hexdigest()
    if named and not hmac.compare_digest(expected.encode(), named.encode()):
        raise OAuthError("invalid nonce", "Nonces mismatch")
