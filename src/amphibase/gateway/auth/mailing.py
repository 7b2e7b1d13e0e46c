"""What is asked for by letter: a magic link, a new password, the confirmation again, a code.

Each answers `{}` whether or not there is such an account, as far as Supabase's Auth does.
"""

from email.message import EmailMessage
from typing import Any

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.one_time_tokens import Kind
from amphibase.gateway.auth.bearer import signed_in
from amphibase.gateway.auth.bodies import Pkce, email_of, read
from amphibase.gateway.auth.codes import EMAIL_CHANGE
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid, no_phone
from amphibase.gateway.auth.settings_endpoint import answer
from amphibase.gateway.auth.sign_up import (
    check_open,
    confirm_by_letter,
    find_or_add,
    sign_up_again,
)
from amphibase.gateway.auth.users import Person
from amphibase.models import utc_now

RESENDABLE = ("signup", "email_change", "sms", "phone_change")


class Otp(Pkce):
    email: str = ""
    phone: str = ""
    create_user: bool = True
    data: dict[str, Any] = Field(default_factory=dict)


class Recover(Pkce):
    email: str = ""


class Resend(Pkce):
    type: str = ""
    email: str = ""
    phone: str = ""


async def otp(core: Core, request: Request) -> Response:
    """`POST /otp`: a letter with a code and a link that sign in; makes the account if need be."""
    body = await read(request, Otp)
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided")
    if body.phone:
        raise no_phone("Phone logins")
    if not body.email:
        raise invalid("One of email or phone must be set")
    return await _magic_link(core, request, body)


async def magic_link(core: Core, request: Request) -> Response:
    """`POST /magiclink`: the same, as older clients ask for it."""
    body = await read(request, Otp)
    if not body.email:
        raise invalid("An email address is required")
    return await _magic_link(core, request, body)


async def _magic_link(core: Core, request: Request, body: Otp) -> Response:
    if not core.settings.external_email_enabled:
        raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
    body.check_challenge()
    email = email_of(body.email)
    letter: EmailMessage
    async with core.database.write() as connection:
        person = await core.users.find_by_email(connection, email, lock=True)
        if person is None:
            if not body.create_user:
                raise AuthError(422, "otp_disabled", "Signups not allowed for otp")
            check_open(core)
            person, _ = await find_or_add(core, connection, email, None, body.data)
        else:
            data = {**(person.row.raw_user_meta_data or {}), **body.data}
            await sign_up_again(core, connection, person, None, data)
        if person.is_confirmed or core.settings.mailer_autoconfirm:
            letter = await _sign_in_by_letter(core, connection, person, request, body)
        else:
            letter = await confirm_by_letter(core, connection, person, request, body)
    core.send(letter)
    return answer({})


async def recover(core: Core, request: Request) -> Response:
    """`POST /recover`: a letter with a link that signs in to choose a new password."""
    body = await read(request, Recover)
    if not body.email:
        raise invalid("Password recovery requires an email")
    with_code = body.check_challenge()
    email = email_of(body.email)
    async with core.database.write() as connection:
        person = await core.users.find_by_email(connection, email, lock=True)
        if person is None:
            return answer({})
        core.check_frequency(person.row.recovery_sent_at)
        if with_code:
            await core.flows.begin(connection, person.id, "recovery", body)
        secret = await core.codes.issue(
            connection, person.id, "recovery_token", email, pkce=with_code
        )
        await core.users.change(connection, person.id, recovery_sent_at=utc_now())
    core.send(core.letters.recovery(email, secret, core.redirects.of(request)))
    return answer({})


async def resend(core: Core, request: Request) -> Response:
    """`POST /resend`: the letter of a sign-up or of a change of address again."""
    body = await read(request, Resend)
    if body.type not in RESENDABLE:
        raise invalid(f"Missing one of these types: {', '.join(RESENDABLE)}")
    if body.type in ("sms", "phone_change"):
        raise no_phone("Text messages")
    if body.phone:
        raise invalid("Only an email address should be provided for this type")
    if not body.email:
        raise invalid("Type provided requires an email address")
    if not core.settings.external_email_enabled:
        raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
    body.check_challenge()
    email = email_of(body.email)
    letters: list[EmailMessage] = []
    async with core.database.write() as connection:
        person = await core.users.find_by_email(connection, email, lock=True)
        if person is None:
            return answer({})
        if body.type == "signup" and not person.is_confirmed:
            letters = [await confirm_by_letter(core, connection, person, request, body)]
        elif body.type == "email_change" and person.row.email_change:
            letters = await change_by_letter(
                core, connection, person, person.row.email_change, request, body
            )
    core.send(*letters)
    return answer({})


async def reauthenticate(core: Core, request: Request) -> Response:
    """`GET /reauthenticate`: a letter with the code that a new password asks for."""
    async with core.database.write() as connection:
        person = (await signed_in(core, connection, request, lock=True)).person
        email = person.row.email
        if not email:
            raise invalid("Reauthentication requires the user to have an email or a phone number")
        if not person.is_confirmed:
            raise AuthError(422, "email_not_confirmed", "Please verify your email first.")
        core.check_frequency(person.row.reauthentication_sent_at)
        secret = await core.codes.issue(connection, person.id, "reauthentication_token", email)
        await core.users.change(connection, person.id, reauthentication_sent_at=utc_now())
    core.send(core.letters.reauthentication(email, secret))
    return answer({})


async def change_by_letter(
    core: Core,
    connection: AsyncConnection,
    person: Person,
    new: str,
    request: Request,
    pkce: Pkce,
) -> list[EmailMessage]:
    """Letters that ask to confirm a change of address; send them after the commit.

    Raises:
        AuthError: the last one went out only just now.
    """
    core.check_frequency(person.row.email_change_sent_at)
    with_code = pkce.check_challenge()
    if with_code:
        await core.flows.begin(connection, person.id, "email_change", pkce)
    old = person.row.email or ""
    await core.codes.revoke(connection, person.id, *EMAIL_CHANGE)
    await core.users.change(
        connection,
        person.id,
        email_change=new,
        email_change_sent_at=utc_now(),
        email_change_confirm_status=0,
    )
    goes_to: dict[Kind, str] = {"email_change_token_new": new}
    if old and core.settings.mailer_secure_email_change_enabled:
        goes_to["email_change_token_current"] = old
    letters = []
    for kind, address in goes_to.items():
        secret = await core.codes.issue(connection, person.id, kind, address, pkce=with_code)
        redirect_to = core.redirects.of(request)
        letters.append(core.letters.email_change(address, old, new, secret, redirect_to))
    return letters


async def _sign_in_by_letter(
    core: Core, connection: AsyncConnection, person: Person, request: Request, pkce: Pkce
) -> EmailMessage:
    core.check_frequency(person.row.recovery_sent_at)
    with_code = pkce.check_challenge()
    if with_code:
        await core.flows.begin(connection, person.id, "magiclink", pkce)
    email = person.row.email
    secret = await core.codes.issue(connection, person.id, "recovery_token", email, pkce=with_code)
    await core.users.change(connection, person.id, recovery_sent_at=utc_now())
    return core.letters.magic_link(email, secret, core.redirects.of(request))
