"""The bearer of a request: a user with a live session, or the administration of the project."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from starlette.requests import Request

from amphibase.accounts.jwt.verifier import TokenRejected
from amphibase.backend import Claims
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import token_errors
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.users import AuthUser

_BEARER = re.compile(r"bearer\s+(\S+)", re.IGNORECASE | re.ASCII)

AUDIENCE_HEADER = "x-jwt-aud"
MAX_AUDIENCE_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class BearerUser:
    """A user and the session that the request belongs to; tokens signed by hand have none."""

    user: AuthUser
    session: Row[Any] | None
    claims: Claims

    @property
    def by_password(self) -> bool:
        """Whether the session was opened by a password, and not by an email."""
        methods = {each.get("method") for each in self.claims.get("amr") or ()}
        return "password" in methods or not methods

    @property
    def session_id(self) -> UUID | None:
        return self.session.id if self.session is not None else None

    @property
    def aal(self) -> str:
        """How sure it is that this is the user: `aal1`, `aal2`."""
        return (self.session.aal or "aal1") if self.session is not None else "aal1"

    def require_second_factor(self, status: int, message: str) -> None:
        """Raise AuthError unless a second factor was shown, where the user has one."""
        if self.user.has_verified_factor and self.aal != "aal2":
            raise AuthError(codes.INSUFFICIENT_AAL, message, status=status)


def claims_of(core: Core, request: Request) -> Claims:
    """Return the claims of the request's token. Raises AuthError."""
    match = _BEARER.fullmatch(request.headers.get("authorization", ""))
    if match is None:
        raise AuthError(codes.NO_AUTHORIZATION)
    try:
        # The clock of whoever signed it may be ahead.
        return core.tokens.verify(match[1], leeway=0, checks_issued_at=False)
    except TokenRejected as error:
        fault = token_errors.reason(match[1], error)
        raise AuthError(
            codes.BAD_JWT, f"invalid JWT: unable to parse or verify signature, {fault}"
        ) from None


def audience_of(core: Core, request: Request, claims: Claims) -> str:
    """Return the audience of a request: of its header `x-jwt-aud`, else of its token, unless that
    is the administration's, whose keys have none.

    Raises:
        AuthError: the header is too long.
    """
    own = "" if is_admin(core, claims) else _audience(claims)
    named = request.headers.get(AUDIENCE_HEADER, "") or own
    if len(named) > MAX_AUDIENCE_CHARACTERS:
        raise invalid(f"{AUDIENCE_HEADER} is longer than {MAX_AUDIENCE_CHARACTERS} characters")
    return named or core.settings.jwt_aud


def has_own_audience(core: Core, request: Request) -> bool:
    """Return whether the request's token has the audience of the request."""
    claims = claims_of(core, request)
    return bool(claims.get("aud")) and _audience(claims) == audience_of(core, request, claims)


def _audience(claims: Claims) -> str:
    audience = claims.get("aud") or ""
    first: str = audience[0] if isinstance(audience, list) else audience
    return first


def is_admin(core: Core, claims: Claims) -> bool:
    """Return whether these are the claims of the administration of the project."""
    return claims.get("role") in core.settings.jwt_admin_roles


async def require_admin(core: Core, request: Request) -> str:
    """Return the role of the project's administration, whose token the request has to bring.

    The token of a user with such a role is good for as long as their session.

    Raises:
        AuthError: it brings another one, or none; or the session has ended, or the user is banned.
    """
    claims = claims_of(core, request)
    if _session_id(claims) is not None:
        async with core.database.read() as connection:
            session = (await signed_in(core, connection, request)).session
        if session is None or core.sessions.has_expired(session):
            raise AuthError(codes.ADMIN_SESSION_EXPIRED)
    if not is_admin(core, claims):
        raise AuthError(codes.NOT_ADMIN)
    return str(claims["role"])


def check_linking(core: Core) -> None:
    """Raise AuthError where users may not link identities."""
    if not core.settings.security_manual_linking_enabled:
        raise AuthError(codes.MANUAL_LINKING_DISABLED)


async def signed_in(
    core: Core, connection: SqlConnection, request: Request, *, lock: bool = False
) -> BearerUser:
    """Return the user who sends the request. Raises AuthError.

    Args:
        lock: keep the user's row until the transaction ends.
    """
    claims = claims_of(core, request)
    user_id = _user_id(claims)
    if user_id is None:
        raise AuthError(codes.BAD_JWT, "invalid claim: missing sub claim")
    session_id = _session_id(claims)
    user = await core.users.find(connection, user_id, lock=lock)
    if user is None:
        raise AuthError(codes.TOKEN_USER_NOT_FOUND)
    session = None
    if session_id is not None:
        session = await core.sessions.find(connection, session_id, user_id)
        if session is None:
            raise AuthError(codes.SESSION_NOT_FOUND)
    if user.is_banned:
        raise AuthError(codes.USER_BANNED)
    return BearerUser(user, session, claims)


@asynccontextmanager
async def found_first(
    core: Core, find: Callable[[SqlConnection], Awaitable[object]]
) -> AsyncIterator[None]:
    """Let what the block finds wrong with a body be said only once `find` finds what it is about.

    Raises:
        AuthError: the block's, or that of `find`.
    """
    try:
        yield
    except AuthError:
        async with core.database.read() as connection:
            await find(connection)
        raise


def _user_id(claims: Claims) -> UUID | None:
    return _uuid(claims, "sub", 400)


def _session_id(claims: Claims) -> UUID | None:
    id = _uuid(claims, "session_id", 403)
    return None if id == UUID(int=0) else id


def _uuid(claims: Claims, name: str, status: int) -> UUID | None:
    value = claims.get(name)
    if not value:
        return None
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        message = f"invalid claim: {name} claim must be a UUID"
        raise AuthError(codes.BAD_JWT, message, status=status) from None
