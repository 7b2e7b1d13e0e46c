"""Who sends a request: the role and the claims of its token."""

import json
import re
from dataclasses import dataclass

from starlette.requests import Request

from amphibase.accounts.jwt.verifier import Fault, TokenRefused, Tokens
from amphibase.gateway.storage.errors import StorageError, denied, malformed

_BEARER = re.compile(r"[Bb]earer +(\S+)")

INVALID = "Invalid JWT"
MALFORMED = "Invalid Compact JWS"
FORGED = "signature verification failed"
ALGORITHM = '"alg" (Algorithm) Header Parameter value not allowed'
EXPIRED = '"exp" claim timestamp check failed'
NOT_YET_VALID = '"nbf" claim timestamp check failed'

_FAULTS = {
    Fault.MALFORMED: MALFORMED,
    Fault.ALGORITHM: ALGORITHM,
    Fault.KEY: FORGED,
    Fault.SIGNATURE: FORGED,
    Fault.EXPIRED: EXPIRED,
    Fault.NOT_YET_VALID: NOT_YET_VALID,
    Fault.ISSUED_IN_FUTURE: '"iat" claim timestamp check failed (it should be in the past)',
}


@dataclass(frozen=True, slots=True)
class Identity:
    """A role of the database, what its token says, and what is asked for.

    Attributes:
        claims: JSON for `request.jwt.claims`.
        subject: whose the files are that are uploaded, if it is anybody.
        method: for `request.method`.
        path: for `request.path`, as Storage knows it.
        headers: JSON for `request.headers`.
    """

    role: str
    claims: str
    subject: str | None = None
    method: str = ""
    path: str = ""
    headers: str = "{}"


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
        raise denied(_FAULTS.get(refused.fault, INVALID)) from None
    role, subject = claims.get("role") or "anon", claims.get("sub")
    if not isinstance(role, str) or not (subject is None or isinstance(subject, str)):
        raise denied(INVALID)
    # By `json`, which writes numbers of any size.
    told = json.dumps({**claims, "role": role}, separators=(",", ":"), ensure_ascii=False)
    # What no text of the database can hold: the character NUL, and half a character.
    if "\\u0000" in told or told != told.encode(errors="replace").decode():
        raise denied(INVALID)
    return Identity(
        role,
        told,
        subject or None,
        request.method,
        path_of(request),
        json.dumps(dict(request.headers)),
    )


def path_of(request: Request) -> str:
    """The path below the one that Storage is mounted at."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def identify_if_any(tokens: Tokens, request: Request) -> Identity | None:
    """The same; None where no token holds."""
    try:
        return identify(tokens, request)
    except StorageError:
        return None
