"""`POST /token?grant_type=id_token`: a session for the ID token that a third party gave to the
application itself."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
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
from amphibase.gateway.auth.external.endpoints import accept_identity, link
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")

ISSUERS = {
    "apple": "https://appleid.apple.com",
    "azure": "https://login.microsoftonline.com",
    "facebook": "https://www.facebook.com",
    "google": "https://accounts.google.com",
    "kakao": "https://kauth.kakao.com",
}
"""The issuers of the tokens of third parties, where there is one for all."""


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
    name = body.provider or next(
        (name for name, issuer in ISSUERS.items() if issuer == body.issuer), ""
    )
    provider = core.provider(name)
    from amphibase.accounts.oauth.providers import OpenIdConnect  # few projects have any

    if not isinstance(provider, OpenIdConnect):  # those of OAuth alone have no ID tokens
        issuer = ISSUERS.get(name, body.issuer)
        if not issuer:
            raise invalid(f'Custom OIDC provider "{body.provider}" not allowed')
        raise AuthError(codes.PROVIDER_DISABLED, f'Provider (issuer "{issuer}") is not enabled')
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
        return await core.open_session(connection, user.id, request, EXTERNAL)


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
