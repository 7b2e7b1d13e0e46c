"""A change of address: begun by the user, confirmed by emails to the new and the old address."""

from starlette.requests import Request

from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import EmailAlreadyRegistered
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.attempts import check_interval
from amphibase.gateway.auth.bodies import PkceBody
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.mail_templates import AuthEmail
from amphibase.gateway.auth.users import AuthUser


async def begin_email_change(
    core: Core,
    connection: SqlConnection,
    user: AuthUser,
    new: str,
    request: Request,
    body: PkceBody,
) -> list[AuthEmail]:
    """Store the new address until it is confirmed; return the emails to send after the commit.

    Raises:
        AuthError: the last ones went out only just now.
    """
    interval = core.settings.smtp_max_frequency
    check_interval(user.row.email_change_sent_at, interval, codes.EMAIL_RATE_LIMIT)
    challenge = body.check_challenge()
    if challenge is not None:
        await core.flows.begin(connection, user.id, "email_change", challenge)
    old = user.row.email or ""
    tokens = await core.email_changes.begin(
        connection,
        user.row,
        new,
        confirms_current=core.settings.mailer_secure_email_change_enabled,
        pkce=challenge is not None,
    )
    redirect_to = core.redirects.of(request)
    recipients = [(new, tokens.new), (old, tokens.current)]
    return [
        core.templates.email_change(
            address, old, new, token, redirect_to, user.row.raw_user_meta_data or {}
        )
        for address, token in recipients
        if token is not None
    ]


async def accept_email_change(core: Core, connection: SqlConnection, user: AuthUser) -> bool:
    """Take one confirmation of a change; return False where the other email is still awaited.

    Raises:
        AuthError: another user has the address by now.
    """
    settings = core.settings
    # Where addresses need no proof, as in Supabase Auth, that of one is enough.
    confirms_both = settings.mailer_secure_email_change_enabled and not settings.mailer_autoconfirm
    needs_other = confirms_both and bool(user.row.email)
    try:
        return await core.email_changes.confirm(connection, user.row, needs_other=needs_other)
    except EmailAlreadyRegistered:
        raise AuthError(codes.UNEXPECTED_FAILURE, "Error confirm email") from None
