"""`/verify`: what a letter held comes back, as the token of a link that was followed or as a code
that was typed, and signs its reader in."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from amphibase.accounts.one_time_tokens import Kind
from amphibase.accounts.users import merged
from amphibase.gateway.auth.bodies import Body, email_of, read
from amphibase.gateway.auth.codes import EMAIL_CHANGE, PKCE_PREFIX
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid, no_phone
from amphibase.gateway.auth.settings_endpoint import answer, session
from amphibase.gateway.auth.sign_up import EMAIL_METHOD, sign_up_again
from amphibase.gateway.auth.users import Person
from amphibase.models import utc_now

HALF_WAY = "Confirmation link accepted. Please proceed to confirm link sent to the other email"

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "signup": ("confirmation_token",),
    "invite": ("confirmation_token",),
    "magiclink": ("recovery_token",),
    "recovery": ("recovery_token",),
    "email": ("confirmation_token", "recovery_token"),
    "email_change": EMAIL_CHANGE,
}
OAUTH_ERRORS = {400: "invalid_request", 401: "unauthorized_client", 403: "access_denied"}
METHODS = {"signup": EMAIL_METHOD}
"""What the flow of a type of letter is called, where it is not the type."""


class Verify(Body):
    type: str = ""
    token: str = ""
    token_hash: str = ""
    email: str = ""
    phone: str = ""
    redirect_to: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """Who has shown that a letter reached them.

    Args:
        is_done: False where a change of address needs the other letter too.
    """

    person: Person
    is_done: bool = True


async def follow_link(core: Core, request: Request) -> Response:
    """`GET /verify`: sends the reader on, with a session, the code of a flow or an error."""
    query = request.query_params
    redirect_to = core.redirects.of(request)
    kind, token = query.get("type", ""), query.get("token", "") or query.get("token_hash", "")
    has_flow = token.startswith(PKCE_PREFIX)
    try:
        if not kind:
            raise invalid("Verify requires a verification type")
        if not token:
            raise invalid("Verify requires a token or a token hash")
        async with core.database.write() as connection:
            verified = await _by_token(core, connection, kind, token)
            if not verified.is_done:
                found = {"message": HALF_WAY}
            elif has_flow:
                method = METHODS.get(kind, kind)
                code = await core.flows.hand_out_code(connection, verified.person.id, method)
                found = {"code": code}
            else:
                found = await core.open_session(connection, verified.person.id, request, "otp")
    except AuthError as error:
        if error.status >= 500:
            raise
        fault = {
            "error": OAUTH_ERRORS.get(error.status, "server_error"),
            "error_code": error.code,
            "error_description": error.message,
        }
        return _sent_on(redirect_to, query=fault, fragment=fault)
    if not verified.is_done:
        return _sent_on(redirect_to, query=found if has_flow else None, fragment=found)
    if has_flow:
        return _sent_on(redirect_to, query=found)
    names = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
    tokens = {name: found[name] for name in names}
    return _sent_on(redirect_to, fragment={**tokens, "type": kind})


async def verify(core: Core, request: Request) -> Response:
    """`POST /verify`: a session for a code, or for the token of a link."""
    body = await read(request, Verify)
    if not body.type:
        raise invalid("Verify requires a verification type")
    if body.phone or body.type in ("sms", "phone_change"):
        raise no_phone("Text messages")
    if bool(body.token) == bool(body.token_hash):
        raise invalid("Verify requires either a token or a token hash")
    if body.token_hash and body.email:
        raise invalid("Only the token_hash and type should be provided")
    if body.token and not body.email:
        raise invalid("Only an email address or phone number should be provided on verify")
    email = email_of(body.email) if body.token else ""
    with core.guesses.counting(email) if email else nullcontext():
        async with core.database.write() as connection:
            if email:
                verified = await _by_code(core, connection, body.type, email, body.token)
            else:
                verified = await _by_token(core, connection, body.type, body.token_hash)
            if verified.is_done:
                opened = await core.open_session(connection, verified.person.id, request, "otp")
    if not verified.is_done:
        return answer({"msg": HALF_WAY, "code": "200"})
    return session(opened)


async def _by_token(core: Core, connection: AsyncConnection, kind: str, token: str) -> Verified:
    redeemed = await core.codes.redeem_token(connection, token, *_kinds(kind))
    person = None
    if redeemed is not None:
        person = await core.users.find(connection, redeemed[0], lock=True)
    if redeemed is None or person is None:
        raise AuthError(403, "otp_expired", "Email link is invalid or has expired")
    return await _accept(core, connection, person, redeemed[1])


async def _by_code(
    core: Core, connection: AsyncConnection, kind: str, email: str, code: str
) -> Verified:
    kinds = _kinds(kind)
    person = await core.users.find_by_email(connection, email, lock=True)
    if person is None and kind == "email_change":
        person = await core.users.find_by_new_email(connection, email)
    if kind == "email_change" and person is not None:
        # Each letter's code comes with the address that the letter went to.
        kinds = kinds[:1] if person.row.email == email else kinds[1:]
    used = None
    if person is not None:
        used = await core.codes.redeem_code(connection, person.id, code, *kinds)
    if person is None or used is None:
        raise AuthError(403, "otp_expired", "Token has expired or is invalid")
    return await _accept(core, connection, person, used)


async def _accept(core: Core, connection: AsyncConnection, person: Person, kind: Kind) -> Verified:
    if person.is_banned:
        raise AuthError(403, "user_banned", "User is banned")
    if kind in EMAIL_CHANGE:
        return await _accept_change(core, connection, person)
    if kind == "recovery_token":
        known = person.row.raw_user_meta_data or {}
        await sign_up_again(core, connection, person, None, known)
    await core.users.confirm_email(connection, person)
    await core.users.verify_identities(connection, person)
    return Verified(person)


async def _accept_change(core: Core, connection: AsyncConnection, person: Person) -> Verified:
    row = person.row
    needs_both = core.settings.mailer_secure_email_change_enabled and row.email
    if needs_both and row.email_change_confirm_status == 0:
        await core.users.change(connection, person.id, email_change_confirm_status=1)
        return Verified(person, is_done=False)
    await take_new_email(core, connection, person, row.email_change)
    return Verified(person)


async def take_new_email(
    core: Core, connection: AsyncConnection, person: Person, email: str
) -> None:
    """Make an address that is known to be theirs the user's own; nobody is anonymous after that.

    Raises:
        AuthError: somebody else has it by now.
    """
    metadata = {"email": email, "email_verified": True, "phone_verified": False}
    now = utc_now()
    await core.users.revoke_links(connection, person.id)
    await core.users.change(
        connection,
        person.id,
        email=email,
        email_change="",
        email_change_confirm_status=0,
        email_confirmed_at=person.row.email_confirmed_at or now,
        is_anonymous=False,
        raw_user_meta_data=merged(
            person.row.raw_user_meta_data, {"sub": str(person.id), **metadata}
        ),
    )
    await core.users.set_identity(connection, person.id, "email", email, verified=True)
    await core.users.note_providers(connection, person.id)


def _kinds(kind: str) -> tuple[Kind, ...]:
    try:
        return KINDS[kind]
    except KeyError:
        raise invalid("Unsupported verification type") from None


def _sent_on(
    url: str,
    *,
    query: Mapping[str, Any] | None = None,
    fragment: Mapping[str, Any] | None = None,
) -> Response:
    # By hand, since to take a URL apart and write it anew makes `app:` of `app://`.
    target = url.partition("#")[0]
    if query:
        target += f"{'&' if '?' in target else '?'}{urlencode(query)}"
    if fragment:
        target += f"#{urlencode(fragment)}"
    return RedirectResponse(target, 303, {"cache-control": "no-store"})
