"""Signing up: with an address and a password, or as nobody in particular."""

from email.message import EmailMessage
from typing import Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.auth.bodies import Pkce, email_of, phone_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.password_policy import check_strength
from amphibase.gateway.auth.serializers import moment
from amphibase.gateway.auth.serializers import user as user_answer
from amphibase.gateway.auth.settings_endpoint import answer, session
from amphibase.gateway.auth.users import Person
from amphibase.models import utc_now, uuid7

EMAIL_METHOD = "email/signup"
APP_METADATA = {"provider": "email", "providers": ["email"]}


class SignUp(Pkce):
    email: str = ""
    phone: str = ""
    password: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


async def sign_up(core: Core, request: Request) -> Response:
    """`POST /signup`: a session, or while the address awaits confirmation the user alone."""
    body = await read(request, SignUp)
    if not body.email and not body.phone:
        return await _anonymous(core, request, body)
    check_open(core)
    if not body.password:
        raise invalid("Signup requires a valid password")
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided on signup.")
    if body.phone:
        return await _with_phone(core, request, body)
    return await _with_email(core, request, body)


def check_open(core: Core) -> None:
    """Raise AuthError where nobody may sign up."""
    if core.settings.disable_signup:
        raise AuthError(422, "signup_disabled", "Signups not allowed for this instance")


async def add_with_email(
    core: Core,
    connection: AsyncConnection,
    email: str,
    hashed: str | None,
    data: dict[str, Any],
    **values: Any,
) -> Person:
    """A new user whose address awaits confirmation. Raises AuthError where it is taken."""
    id = uuid7()
    await core.users.insert(
        connection,
        id=id,
        email=email,
        aud=core.settings.jwt_aud,
        encrypted_password=hashed or "",
        raw_user_meta_data={**data, **_verified_fields(id, email)},
        raw_app_meta_data=APP_METADATA,
        **values,
    )
    await core.users.set_identity(connection, id, "email", email, data=data)
    return await core.users.get(connection, id)


async def find_or_add(
    core: Core,
    connection: AsyncConnection,
    email: str,
    hashed: str | None,
    data: dict[str, Any],
) -> tuple[Person, bool]:
    """The user with that address, locked, and whether it is a new one, as `add_with_email` adds
    it."""
    person = await core.users.find_by_email(connection, email, lock=True)
    if person is not None:
        return person, False
    try:
        async with connection.begin_nested():
            return await add_with_email(core, connection, email, hashed, data), True
    except AuthError as error:
        # Somebody else was faster by a moment.
        person = await core.users.find_by_email(connection, email, lock=True)
        if error.code != "email_exists" or person is None:
            raise
        return person, False


async def sign_up_again(
    core: Core,
    connection: AsyncConnection,
    person: Person,
    hashed: str | None,
    data: dict[str, Any],
) -> None:
    """Let the last sign-up count while the address awaits confirmation: an earlier one, by
    somebody who may not own the address, must not leave its password behind. An account that an
    administrator made stays as it is."""
    if person.is_confirmed or not _is_own_sign_up(person):
        return
    await core.users.change(
        connection,
        person.id,
        encrypted_password=hashed or "",
        raw_user_meta_data={**data, **_verified_fields(person.id, person.row.email)},
    )


async def confirm_by_letter(
    core: Core, connection: AsyncConnection, person: Person, request: Request, pkce: Pkce
) -> EmailMessage:
    """The letter that asks a user to confirm their address; send it after the commit.

    Raises:
        AuthError: the last one went out only just now.
    """
    core.check_frequency(person.row.confirmation_sent_at)
    with_code = pkce.check_challenge()
    if with_code:
        await core.flows.begin(connection, person.id, EMAIL_METHOD, pkce)
    email = person.row.email
    secret = await core.codes.issue(
        connection, person.id, "confirmation_token", email, pkce=with_code
    )
    await core.users.change(connection, person.id, confirmation_sent_at=utc_now())
    return core.letters.confirmation(email, secret, core.redirects.of(request))


