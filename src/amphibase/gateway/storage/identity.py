"""Who sends a request: the role and the claims of its token."""

import re
from dataclasses import dataclass

import orjson
from starlette.requests import Request

from amphibase.gateway.storage.errors import StorageError, denied, malformed
from amphibase.gateway.tokens import Fault, TokenRefused, Tokens

_BEARER = re.compile(r"[Bb]earer +(\S+)")

_FAULTS = {
    Fault.MALFORMED: "jwt malformed",
    Fault.ALGORITHM: "invalid algorithm",
    Fault.KEY: "invalid signature",
    Fault.SIGNATURE: "invalid signature",
    Fault.CLAIMS: "jwt malformed",
    Fault.EXPIRED: "jwt expired",
    Fault.NOT_YET_VALID: "jwt not active",
    Fault.ISSUED_IN_FUTURE: "jwt not active",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """A role of the database, and what its token says.

    Attributes:
        claims: JSON for `request.jwt.claims`.
        subject: whose the files are that are uploaded, if it is anybody.
    """

    role: str
    claims: str
    subject: str | None = None


def service(subject: str | None) -> Identity:
    """The service itself, acting for somebody whose permission was looked at before."""
    return Identity("service_role", '{"role":"service_role"}', subject)


def identify(tokens: Tokens, request: Request) -> Identity:
    """Whom the request's token names. Raises StorageError if there is none that holds."""
    header = request.headers.get("authorization")
    if header is None:
        raise malformed("headers must have required property 'authorization'")
    found = _BEARER.fullmatch(header)
    try:
        claims = tokens.verify(found[1] if found else header)
    except TokenRefused as refused:
        raise denied(_FAULTS.get(refused.fault, "Invalid JWT")) from None
    role, subject = claims.get("role") or "anon", claims.get("sub")
    if not isinstance(role, str) or not (subject is None or isinstance(subject, str)):
        raise denied("jwt malformed")
    told = orjson.dumps({**claims, "role": role}, default=str).decode()
    if "\\u0000" in told:  # which no text of the database can hold
        raise denied("jwt malformed")
    return Identity(role, told, subject or None)


def identify_if_any(tokens: Tokens, request: Request) -> Identity | None:
    """The same; None where no token holds."""
    try:
        return identify(tokens, request)
    except StorageError:
        return None
