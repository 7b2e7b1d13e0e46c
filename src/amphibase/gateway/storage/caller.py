"""The caller of a request: the role and the claims of its token."""

import json
import re
from dataclasses import dataclass, replace

from starlette.requests import Request

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected
from amphibase.gateway.storage.errors import AccessDenied, MalformedRequest, StorageError

_BEARER = re.compile(r"[Bb]earer +(\S+)")

INVALID = "Invalid JWT"
MALFORMED = "Invalid Compact JWS"
FORGED = "signature verification failed"
ALGORITHM = '"alg" (Algorithm) Header Parameter value not allowed'
EXPIRED = '"exp" claim timestamp check failed'
NOT_YET_VALID = '"nbf" claim timestamp check failed'

FAULT_MESSAGES = {
    TokenFault.PARTS: MALFORMED,
    TokenFault.MALFORMED: MALFORMED,
    TokenFault.ALGORITHM: ALGORITHM,
    TokenFault.KEY: FORGED,
    TokenFault.SIGNATURE: FORGED,
    TokenFault.EXPIRED: EXPIRED,
    TokenFault.NOT_YET_VALID: NOT_YET_VALID,
    TokenFault.ISSUED_IN_FUTURE: '"iat" claim timestamp check failed (it should be in the past)',
}


@dataclass(frozen=True, slots=True)
class StorageCaller:
    """A role of the database, with the claims and the request that policies see.

    Attributes:
        claims: JSON for `request.jwt.claims`.
        subject: the owner of what is uploaded, if any.
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


SERVICE_ROLE = StorageCaller("service_role", '{"role":"service_role"}')


def service_caller(caller: StorageCaller) -> StorageCaller:
    """Return the service in the caller's place, whose permission has been checked."""
    return replace(caller, role=SERVICE_ROLE.role, claims=SERVICE_ROLE.claims)


def signed_caller(owner: str | None) -> StorageCaller:
    """Return the service, in place of the owner of a signed URL."""
    return replace(SERVICE_ROLE, subject=owner)


def authenticate(tokens: KeyRing, request: Request) -> StorageCaller:
    """Return the caller that a request's token names. Raises StorageError unless it is valid."""
    header = request.headers.get("authorization")
    if header is None:
        raise MalformedRequest("headers must have required property 'authorization'")
    match = _BEARER.fullmatch(header)
    return caller_of_token(tokens, match[1] if match else header, request)


def caller_of_token(tokens: KeyRing, token: str, request: Request) -> StorageCaller:
    """Return the caller that an access token names. Raises StorageError unless it is valid."""
    try:
        claims = tokens.verify(token)
    except TokenRejected as rejected:
        raise AccessDenied(FAULT_MESSAGES.get(rejected.fault, INVALID)) from None
    role, subject = claims.get("role") or "anon", claims.get("sub")
    if not isinstance(role, str) or not (subject is None or isinstance(subject, str)):
        raise AccessDenied(INVALID)
    # By `json`, which writes numbers of any size.
    text = json.dumps({**claims, "role": role}, separators=(",", ":"), ensure_ascii=False)
    # What no text of the database can hold: the character NUL, and half a character.
    if "\\u0000" in text or text != text.encode(errors="replace").decode():
        raise AccessDenied(INVALID)
    return sent_by(StorageCaller(role, text, subject or None), request)


def sent_by(caller: StorageCaller, request: Request) -> StorageCaller:
    """Return the caller with the request that policies see."""
    return replace(
        caller,
        method=request.method,
        path=request_path(request),
        headers=json.dumps(dict(request.headers)),
    )


def request_path(request: Request) -> str:
    """Return the path below the one that Storage is mounted at."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def authenticate_if_valid(tokens: KeyRing, request: Request) -> StorageCaller | None:
    """Return the caller; None where the token is missing or not valid."""
    try:
        return authenticate(tokens, request)
    except StorageError:
        return None
