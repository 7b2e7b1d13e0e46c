"""`POST /token`: a session for a password, a refresh token or the code of a flow."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.engine import Credentials
from amphibase.accounts.open_session import RefreshRejection
from amphibase.errors import EmailNotConfirmed, InvalidCredentials, UserBanned
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bodies import Body, normalized_phone, read
from amphibase.gateway.auth.core import Core, device_of, name_session
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.external.id_token import by_id_token
from amphibase.gateway.auth.password_policy import violation
from amphibase.gateway.auth.responses import respond_uncached
from amphibase.gateway.auth.users import AuthUser

REFRESH_REJECTIONS = {
    RefreshRejection.UNKNOWN: codes.REFRESH_TOKEN_NOT_FOUND,
    RefreshRejection.EXPIRED: codes.SESSION_EXPIRED,
    RefreshRejection.INACTIVE: codes.SESSION_INACTIVE,
    RefreshRejection.WEAK: codes.SESSION_WEAK,
    RefreshRejection.SUPERSEDED: codes.SESSION_SUPERSEDED,
    RefreshRejection.REUSED: codes.REFRESH_TOKEN_USED,
}


class PasswordGrant(Body, go_type="PasswordGrantParams"):
    email: str = ""
    phone: str = ""
    password: str = ""


class RefreshTokenGrant(Body, go_type="RefreshTokenGrantParams"):
    refresh_token: str = ""


class PkceGrant(Body, go_type="PKCEGrantParams"):
    auth_code: str = ""
    code_verifier: str = ""


async def token(core: Core, request: Request) -> Response:
    """Respond with a session, by the kind of grant that the query names."""
    grant = GRANTS.get(request.query_params.get("grant_type", ""))
    if grant is None:
        raise AuthError(codes.UNSUPPORTED_GRANT)
    core.rate_limiter.check("web3" if grant is by_wallet else "token", request)
    return respond_uncached(await grant(core, request))


async def by_password(core: Core, request: Request) -> Mapping[str, Any]:
    body = await read(request, PasswordGrant)
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided on login.")
    user = await _user(core, body)
    credentials = _credentials(body, user)
    try:
        checked = await core.engine.check_password(credentials, body.password)
    except InvalidCredentials:
        await _check_attempt(core, credentials, valid=False)
        raise
    except EmailNotConfirmed:
        code = codes.PHONE_NOT_CONFIRMED if body.phone else codes.EMAIL_NOT_CONFIRMED
        raise AuthError(code) from None
    assert user is not None  # else there was no password to check
    await _check_attempt(core, credentials, valid=True)
    async with core.database.write() as connection:
        row, session = await core.engine.sign_in(connection, checked, device_of(request))
        name_session(request, session)
        traits = {"provider": "phone" if body.phone else "email"}
        await core.audit.record(connection, row, AuditAction.LOGIN, traits=traits)
    response = core.session_json(replace(user, row=row), session)
    # After the sign-in, which fails for no service that is away.
    with suppress(AuthError):
        if error := await violation(core.settings, body.password):
            response["weak_password"] = {"message": error.message, "reasons": error.reasons}
    return response


async def _check_attempt(core: Core, credentials: Credentials, *, valid: bool) -> None:
    if credentials.user is None or not core.hooks.checks_passwords:
        return
    user_id = credentials.user.id
    async with core.database.write() as connection:
        rejection = await core.hooks.after_password_attempt(connection, user_id, valid=valid)
        if rejection is not None and rejection.ends_sessions:
            await core.sessions.end(connection, user_id)
    if rejection is not None:
        raise AuthError(codes.INVALID_CREDENTIALS, rejection.message)


async def _user(core: Core, body: PasswordGrant) -> AuthUser | None:
    if body.phone:
        if not core.settings.external_phone_enabled:
            raise AuthError(codes.PHONE_LOGIN_DISABLED)
        return await core.users.read_by_phone(normalized_phone(body.phone))
    if not body.email:
        raise invalid("missing email or phone")
    if not core.settings.external_email_enabled:
        raise AuthError(codes.EMAIL_LOGIN_DISABLED)
    return await core.users.read_by_email(body.email)


def _credentials(body: PasswordGrant, user: AuthUser | None) -> Credentials:
    email = None if body.phone else body.email
    if user is None:
        return Credentials(None, is_confirmed=False, email=email)
    confirmed_at = user.row.phone_confirmed_at if body.phone else user.row.email_confirmed_at
    return Credentials(user.row, confirmed_at is not None, email)


async def by_refresh_token(core: Core, request: Request) -> Mapping[str, Any]:
    body = await read(request, RefreshTokenGrant)
    if not body.refresh_token:
        raise invalid("Refresh token is not valid")
    try:
        result = await core.engine.refresh(body.refresh_token, device_of(request))
    except UserBanned:
        raise AuthError(codes.REFRESH_BANNED) from None
    if isinstance(result, RefreshRejection):
        raise AuthError(REFRESH_REJECTIONS[result])
    row, session = result
    name_session(request, session)
    if not session.is_repeated:
        request.state.session_headers["sb-auth-refresh-token-reuse"] = "false"
    async with core.database.write() as connection:
        actions = (AuditAction.TOKEN_REFRESHED, AuditAction.TOKEN_REVOKED)
        await core.audit.record(connection, row, *actions)
        return core.session_json(await core.users.of(connection, row), session)


async def by_code(core: Core, request: Request) -> Mapping[str, Any]:
    body = await read(request, PkceGrant)
    if not body.auth_code or not body.code_verifier:
        raise invalid("invalid request: both auth code and code verifier should be non-empty")
    async with core.database.write() as connection:
        flow = await core.flows.redeem(connection, body.auth_code, body.code_verifier)
        user = await core.users.get(connection, flow.user_id, lock=True)
        if user.is_banned:
            raise AuthError(codes.SIGN_IN_BANNED)
        traits = {"provider_type": flow.provider_type}
        await core.audit.record(connection, user.row, AuditAction.LOGIN, traits=traits)
        method = flow.authentication_method
        session = await core.open_session(connection, user.id, request, method)
        return {**session, **core.provider_tokens(flow)}


async def by_wallet(core: Core, request: Request) -> Mapping[str, Any]:
    """Reject a signature by the key of a wallet."""
    raise AuthError(codes.WEB3_DISABLED)


Grant = Callable[[Core, Request], Awaitable[Mapping[str, Any]]]
GRANTS: Mapping[str, Grant] = MappingProxyType(
    {
        "password": by_password,
        "refresh_token": by_refresh_token,
        "pkce": by_code,
        "id_token": by_id_token,
        "web3": by_wallet,
    }
)
