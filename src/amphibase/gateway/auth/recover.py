"""`POST /recover`: an email with a link that signs in to choose a new password."""

from starlette.requests import Request
from starlette.responses import Response

from amphibase.column_defaults import utc_now
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bodies import PkceBody, email_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.responses import respond


class RecoverBody(PkceBody, go_type="RecoverParams"):
    email: str = ""


async def recover(core: Core, request: Request) -> Response:
    """Send the link if the account exists; neither the response nor its time reveals it."""
    if not core.settings.external_email_enabled:
        raise AuthError(codes.EMAIL_LOGIN_DISABLED, status=400)
    body = await read(request, RecoverBody)
    if not body.email:
        raise invalid("Password recovery requires an email")
    email = email_of(body.email)
    challenge = body.check_challenge()
    await core.email_limiter.check("recovery", email)
    async with core.database.write() as connection:
        user = await core.users.find_by_email(connection, email, lock=True)
        if user is None:
            token = await core.imitate_email(
                connection, email, "recovery_token", "recovery", challenge
            )
        else:
            await core.audit.record(connection, user.row, AuditAction.RECOVERY_REQUESTED)
            if challenge is not None:
                await core.flows.begin(connection, user.id, "recovery", challenge)
            token = await core.one_time_tokens.issue(
                connection, user.id, "recovery_token", email, pkce=challenge is not None
            )
            await core.users.change(connection, user.id, recovery_sent_at=utc_now())
    data = (user.row.raw_user_meta_data if user is not None else None) or {}
    message = core.templates.recovery(email, token, core.redirects.of(request), data)
    core.send(message if user is not None else None)
    return respond({})
