"""`GET /reauthenticate`: an email with the code that a new password requires."""

from starlette.requests import Request
from starlette.responses import Response

from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.attempts import check_interval
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bearer import signed_in
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.users import AuthUser


async def reauthenticate(core: Core, request: Request) -> Response:
    """Send the code to the signed-in user."""
    async with core.database.write() as connection:
        user = (await signed_in(core, connection, request, lock=True)).user
        action = AuditAction.REAUTHENTICATE_REQUESTED
        await core.audit.record(connection, user.row, action)
        email, phone = user.row.email, user.row.phone
        if phone and not email:
            return await _by_phone(core, connection, user, phone)
        if not email:
            raise invalid("Reauthentication requires the user to have an email or a phone number")
        if not user.is_confirmed:
            raise AuthError(codes.REAUTHENTICATION_UNCONFIRMED)
        interval = core.settings.smtp_max_frequency
        check_interval(user.row.reauthentication_sent_at, interval, codes.EMAIL_RATE_LIMIT)
        await core.email_quota.take()
        token = await core.one_time_tokens.issue(
            connection, user.id, "reauthentication_token", email
        )
        await core.users.change(connection, user.id, reauthentication_sent_at=utc_now())
    core.send(core.templates.reauthentication(email, token, user.row.raw_user_meta_data or {}))
    return respond({})


async def _by_phone(core: Core, connection: SqlConnection, user: AuthUser, phone: str) -> Response:
    if user.row.phone_confirmed_at is None:
        raise AuthError(codes.REAUTHENTICATION_PHONE_UNCONFIRMED)
    message_id = await sms.send_code(core, connection, user, phone, "reauthentication_token")
    return respond(sms.message(message_id))