async def _with_email(core: Core, request: Request, body: SignUp) -> Response:
    if not core.settings.external_email_enabled:
        raise AuthError(400, "email_provider_disabled", "Email signups are disabled")
    body.check_challenge()
    email = email_of(body.email)
    check_strength(core.settings, body.password)
    # Hashed for everybody, so that the time does not tell whether there is such an account.
    hashed = await core.passwords.hash(body.password)
    known_hash = await _hash_of_same_password(core, email, body.password)
    try:
        async with core.database.write() as connection:
            person = await core.users.find_by_email(connection, email, lock=True)
            if person is None:
                person = await add_with_email(core, connection, email, hashed, body.data)
            elif person.is_confirmed:
                raise _exists()
            elif core.settings.mailer_autoconfirm and (
                known_hash is None or known_hash != person.row.encrypted_password
            ):
                # Invited, or made by an administrator: only whoever has the letter or the
                # password may have that account.
                raise _exists()
            elif not core.settings.mailer_autoconfirm:
                await sign_up_again(core, connection, person, hashed, body.data)
            if core.settings.mailer_autoconfirm:
                await core.users.confirm_email(connection, person)
                return session(await core.open_session(connection, person.id, request, "password"))
            letter = await confirm_by_letter(core, connection, person, request, body)
            person = await core.users.get(connection, person.id)
    except AuthError as error:
        if error.code not in ("email_exists", "user_already_exists"):
            raise
        if core.settings.mailer_autoconfirm:
            raise _exists() from error
        return answer(_imagined(core, email, body.data))
    core.send(letter)
    if _is_own_sign_up(person):
        return answer(user_answer(person))
    # What an administrator wrote of somebody is nothing for whoever knows their address.
    nothing = {"app_metadata": APP_METADATA, "user_metadata": {}, "identities": []}
    return answer({**user_answer(person), **nothing})


async def _with_phone(core: Core, request: Request, body: SignUp) -> Response:
    core.check_phones("Phone signups")
    phone = phone_of(body.phone)
    check_strength(core.settings, body.password)
    hashed = await core.passwords.hash(body.password)
    id = uuid7()
    known = {"sub": str(id), "phone": phone, "email_verified": False, "phone_verified": True}
    async with core.database.write() as connection:
        if await core.users.find_by_phone(connection, phone) is not None:
            raise _exists()
        await core.users.insert(
            connection,
            id=id,
            phone=phone,
            phone_confirmed_at=utc_now(),
            aud=core.settings.jwt_aud,
            encrypted_password=hashed,
            raw_user_meta_data={**body.data, **known},
            raw_app_meta_data={"provider": "phone", "providers": ["phone"]},
        )
        await core.users.set_identity(connection, id, "phone", phone, data=body.data)
        opened = await core.open_session(connection, id, request, "password")
    return session(opened)


async def _anonymous(core: Core, request: Request, body: SignUp) -> Response:
    if not core.settings.external_anonymous_users_enabled:
        raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
    check_open(core)
    async with core.database.write() as connection:
        id = await core.users.insert(
            connection,
            aud=core.settings.jwt_aud,
            encrypted_password="",
            raw_user_meta_data=body.data,
            raw_app_meta_data={},
            is_anonymous=True,
        )
        opened = await core.open_session(connection, id, request, "anonymous")
    return session(opened)


async def _hash_of_same_password(core: Core, email: str, password: str) -> str | None:
    """The hash of an account's password where it is that one and the address unconfirmed; only
    looked for where confirmation is not needed."""
    if not core.settings.mailer_autoconfirm:
        return None
    async with core.database.read() as connection:
        row = await core.rows.find_by_email(connection, email)
    if row is None or row.email_confirmed_at is not None or not row.encrypted_password:
        return None
    hashed: str = row.encrypted_password
    return hashed if await core.passwords.verify(password, hashed) else None


def _is_own_sign_up(person: Person) -> bool:
    """Whether the account was made by whoever signed up, as their metadata tells, and not by an
    administrator."""
    known = person.row.raw_user_meta_data or {}
    return known.get("sub") == str(person.id) and person.row.invited_at is None


def _verified_fields(id: UUID, email: str) -> dict[str, Any]:
    return {"sub": str(id), "email": email, "email_verified": False, "phone_verified": False}


def _exists() -> AuthError:
    return AuthError(422, "user_already_exists", "User already registered")


def _imagined(core: Core, email: str, data: dict[str, Any]) -> dict[str, Any]:
    """What a new user would look like, for an address that is taken, whose owner is not told on."""
    id, now = uuid7(), moment(utc_now())
    return {
        "id": str(id),
        "aud": core.settings.jwt_aud,
        "role": "",
        "email": email,
        "phone": "",
        "confirmation_sent_at": now,
        "app_metadata": APP_METADATA,
        "user_metadata": data,
        "identities": [],
        "created_at": now,
        "updated_at": now,
        "is_anonymous": False,
    }
