"""Links that whoever administers the project asks for: to send them oneself, or to invite."""

from typing import Any

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.one_time_tokens import Kind
from amphibase.accounts.users import merged
from amphibase.gateway.auth.bearer import demand_admin
from amphibase.gateway.auth.bodies import Body, email_of, read
from amphibase.gateway.auth.codes import EMAIL_CHANGE, Secret
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.password_policy import check_strength
from amphibase.gateway.auth.serializers import user as user_answer
from amphibase.gateway.auth.settings_endpoint import answer
from amphibase.gateway.auth.sign_up import find_or_add, sign_up_again
from amphibase.gateway.auth.users import EMAIL_EXISTS, Person
from amphibase.models import utc_now


class Invitation(Body):
    email: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class LinkRequest(Body):
    type: str = ""
    email: str = ""
    new_email: str = ""
    password: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    redirect_to: str = ""


async def invite(core: Core, request: Request) -> Response:
    """`POST /invite`: makes a user who has yet to accept, and sends the letter."""
    demand_admin(core, request)
    body = await read(request, Invitation)
    email = email_of(body.email)
    async with core.database.write() as connection:
        person = await _invited(core, connection, email, body.data)
        secret = await core.codes.issue(connection, person.id, "confirmation_token", email)
        person = await core.users.get(connection, person.id)
    core.send(core.letters.invitation(email, secret, core.redirects.of(request)))
    return answer(user_answer(person))


async def generate_link(core: Core, request: Request) -> Response:
    """`POST /admin/generate_link`: the user, with the link and the code that a letter would
    hold; none is sent."""
    demand_admin(core, request)
    body = await read(request, LinkRequest)
    email = email_of(body.email)
    redirect_to = core.redirects.of(request, body.redirect_to)
    # The type of a link to a new account, whatever was asked for, is that of a sign-up.
    kind = body.type
    hashed = await _hash_for(core, body)
    async with core.database.write() as connection:
        match kind:
            case "signup":
                person = await _signed_up(core, connection, email, hashed, body.data)
                secret = await _confirmation(core, connection, person)
            case "invite":
                person = await _invited(core, connection, email, body.data)
                secret = await _confirmation(core, connection, person)
            case "magiclink":
                person, is_new = await find_or_add(core, connection, email, hashed, body.data)
                kind = "signup" if is_new else kind
                secret = await (_confirmation if is_new else _recovery)(core, connection, person)
            case "recovery":
                person = await _known(core, connection, email)
                secret = await _recovery(core, connection, person)
            case "email_change_current" | "email_change_new":
                person = await _known(core, connection, email)
                new = email_of(body.new_email)
                secret = await _change(core, connection, person, kind, new)
            case _:
                raise invalid(f"Invalid email action link type requested: {kind}")
        person = await core.users.get(connection, person.id)
    link_kind = "email_change" if kind.startswith("email_change") else kind
    return answer(
        {
            **user_answer(person),
            "action_link": core.letters.link(link_kind, secret.token, redirect_to),
            "email_otp": secret.code,
            "hashed_token": secret.token,
            "verification_type": kind,
            "redirect_to": redirect_to,
        }
    )


async def _hash_for(core: Core, body: LinkRequest) -> str | None:
    if body.type == "signup":
        if not body.password:
            raise invalid("Signup requires a valid password")
        check_strength(core.settings, body.password)
        return await core.passwords.hash(body.password)
    return None


async def _known(core: Core, connection: AsyncConnection, email: str) -> Person:
    person = await core.users.find_by_email(connection, email, lock=True)
    if person is None:
        raise AuthError(404, "user_not_found", "User with this email not found")
    return person


async def _signed_up(
    core: Core,
    connection: AsyncConnection,
    email: str,
    hashed: str | None,
    data: dict[str, Any],
) -> Person:
    person, is_new = await find_or_add(core, connection, email, hashed, data)
    if person.is_confirmed:
        raise AuthError(422, "email_exists", EMAIL_EXISTS)
    if not is_new:
        await core.users.change(
            connection,
            person.id,
            raw_user_meta_data=merged(person.row.raw_user_meta_data, data),
            encrypted_password=hashed,
        )
    return person


async def _invited(
    core: Core, connection: AsyncConnection, email: str, data: dict[str, Any]
) -> Person:
    person, _ = await find_or_add(core, connection, email, None, data)
    if person.is_confirmed:
        raise AuthError(422, "email_exists", EMAIL_EXISTS)
    known = person.row.raw_user_meta_data or {}
    await sign_up_again(core, connection, person, None, {**known, **data})
    now = utc_now()
    await core.users.change(connection, person.id, invited_at=now, confirmation_sent_at=now)
    return person


async def _confirmation(core: Core, connection: AsyncConnection, person: Person) -> Secret:
    await core.users.change(connection, person.id, confirmation_sent_at=utc_now())
    return await core.codes.issue(connection, person.id, "confirmation_token", person.row.email)


async def _recovery(core: Core, connection: AsyncConnection, person: Person) -> Secret:
    await core.users.change(connection, person.id, recovery_sent_at=utc_now())
    return await core.codes.issue(connection, person.id, "recovery_token", person.row.email)


async def _change(
    core: Core, connection: AsyncConnection, person: Person, kind: str, new: str
) -> Secret:
    if not core.settings.mailer_secure_email_change_enabled and kind == "email_change_current":
        raise invalid("Enable secure email change to generate link for current email")
    if await core.users.find_by_email(connection, new) is not None:
        raise AuthError(422, "email_exists", EMAIL_EXISTS)
    values: dict[str, Any] = {"email_change": new, "email_change_sent_at": utc_now()}
    if person.row.email_change != new:
        values["email_change_confirm_status"] = 0
        await core.codes.revoke(connection, person.id, *EMAIL_CHANGE)
    await core.users.change(connection, person.id, **values)
    token: Kind = "email_change_token_new"
    address = new
    if kind == "email_change_current":
        token, address = "email_change_token_current", person.row.email
    return await core.codes.issue(connection, person.id, token, address)
