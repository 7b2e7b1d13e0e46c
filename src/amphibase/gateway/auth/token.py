"""`POST /token`: a session for a password, a refresh token or the code of a flow."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.passwords import needs_rehash
from amphibase.accounts.sessions import Opened, Refusal
from amphibase.gateway.auth.bodies import Body, phone_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.password_policy import weakness
from amphibase.gateway.auth.settings_endpoint import session, unsupported_provider
from amphibase.models import utc_now


class Password(Body):
    email: str = ""
    phone: str = ""
    password: str = ""


class Refresh(Body):
    refresh_token: str = ""


class Code(Body):
    auth_code: str = ""
    code_verifier: str = ""


class IdToken(Body):
    provider: str = ""


class Wallet(Body):
    chain: str = ""


async def token(core: Core, request: Request) -> Response:
    """A session, by the kind of grant that the query names."""
    grant = GRANTS.get(request.query_params.get("grant_type", ""))
    if grant is None:
        raise AuthError(400, "invalid_credentials", "unsupported_grant_type")
    return session(await grant(core, request))


async def by_password(core: Core, request: Request) -> Mapping[str, Any]:
    body = await read(request, Password)
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided on login.")
    row = await _who(core, body)
    hashed = row.encrypted_password if row else None
    matches = await core.passwords.verify(body.password, hashed)
    if row is None or not hashed or not matches:
        raise _wrong()
    now = utc_now()
    if row.banned_until is not None and row.banned_until > now:
        raise AuthError(400, "user_banned", "User is banned")
    if body.phone and row.phone_confirmed_at is None:
        raise AuthError(400, "phone_not_confirmed", "Phone not confirmed")
    if body.email and row.email_confirmed_at is None:
        raise AuthError(400, "email_not_confirmed", "Email not confirmed")
    values: dict[str, Any] = {"last_sign_in_at": now}
    if needs_rehash(hashed):
        values["encrypted_password"] = await core.passwords.hash(body.password)
    async with core.database.write() as connection:
        # It may have been changed, or the user banned, while the hash was computed.
        if not await core.rows.change_if_password_is(connection, row.id, hashed, **values):
            raise _wrong()
        opened = await core.open_session(connection, row.id, request, "password")
    if fault := weakness(core.settings, body.password):
        opened["weak_password"] = {"message": fault.message, "reasons": fault.reasons}
    return opened


async def _who(core: Core, body: Password) -> Row[Any] | None:
    if body.phone:
        core.check_phones("Phone logins")
        phone = phone_of(body.phone)
        async with core.database.read() as connection:
            person = await core.users.find_by_phone(connection, phone)
        return person.row if person else None
    if not body.email:
        raise invalid("missing email or phone")
    if not core.settings.external_email_enabled:
        raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
    async with core.database.read() as connection:
        return await core.rows.find_by_email(connection, body.email.strip())


async def by_refresh_token(core: Core, request: Request) -> Mapping[str, Any]:
    body = await read(request, Refresh)
    if not body.refresh_token:
        raise invalid("refresh_token required")
    async with core.database.write() as connection:
        result = await core.sessions.rotate(connection, body.refresh_token)
        person = None
        if isinstance(result, Opened):
            person = await core.users.find(connection, result.user_id)
            if person is not None and person.is_banned:
                raise AuthError(400, "user_banned", "Invalid Refresh Token: User Banned")
    # Raised only here: what a refusal did to the session is committed by now.
    match result:
        case Opened() if person is not None and person.row.deleted_at is None:
            return core.session_answer(person, result)
        case Refusal.REUSED:
            code, why = "refresh_token_already_used", "Already Used"
        case Refusal.EXPIRED:
            code, why = "session_expired", "Session Expired"
        case _:
            code, why = "refresh_token_not_found", "Refresh Token Not Found"
    raise AuthError(400, code, f"Invalid Refresh Token: {why}")


async def by_code(core: Core, request: Request) -> Mapping[str, Any]:
    body = await read(request, Code)
    if not body.auth_code or not body.code_verifier:
        raise invalid("invalid request: both auth code and code verifier should be non-empty")
    async with core.database.write() as connection:
        flow = await core.flows.redeem(connection, body.auth_code, body.code_verifier)
        person = await core.users.get(connection, flow.user_id, lock=True)
        if person.is_banned:
            raise AuthError(400, "user_banned", "User is banned")
        return await core.open_session(connection, person.id, request, flow.authentication_method)


async def by_id_token(core: Core, request: Request) -> Mapping[str, Any]:
    """A third party's word for who somebody is; none is believed yet."""
    raise unsupported_provider((await read(request, IdToken)).provider)


async def by_wallet(core: Core, request: Request) -> Mapping[str, Any]:
    """A signature by the key of a wallet, which signs nobody in."""
    if (await read(request, Wallet)).chain not in ("ethereum", "solana"):
        raise AuthError(400, "web3_unsupported_chain", "Unsupported chain")
    raise AuthError(422, "web3_provider_disabled", "Web3 provider is disabled")


def _wrong() -> AuthError:
    return AuthError(400, "invalid_credentials", "Invalid login credentials")


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
