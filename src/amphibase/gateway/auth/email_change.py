"""A change of address: begun by the user, confirmed by emails to the new and the old address."""

from email.message import EmailMessage

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request

from amphibase.accounts.one_time_tokens import EMAIL_CHANGE, Kind
from amphibase.gateway.auth.bodies import PkceBody
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.users import AuthUser
from amphibase.models import utc_now


async def begin_email_change(
    core: Core,
    connection: AsyncConnection,
    user: AuthUser,
    new: str,
    request: Request,
    body: PkceBody,
) -> list[EmailMessage]:
    """Store the new address until it is confirmed; return the emails to send after the commit.

    Raises:
        AuthError: the last ones went out only just now.
    """
    core.check_frequency(user.row.email_change_sent_at)
    has_challenge = body.check_challenge()
    if has_challenge:
        await core.flows.begin(connection, user.id, "email_change", body)
    old = user.row.email or ""
    await core.one_time_tokens.revoke(connection, user.id, *EMAIL_CHANGE)
    await core.users.change(
        connection,
        user.id,
        email_change=new,
        email_change_sent_at=utc_now(),
        email_change_confirm_status=0,
    )
    recipients: dict[Kind, str] = {"email_change_token_new": new}
    if old and core.settings.mailer_secure_email_change_enabled:
        recipients["email_change_token_current"] = old
    messages = []
    for kind, address in recipients.items():
        token = await core.one_time_tokens.issue(
            connection, user.id, kind, address, pkce=has_challenge
        )
        redirect_to = core.redirects.of(request)
        messages.append(core.templates.email_change(address, old, new, token, redirect_to))
    return messages


async def accept_email_change(core: Core, connection: AsyncConnection, user: AuthUser) -> bool:
    """Take one confirmation of a change; return False where the other email is still awaited.

    Raises:
        EmailAlreadyRegistered: another user has the address by now.
    """
    row = user.row
    needs_both = core.settings.mailer_secure_email_change_enabled and row.email
    if needs_both and row.email_change_confirm_status == 0:
        await core.users.change(connection, user.id, email_change_confirm_status=1)
        return False
    await core.engine.change_email(connection, row, row.email_change)
    return True
