"""A change of address: begun by the user, confirmed by emails to the new and the old address."""

from starlette.requests import Request

from amphibase.accounts.email_change import EmailChangeTokens
from amphibase.accounts.one_time_tokens import EMAIL_CHANGE
from amphibase.backend import Claims
from amphibase.column_defaults import uuid7
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import EmailAlreadyRegistered
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.attempts import check_interval
from amphibase.gateway.auth.bodies import PkceBody
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.mail_templates import AuthEmail
from amphibase.gateway.auth.users import AuthUser

TRIPS_FOR_ONE, TRIPS_FOR_BOTH = 4, 6
"""How many round trips store a change with the token of one email, or of both."""

TRIPS_DISCARDED = 2
"""How many write and discard a token."""


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
    return _emails(core, request, tokens, old, new, user.row.raw_user_meta_data or {})


async def imitate_email_change(
    core: Core, connection: SqlConnection, email: str, request: Request, body: PkceBody
) -> None:
    """Cost what the emails of a change cost, where none is pending; see `Core.imitate_email`."""
    nobody = uuid7()
    challenge = body.check_challenge()
    await core.users.imitate(connection, nobody)
    token = core.one_time_tokens.new(email, "email_change_token_new", pkce=challenge is not None)
    both = core.settings.mailer_secure_email_change_enabled
    await core.sign_ups.write_and_discard(connection, email, token)
    left = (TRIPS_FOR_BOTH if both else TRIPS_FOR_ONE) - TRIPS_DISCARDED
    if challenge is not None:
        await core.flows.begin(connection, nobody, "email_change", challenge)
        await core.flows.discard(connection, nobody)
        left -= 1
    for _ in range(left):
        await core.one_time_tokens.revoke(connection, nobody, *EMAIL_CHANGE)
    _emails(core, request, EmailChangeTokens(token, token if both else None), email, email, {})


def _emails(
    core: Core, request: Request, tokens: EmailChangeTokens, old: str, new: str, data: Claims
) -> list[AuthEmail]:
    redirect_to = core.redirects.of(request)
    recipients = [(new, tokens.new), (old, tokens.current)]
    return [
        core.templates.email_change(address, old, new, token, redirect_to, data)
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
