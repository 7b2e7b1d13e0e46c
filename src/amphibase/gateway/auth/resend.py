"""`POST /resend`: the email of a sign-up or of a change of address again."""

from starlette.requests import Request
from starlette.responses import Response

from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.attempts import seconds_left
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bodies import PkceBody, email_of, phone_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.email_change import begin_email_change, imitate_email_change
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.sign_up import sign_up_request
from amphibase.gateway.auth.users import AuthUser

RESENDABLE = ("signup", "email_change", "sms", "phone_change")


class ResendBody(PkceBody, go_type="ResendConfirmationParams"):
    type: str = ""
    email: str = ""
    phone: str = ""


async def resend(core: Core, request: Request) -> Response:
    """Send the email or the text message again if one is pending; the response does not reveal
    it."""
    body = await read(request, ResendBody)
    if body.type not in RESENDABLE:
        raise invalid(f"Missing one of these types: {', '.join(RESENDABLE)}")
    if body.type in ("signup", "email_change"):
        body.check_challenge()
    if body.type == "signup" and not body.email:
        raise invalid("Type provided requires an email address")
    if body.type == "sms" and not body.phone:
        raise invalid("Type provided requires a phone number")
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided.")
    if body.phone:
        return await _resend_by_phone(core, request, body)
    if not body.email:
        raise invalid("Missing email address or phone number")
    if not core.settings.external_email_enabled:
        raise AuthError(codes.EMAIL_LOGIN_DISABLED, status=400)
    email = email_of(body.email)
    if body.type == "phone_change":
        async with core.database.write() as connection:
            user = await core.users.find_by_email(connection, email, lock=True)
            return await _resend_phone_change(core, connection, user)
    await core.email_limiter.check(body.type, email)
    if body.type == "signup":
        await _resend_sign_up(core, request, email, body)
    else:
        await _resend_email_change(core, request, email, body)
    return respond({})


async def _resend_by_phone(core: Core, request: Request, body: ResendBody) -> Response:
    if not core.settings.external_phone_enabled:
        raise AuthError(codes.PHONE_LOGIN_DISABLED, status=400)
    phone = phone_of(body.phone)
    if body.type == "email_change":
        await core.email_limiter.check(body.type, phone)
    async with core.database.write() as connection:
        user = await core.users.find_by_phone(connection, phone, lock=True)
        if body.type == "phone_change":
            return await _resend_phone_change(core, connection, user)
        if body.type == "sms" and user is not None and user.row.phone_confirmed_at is None:
            await core.audit.record(connection, user.row, AuditAction.RECOVERY_REQUESTED)
            message_id = await sms.send_code(core, connection, user, phone, "confirmation_token")
            return respond(sms.message(message_id))
    if body.type == "email_change" and user is not None and user.row.email:
        await _resend_email_change(core, request, user.row.email, body)
    return respond({})


async def _resend_phone_change(
    core: Core, connection: SqlConnection, user: AuthUser | None
) -> Response:
    if user is None or not user.row.phone_change:
        return respond({})
    new = user.row.phone_change
    return respond(
        sms.message(await sms.send_code(core, connection, user, new, "phone_change_token"))
    )


async def _resend_sign_up(core: Core, request: Request, email: str, body: ResendBody) -> None:
    new = sign_up_request(core, request, email, body, {})
    async with core.database.write() as connection:
        with database_errors("updating"):
            token = await core.sign_ups.renew(connection, new)
        user = await core.engine.users.find_by_email(connection, email)
        if token is not None and user is not None:
            await core.audit.record(connection, user, AuditAction.CONFIRMATION_REQUESTED)
    if token is not None:
        data = (user.raw_user_meta_data if user is not None else None) or {}
        redirect_to = core.redirects.of(request)
        core.send(core.templates.confirmation(email, token, redirect_to, data))


async def _resend_email_change(core: Core, request: Request, email: str, body: ResendBody) -> None:
    """Send the emails of a pending change again; whether there is one, nothing reveals."""
    async with core.database.write() as connection:
        row = await core.engine.users.find_by_email(connection, email, lock=True)
        if (
            row is None
            or not row.email_change
            or seconds_left(row.email_change_sent_at, core.settings.smtp_max_frequency) > 0
        ):
            await imitate_email_change(core, connection, email, request, body)
            return
        user = await core.users.of(connection, row)
        messages = await begin_email_change(core, connection, user, row.email_change, request, body)
    core.send(*messages)
