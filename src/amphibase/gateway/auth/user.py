"""`/user`: what a signed-in user sees and changes of themselves; and signing out."""

from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.users import merged
from amphibase.gateway.auth.bearer import SignedIn, claims_of, is_admin, signed_in
from amphibase.gateway.auth.bodies import Pkce, email_of, phone_of, read, uuid_of
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.mailing import change_by_letter
from amphibase.gateway.auth.password_policy import check_strength
from amphibase.gateway.auth.serializers import user as user_answer
from amphibase.gateway.auth.settings_endpoint import answer, unsupported_provider
from amphibase.gateway.auth.users import EMAIL_EXISTS, Person
from amphibase.gateway.auth.verify import take_new_email
from amphibase.models import utc_now

FRESH = timedelta(hours=24)
"""A session as young as this needs no code for a new password."""


class Changes(Pkce):
    email: str = ""
    phone: str = ""
    password: str | None = None
    nonce: str = ""
    data: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None


async def get(core: Core, request: Request) -> Response:
    """`GET /user`."""
    async with core.database.read() as connection:
        person = (await signed_in(core, connection, request)).person
    return answer(user_answer(person))


async def update(core: Core, request: Request) -> Response:
    """`PUT /user`: another address, password or metadata.

    A new address waits until letters are confirmed; a new password ends the other sessions.
    """
    claims = claims_of(core, request)
    body = await read(request, Changes)
    async with core.database.read() as connection:
        caller = await signed_in(core, connection, request)
    email = email_of(body.email) if body.email else ""
    if email == caller.person.row.email:
        email = ""
    phone = phone_of(body.phone) if body.phone else ""
    if phone == caller.person.row.phone:
        phone = ""
    _check(core, body, caller, email, phone)
    if body.app_metadata and not is_admin(core, claims):
        raise AuthError(403, "not_admin", "Updating app_metadata requires admin privileges")
    hashed = None
    if body.password is not None:
        await _check_password(core, caller, body.password)
        hashed = await core.passwords.hash(body.password)
    letters: list[EmailMessage] = []
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request, lock=True)
        person = caller.person
        if hashed is not None:
            if _needs_code(core, caller):
                await _check_nonce(core, connection, person, body.nonce)
            await core.users.change(connection, person.id, encrypted_password=hashed)
            await core.sessions.end(connection, person.id, keep=caller.session_id)
        if body.data is not None:
            metadata = merged(person.row.raw_user_meta_data, body.data)
            await core.users.change(connection, person.id, raw_user_meta_data=metadata)
        if body.app_metadata is not None:
            metadata = merged(person.row.raw_app_meta_data, body.app_metadata)
            await core.users.change(connection, person.id, raw_app_meta_data=metadata)
        if phone:
            await _take_phone(core, connection, person.id, phone)
        if email:
            person = await core.users.get(connection, person.id)
            letters = await _change_email(core, connection, person, email, request, body)
        person = await core.users.get(connection, person.id)
    core.send(*letters)
    return answer(user_answer(person))


def _check(core: Core, body: Changes, caller: SignedIn, email: str, phone: str) -> None:
    if phone:
        core.check_phones("Phone numbers")
    if email and not core.settings.external_email_enabled:
        raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
    body.check_challenge()
    row = caller.person.row
    if row.is_anonymous and body.password and not (email or phone):
        raise invalid(
            "Updating password of an anonymous user without an email or phone is not allowed", 422
        )
    if email or body.password is not None:
        caller.demand_second_factor(
            401, "AAL2 session is required to update email or password when MFA is enabled."
        )


async def _check_password(core: Core, caller: SignedIn, password: str) -> None:
    check_strength(core.settings, password)
    known = caller.person.row.encrypted_password
    if known and await core.passwords.verify(password, known):
        raise AuthError(
            422, "same_password", "New password should be different from the old password."
        )


def _needs_code(core: Core, caller: SignedIn) -> bool:
    if not core.settings.security_update_password_require_reauthentication:
        return False
    return caller.session is None or caller.session.created_at < utc_now() - FRESH


async def _check_nonce(core: Core, connection: AsyncConnection, person: Person, nonce: str) -> None:
    if not nonce:
        raise AuthError(400, "reauthentication_needed", "Password update requires reauthentication")
    with core.guesses.counting(str(person.id)):
        if not await core.codes.redeem_code(connection, person.id, nonce, "reauthentication_token"):
            raise AuthError(422, "reauthentication_not_valid", "Nonce has expired or is invalid")


async def _change_email(
    core: Core,
    connection: AsyncConnection,
    person: Person,
    email: str,
    request: Request,
    body: Changes,
) -> list[EmailMessage]:
    if await core.users.find_by_email(connection, email) is not None:
        raise AuthError(422, "email_exists", EMAIL_EXISTS)
    if person.row.is_anonymous and core.settings.mailer_autoconfirm:
        await take_new_email(core, connection, person, email)
        return []
    return await change_by_letter(core, connection, person, email, request, body)


async def _take_phone(core: Core, connection: AsyncConnection, id: UUID, phone: str) -> None:
    await core.users.change(
        connection, id, phone=phone, phone_confirmed_at=utc_now(), is_anonymous=False
    )
    await core.users.set_identity(connection, id, "phone", phone, verified=True)
    await core.users.note_providers(connection, id)


async def log_out(core: Core, request: Request) -> Response:
    """`POST /logout?scope=`: ends this session, the others or all."""
    scope = request.query_params.get("scope") or "global"
    if scope not in ("global", "local", "others"):
        raise invalid(f'Unsupported logout scope "{scope}"')
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request)
        user_id = caller.person.id
        match scope, caller.session_id:
            case "global", _:
                await core.sessions.end(connection, user_id)
            case "local", None:
                pass
            case "local", session_id:
                await core.sessions.end(connection, user_id, session_id)
            case _, session_id:
                await core.sessions.end(connection, user_id, keep=session_id)
    return Response(status_code=204)


async def link_identity(core: Core, request: Request) -> Response:
    """`GET /user/identities/authorize`: to a third party's sign-in, for one more identity."""
    _demand_linking(core)
    async with core.database.read() as connection:
        await signed_in(core, connection, request)
    raise unsupported_provider(request.query_params.get("provider", ""))


async def unlink_identity(core: Core, request: Request) -> Response:
    """`DELETE /user/identities/{id}`: takes a way to sign in from the user; one has to be left."""
    _demand_linking(core)
    async with core.database.write() as connection:
        person = (await signed_in(core, connection, request, lock=True)).person
        id = uuid_of(request.path_params["id"], "identity_id")
        identity = next((each for each in person.identities if each.id == id), None)
        if len(person.identities) <= 1:
            raise AuthError(
                422,
                "single_identity_not_deletable",
                "User must have at least 1 identity after unlinking",
            )
        if identity is None:
            raise AuthError(422, "identity_not_found", "Identity doesn't exist")
        await core.users.remove_identity(connection, person, identity)
    return answer({})


def _demand_linking(core: Core) -> None:
    if not core.settings.security_manual_linking_enabled:
        raise AuthError(404, "manual_linking_disabled", "Manual linking is disabled")
