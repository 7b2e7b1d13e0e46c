"""Whom an access token names, on every backend."""

from uuid import UUID

from amphibase.accounts.jwt.verifier import TokenVerifier
from amphibase.backend import Caller, Claims
from amphibase.errors import InvalidToken

AUDIENCE = "authenticated"
REQUIRED_CLAIMS = ("exp", "sub", "aud")
"""An API key is signed by the same secret as users' tokens in many projects, and names no user."""


def claimed_caller(verifier: TokenVerifier, access_token: str) -> Caller:
    """Return whom a token names, by its signature and its claims alone.

    Raises:
        InvalidToken: it is malformed, forged, expired or not a user's.
    """
    claims = verifier.verify(access_token, audience=AUDIENCE, required=REQUIRED_CLAIMS, leeway=0)
    return caller_of_claims(claims, access_token)


def caller_of_claims(claims: Claims, access_token: str) -> Caller:
    """Return the user that verified claims name. Raises InvalidToken where they name none."""
    try:
        user_id = UUID(claims["sub"])
        session_id = UUID(claims["session_id"]) if claims.get("session_id") else None
    except (KeyError, ValueError, TypeError, AttributeError):
        raise InvalidToken from None
    return Caller("authenticated", user_id, session_id, claims, access_token)
