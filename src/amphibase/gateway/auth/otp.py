"""`POST /otp`: an email with a code and a link that sign in; makes the account if need be."""

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.phones import is_unproven_by_phone
from amphibase.accounts.sign_up import SignUpEmail
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bodies import PkceBody, email_of, phone_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.mail_templates import AuthEmail
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.sign_up import (
    add_by_phone,
    audit_pending,
    check_new_email,
    check_open,
    send_sign_up,
    sign_up_request,
)
from amphibase.gateway.auth.users import AuthUser


class MagicLinkBody(PkceBody, go_type="MagicLinkParams"):
    email: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class OtpBody(MagicLinkBody, go_type="OtpParams"):
    phone: str = ""
    channel: str = ""
    create_user: bool = True


async def otp(core: Core, request: Request) -> Response:
    """Send a code and a link that sign in."""
    body = await read(request, OtpBody)
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided")
    if body.email and body.channel:
        raise invalid("Channel should only be specified with Phone OTP")
    body.check_challenge()
    if body.phone:
        return await _send_sms(core, request, body)
    if not body.email:
        raise invalid("One of email or phone must be set")
    return await _send(core, request, body, create_user=body.create_user)


async def magic_link(core: Core, request: Request) -> Response:
    """Respond to `POST /magiclink`: the same, as older clients send it."""
    _check_magic_links(core)
    fault = "Could not read verification params"
    body = await read(request, MagicLinkBody, fault=fault, streamed=True)
    if not body.email:
        raise invalid("Password recovery requires an email", 422)
    return await _send(core, request, body)


def _check_magic_links(core: Core) -> None:
    if not core.settings.external_email_enabled:
        raise AuthError(codes.EMAIL_LOGIN_DISABLED)
    if not core.settings.external_email_magic_link_enabled:
        raise AuthError(codes.EMAIL_LOGIN_DISABLED, "Login with magic link is disabled")


async def _send(
    core: Core, request: Request, body: MagicLinkBody, *, create_user: bool = True
) -> Response:
    _check_magic_links(core)
    email = _address(body.email, create_user=create_user)
    body.check_challenge()
    await core.email_limiter.check("otp", email)
    async with core.database.write() as connection:
        user = await core.users.find_by_email(connection, email, lock=True)
        message = None
        if user is not None and user.is_confirmed:
            await core.audit.record(connection, user.row, AuditAction.RECOVERY_REQUESTED)
            message = await _sign_in_email(core, connection, user, request, body)
    if message is not None:
        core.send(message)
        return respond({})
    if user is None:
        if not create_user:
            raise AuthError(codes.OTP_DISABLED)
        check_open(core)
    # A sign-up without a password, which waits beside those with one.
    new = sign_up_request(core, request, email, body, body.data)
    await check_new_email(core, request, new)
    with database_errors("saving new"):
        result = await core.sign_ups.add_pending(new)
    await audit_pending(core, email, result)
    if core.settings.mailer_autoconfirm and result.email is SignUpEmail.CONFIRMATION:
        redirect_to = core.redirects.of(request)
        core.send(core.templates.magic_link(email, result.token, redirect_to, body.data))
    else:
        send_sign_up(core, request, email, result, body.data)
    return respond({})


def _address(text: str, *, create_user: bool) -> str:
    """Return the address as accounts store it.

    Raises:
        AuthError: it is malformed; as of one without an account, where none may be made.
    """
    try:
        return email_of(text)
    except AuthError:
        if create_user:
            raise
        raise AuthError(codes.OTP_DISABLED) from None


def _number(text: str, *, create_user: bool) -> str:
    """Return the number as accounts store it. Raises AuthError, as `_address` does."""
    try:
        return phone_of(text)
    except AuthError:
        if create_user:
            raise
        raise AuthError(codes.OTP_DISABLED) from None


async def _send_sms(core: Core, request: Request, body: OtpBody) -> Response:
    if not core.settings.external_phone_enabled:
        raise AuthError(codes.PHONE_DISABLED)
    phone = _number(body.phone, create_user=body.create_user)
    sms.check_channel(core, body.channel)
    async with core.database.write() as connection:
        user = await core.users.find_by_phone(connection, phone, lock=True)
        if user is None:
            if not body.create_user:
                raise AuthError(codes.OTP_DISABLED)
            check_open(core)
            user = await add_by_phone(core, connection, request, phone, "", body.data)
        elif is_unproven_by_phone(user.row):
            # Who asks for a code did not choose the password of the sign-up.
            await core.users.change(connection, user.id, encrypted_password="")
        traits = {"channel": body.channel or "sms"}
        action = AuditAction.RECOVERY_REQUESTED
        await core.audit.record(connection, user.row, action, traits=traits)
        message_id = await sms.send_code(core, connection, user, phone, "confirmation_token")
    return respond(sms.message(message_id))


async def _sign_in_email(
    core: Core, connection: SqlConnection, user: AuthUser, request: Request, body: PkceBody
) -> AuthEmail:
    challenge = body.check_challenge()
    if challenge is not None:
        await core.flows.begin(connection, user.id, "magiclink", challenge)
    email = user.row.email
    token = await core.one_time_tokens.issue(
        connection, user.id, "recovery_token", email, pkce=challenge is not None
    )
    await core.users.change(connection, user.id, recovery_sent_at=utc_now())
    data = user.row.raw_user_meta_data or {}
    return core.templates.magic_link(email, token, core.redirects.of(request), data)
