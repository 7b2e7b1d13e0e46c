"""`/verify`: the token of a link, or a code that was typed, signs its reader in."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.oauth.flows import Challenge, FlowNotFound
from amphibase.accounts.one_time_tokens import EMAIL_CHANGE, PKCE_PREFIX, Kind
from amphibase.accounts.phones import change_phone, prove_phone
from amphibase.accounts.sign_up import ProvenSignUp
from amphibase.accounts.user_states import is_unproven_sign_up
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import AmphibaseError
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.audit import BY_EMAIL, BY_PHONE, AuditAction
from amphibase.gateway.auth.bodies import Body, email_of, phone_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.email_change import accept_email_change
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.notifications import Notification, notify, notify_phone
from amphibase.gateway.auth.redirect_responses import SESSION_FIELDS, redirect, redirect_error
from amphibase.gateway.auth.responses import respond, respond_uncached
from amphibase.gateway.auth.users import AuthUser

HALF_WAY = "Confirmation link accepted. Please proceed to confirm link sent to the other email"

SIGN_UP_METHOD = "email/signup"
"""What a flow is called that begins with a sign-up."""

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "signup": ("confirmation_token",),
    "invite": ("confirmation_token",),
    "magiclink": ("recovery_token",),
    "recovery": ("recovery_token",),
    "email": ("confirmation_token", "recovery_token"),
    "email_change": EMAIL_CHANGE,
}
SIGN_UP_KINDS = ("signup", "magiclink", "email")
"""The types that the token of a pending sign-up is sent with."""

PHONE_KINDS: Mapping[str, Kind] = {
    "sms": "confirmation_token",
    "phone_change": "phone_change_token",
}


class VerifyBody(Body, go_type="VerifyParams"):
    type: str = ""
    token: str = ""
    token_hash: str = ""
    email: str = ""
    phone: str = ""
    redirect_to: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """A user whom an email has reached.

    Args:
        kind: what the email was for, where its link says `email` alone: `signup`, `magiclink`.
        is_done: False where a change of address needs the other email too.
        password_required: whether the user has to choose a password.
        challenge: of the flow that the link ends.
        new_email: the address that has become the user's in place of another.
    """

    user: AuthUser
    kind: str = "signup"
    is_done: bool = True
    password_required: bool = False
    challenge: Challenge | None = None
    new_email: str = ""


async def follow_link(core: Core, request: Request) -> Response:
    """Respond to `GET /verify`: redirect the reader with a session, the code of a flow or an
    error."""
    query = request.query_params
    redirect_to = core.redirects.of(request)
    kind, token = query.get("type", ""), query.get("token", "")
    if not kind:
        raise invalid("Verify requires a verification type")
    if not token:
        raise invalid("Verify requires a token or a token hash")
    has_flow = token.startswith(PKCE_PREFIX)
    try:
        async with core.database.write() as connection:
            verified = await _by_token(core, connection, kind, token, has_flow=has_flow)
            response = await _redirect_verified(
                core, connection, request, kind, verified, redirect_to
            )
        await _notify_email(core, request, verified)
        return response
    except (AuthError, AmphibaseError) as error:
        return redirect_error(error, redirect_to, has_flow=has_flow)


async def _redirect_verified(
    core: Core,
    connection: SqlConnection,
    request: Request,
    kind: str,
    verified: Verified,
    redirect_to: str,
) -> Response:
    has_flow = verified.challenge is not None
    if not verified.is_done:
        fields = {"message": HALF_WAY}
        return redirect(redirect_to, query=fields if has_flow else None, fragment=fields)
    # Clients ask for a new password where the type is `recovery`.
    if verified.password_required:
        kind = "recovery"
    elif kind == "email":
        kind = verified.kind
    if verified.challenge is not None:
        code = await core.flows.issue_code(
            connection, verified.user.id, _flow_method(kind), verified.challenge
        )
        required = {"type": kind} if verified.password_required else {}
        return redirect(redirect_to, query={"code": code, **required})
    session = await core.open_session(connection, verified.user.id, request, "otp")
    tokens = {name: session[name] for name in SESSION_FIELDS}
    return redirect(redirect_to, fragment={**tokens, "type": kind})


async def verify(core: Core, request: Request) -> Response:
    """Respond to `POST /verify`: respond with a session for a code, or for the token of a link."""
    body = await read(request, VerifyBody)
    if not body.type:
        raise invalid("Verify requires a verification type")
    if bool(body.token) == bool(body.token_hash):
        raise invalid("Verify requires either a token or a token hash")
    if body.token_hash and (body.email or body.phone or body.redirect_to):
        raise invalid("Only the token_hash and type should be provided")
    if body.token and body.phone and not body.email:
        return await _verify_phone(core, request, body)
    if body.token and (body.phone or not body.email):
        raise invalid("Only an email address or phone number should be provided on verify")
    email = _email(body) if body.token else ""
    with core.attempts.counting(email) if email else nullcontext():
        async with core.database.write() as connection:
            if email:
                verified = await _by_code(core, connection, body.type, email, body.token)
            else:
                verified = await _by_token(
                    core, connection, body.type, body.token_hash, has_flow=False
                )
            if not verified.is_done:
                return respond({"msg": HALF_WAY, "code": "200"})
            session = await core.open_session(connection, verified.user.id, request, "otp")
    await _notify_email(core, request, verified)
    required = {"password_required": True} if verified.password_required else {}
    return respond_uncached({**session, **required})


async def _notify_email(core: Core, request: Request, verified: Verified) -> None:
    old, new = verified.user.row.email or "", verified.new_email
    if old and new and old != new:
        await notify(
            core,
            request,
            Notification.EMAIL_CHANGED,
            verified.user,
            Email=new,
            OldEmail=old,
        )


def _email(body: VerifyBody) -> str:
    try:
        return email_of(body.email)
    except AuthError:
        raise invalid("Invalid email format", 422) from None


async def _verify_phone(core: Core, request: Request, body: VerifyBody) -> Response:
    phone, kind = phone_of(body.phone), PHONE_KINDS.get(body.type)
    with core.attempts.counting(phone):
        async with core.database.write() as connection:
            user = await sms.redeem(core, connection, phone, kind, body.token) if kind else None
            if user is None or kind is None:
                raise AuthError(codes.OTP_EXPIRED)
            _check_ban(user)
            with database_errors("updating"):
                if kind == "phone_change_token":
                    await change_phone(core.engine, connection, user.row, phone)
                    await core.engine.users.sync_providers(connection, user.id)
                    action, traits = AuditAction.MODIFIED, None
                else:
                    await prove_phone(core.engine, connection, user.row)
                    action, traits = AuditAction.SIGNED_UP, BY_PHONE
            await core.audit.record(connection, user.row, action, traits=traits)
            session = await core.open_session(connection, user.id, request, "otp")
    if kind == "phone_change_token":
        await notify_phone(core, request, user, phone)
    return respond_uncached(session)


async def _by_token(
    core: Core, connection: SqlConnection, kind: str, token: str, *, has_flow: bool
) -> Verified:
    kinds = KINDS.get(kind)
    if kinds is None:
        raise invalid("Invalid email verification type")
    if kind in SIGN_UP_KINDS:
        proven = await _redeem_sign_up(core, connection, token)
        if proven is not None:
            return await _sign_up_verified(core, connection, proven, has_flow=has_flow)
    redeemed = await core.one_time_tokens.redeem_any(connection, token, *kinds)
    user = None
    if redeemed is not None:
        user = await core.users.find(connection, redeemed[0], lock=True)
    if redeemed is None or user is None:
        raise AuthError(codes.OTP_EXPIRED, "Email link is invalid or has expired")
    challenge = None
    if has_flow:
        try:
            challenge = await core.flows.challenge(connection, user.id, _flow_method(kind))
        except FlowNotFound:
            raise AuthError(codes.FLOW_STATE_MISSING) from None
    return await _accept(core, connection, user, redeemed[1], challenge)


async def _by_code(
    core: Core, connection: SqlConnection, kind: str, email: str, code: str
) -> Verified:
    kinds = KINDS.get(kind)
    if kinds is None:
        raise AuthError(codes.OTP_EXPIRED)
    if kind in SIGN_UP_KINDS:
        tokens = core.one_time_tokens.of_code(email, "confirmation_token", code)
        proven = await _redeem_sign_up(core, connection, *tokens)
        if proven is not None:
            return await _sign_up_verified(core, connection, proven, has_flow=False)
    user = await core.users.find_by_email(connection, email, lock=True)
    if kind == "email_change" and (user is None or is_unproven_sign_up(user.row)):
        # A sign-up with the address that nobody has proven stands in the way of nobody.
        user = await core.users.find_by_new_email(connection, email) or user
    if kind == "email_change" and user is not None:
        # Each email's code is sent with the address that the email went to.
        kinds = kinds[:1] if user.row.email == email else kinds[1:]
    used = None
    if user is not None:
        used = await core.one_time_tokens.redeem_code(
            connection, user.id, code, *kinds, sent_to=email
        )
    if user is None or used is None:
        raise AuthError(codes.OTP_EXPIRED)
    return await _accept(core, connection, user, used, None)


async def _redeem_sign_up(
    core: Core, connection: SqlConnection, *tokens: str
) -> ProvenSignUp | None:
    keeps_password = not core.settings.mailer_confirmation_asks_password
    with database_errors("updating"):
        return await core.sign_ups.redeem(connection, *tokens, keeps_password=keeps_password)


async def _sign_up_verified(
    core: Core, connection: SqlConnection, proven: ProvenSignUp, *, has_flow: bool
) -> Verified:
    user = await core.users.get(connection, proven.user.id)
    _check_ban(user)
    await core.audit.record(connection, user.row, AuditAction.SIGNED_UP, traits=BY_EMAIL)
    challenge = None
    if has_flow:
        sign_up = proven.sign_up
        challenge = Challenge(sign_up.code_challenge, sign_up.code_challenge_method)
    return Verified(user, password_required=proven.password_required, challenge=challenge)


async def _accept(
    core: Core,
    connection: SqlConnection,
    user: AuthUser,
    kind: Kind,
    challenge: Challenge | None,
) -> Verified:
    _check_ban(user)
    with database_errors("updating"):
        if kind in EMAIL_CHANGE:
            is_done = await accept_email_change(core, connection, user)
            if is_done:
                await core.audit.record(connection, user.row, AuditAction.MODIFIED)
            new = user.row.email_change if is_done else ""
            return Verified(user, is_done=is_done, challenge=challenge, new_email=new)
        # As in Supabase Auth: an email of a sign-up alone is one that its identity is about.
        marks = kind == "confirmation_token"
        await core.engine.prove_email(connection, user.row, marks_identities=marks)
    if user.is_confirmed:
        await core.audit.record(connection, user.row, AuditAction.LOGIN)
    else:
        await core.audit.record(connection, user.row, AuditAction.SIGNED_UP, traits=BY_EMAIL)
    purpose = "magiclink" if kind == "recovery_token" else "signup"
    return Verified(user, purpose, challenge=challenge)


def _check_ban(user: AuthUser) -> None:
    if user.is_banned:
        raise AuthError(codes.USER_BANNED)


def _flow_method(kind: str) -> str:
    return SIGN_UP_METHOD if kind == "signup" else kind
