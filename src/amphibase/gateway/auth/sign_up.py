"""`POST /signup`: with an address or number and a password, or anonymously."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.phones import is_unproven_by_phone, prove_phone
from amphibase.accounts.sign_up import SignUpEmail, SignUpRequest, SignUpResult
from amphibase.accounts.user_states import email_claims
from amphibase.accounts.users import EMAIL_PROVIDER
from amphibase.backend import Claims
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import EmailAlreadyRegistered
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.audit import BY_EMAIL, BY_PHONE, AuditAction
from amphibase.gateway.auth.bearer import audience_of
from amphibase.gateway.auth.bodies import PkceBody, email_of, phone_of, read
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.new_users import check_new_user
from amphibase.gateway.auth.password_policy import check_password
from amphibase.gateway.auth.responses import respond, respond_uncached
from amphibase.gateway.auth.serializers import by_name, timestamp
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.users import AuthUser


class SignUpBody(PkceBody, go_type="SignupParams"):
    email: str = ""
    phone: str = ""
    password: str = ""
    channel: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


async def sign_up(core: Core, request: Request) -> Response:
    """Respond with a session, or while the address awaits confirmation with the user alone."""
    body = await read(request, SignUpBody)
    is_anonymous = not body.email and not body.phone
    core.rate_limiter.check("anonymous_users" if is_anonymous else "sign_up", request)
    if is_anonymous:
        return await _anonymous(core, request, body)
    check_open(core)
    if not body.password:
        raise invalid("Signup requires a valid password")
    await check_password(core.settings, body.password)
    if body.email and body.phone:
        raise invalid("Only an email address or phone number should be provided on signup.")
    if body.phone:
        return await _with_phone(core, request, body)
    return await _with_email(core, request, body)


def check_open(core: Core) -> None:
    """Raise AuthError where sign-up is disabled."""
    if core.settings.disable_signup:
        raise AuthError(codes.SIGNUP_DISABLED)


def audience(core: Core, request: Request) -> str:
    """Return the audience of a user who signs up."""
    return audience_of(core, request, {})


def sign_up_request(
    core: Core, request: Request, email: str, body: PkceBody, data: dict[str, Any]
) -> SignUpRequest:
    """Return a sign-up as the account engine takes it, without a password."""
    return SignUpRequest(
        email=email,
        password=None,
        user_metadata=data,
        ip=address_of(request),
        code_challenge=body.code_challenge,
        code_challenge_method=body.code_challenge_method,
        columns={"aud": audience(core, request)},
    )


async def check_new_email(core: Core, request: Request, new: SignUpRequest) -> None:
    """Let a hook reject a sign-up, where no user has the address. Raises AuthError."""
    if not core.hooks.has_new_user_hooks:
        return
    async with core.database.write() as connection:
        if await core.users.find_by_email(connection, new.email) is None:
            await check_new_user(
                core,
                connection,
                request,
                id=new.user_id,
                audience=new.columns["aud"],
                email=new.email,
                user_metadata=new.user_metadata,
            )


async def audit_pending(core: Core, email: str, result: SignUpResult) -> None:
    """Record a sign-up that awaits confirmation, or that repeats one of an account."""
    is_repeated = result.user_id is None
    await _audit(
        core,
        email,
        AuditAction.REPEATED_SIGNUP if is_repeated else AuditAction.CONFIRMATION_REQUESTED,
    )


async def _audit(core: Core, email: str, action: AuditAction) -> None:
    async with core.database.write() as connection:
        user = await core.engine.users.find_by_email(connection, email)
        if user is not None:
            await core.audit.record(connection, user, action, traits=BY_EMAIL)


def send_sign_up(
    core: Core, request: Request, email: str, result: SignUpResult, data: Claims
) -> None:
    """Send what a sign-up leads to: a confirmation, a hint at the account, or nothing.

    Args:
        data: the metadata of the sign-up.
    """
    redirect_to = core.redirects.of(request)
    match result.email:
        case SignUpEmail.CONFIRMATION:
            core.send(core.templates.confirmation(email, result.token, redirect_to, data))
        case SignUpEmail.ACCOUNT_EXISTS:
            core.send(core.templates.account_exists(email))


async def _with_email(core: Core, request: Request, body: SignUpBody) -> Response:
    body.check_challenge()
    if not core.settings.external_email_enabled:
        raise AuthError(codes.EMAIL_SIGNUP_DISABLED)
    email = email_of(body.email)
    new = sign_up_request(core, request, email, body, body.data)
    new = replace(new, password=body.password)
    await check_new_email(core, request, new)
    if core.settings.mailer_autoconfirm:
        return await _confirmed(core, request, new, body.password)
    await core.email_limiter.check("signup", email)
    with database_errors("saving new"):
        result = await core.sign_ups.add_pending(new)
    await audit_pending(core, email, result)
    send_sign_up(core, request, email, result, body.data)
    async with core.database.read() as connection:
        response = await _sanitized_user(core, connection, email, body.data, result.user_id)
    return respond(response)


async def _confirmed(core: Core, request: Request, new: SignUpRequest, password: str) -> Response:
    password_hash = await core.passwords.hash(password)
    try:
        async with core.database.write() as connection:
            with database_errors("saving new"):
                row = await core.sign_ups.add_confirmed(connection, new, password_hash)
            actions = (AuditAction.SIGNED_UP, AuditAction.LOGIN)
            await core.audit.record(connection, row, *actions, traits=BY_EMAIL)
            session = await core.open_session(connection, row.id, request, "password")
            return respond_uncached(_as_written(session))
    except EmailAlreadyRegistered:
        await _audit(core, new.email, AuditAction.REPEATED_SIGNUP)
        raise AuthError(codes.USER_ALREADY_EXISTS) from None


def _as_written(session: dict[str, Any]) -> dict[str, Any]:
    """Return a session as Supabase Auth responds with it to a sign-up.

    It does not read again what the database derives, and the identity in its memory has the
    metadata of the user, where the address is confirmed.
    """
    user = session["user"]
    user.pop("confirmed_at", None)
    for identity in user["identities"]:
        if identity["provider"] == "email":
            identity["identity_data"] = {**identity["identity_data"], "email_verified": True}
    return session


async def _with_phone(core: Core, request: Request, body: SignUpBody) -> Response:
    sms.check_channel(core, body.channel)
    if body.code_challenge:
        raise invalid("PKCE not supported for phone signups")
    if not core.settings.external_phone_enabled:
        raise AuthError(codes.PHONE_SIGNUP_DISABLED)
    phone = phone_of(body.phone)
    password_hash = await core.passwords.hash(body.password)
    async with core.database.write() as connection:
        user = await core.users.find_by_phone(connection, phone, lock=True)
        if user is None or is_unproven_by_phone(user.row):
            return await _add_phone(core, connection, request, body, phone, user, password_hash)
        await core.audit.record(connection, user.row, AuditAction.REPEATED_SIGNUP, traits=BY_PHONE)
    if core.settings.mailer_autoconfirm or core.settings.sms_autoconfirm:
        raise AuthError(codes.USER_ALREADY_EXISTS)
    return respond(_user_of_taken_phone(core, request, phone, body.data))


async def _add_phone(
    core: Core,
    connection: SqlConnection,
    request: Request,
    body: SignUpBody,
    phone: str,
    user: AuthUser | None,
    password_hash: str,
) -> Response:
    if user is None:
        user = await add_by_phone(core, connection, request, phone, password_hash, body.data)
    elif core.settings.sms_autoconfirm:
        await core.users.change(connection, user.id, encrypted_password=password_hash)
    elif not await core.passwords.verify(body.password, user.row.encrypted_password or None):
        # Which of those who chose a password has the number is unknown: none of them counts.
        await core.users.change(connection, user.id, encrypted_password="")
    if core.settings.sms_autoconfirm:
        await prove_phone(core.engine, connection, user.row)
        traits = {**BY_PHONE, "channel": body.channel or "sms"}
        await core.audit.record(connection, user.row, AuditAction.SIGNED_UP, traits=traits)
        await core.audit.record(connection, user.row, AuditAction.LOGIN, traits=BY_PHONE)
        session = await core.open_session(connection, user.id, request, "password")
        return respond_uncached(_as_written(session))
    action = AuditAction.CONFIRMATION_REQUESTED
    await core.audit.record(connection, user.row, action, traits=BY_PHONE)
    await sms.send_code(core, connection, user, phone, "confirmation_token")
    return respond(user_json(await core.users.get(connection, user.id)))


async def add_by_phone(
    core: Core,
    connection: SqlConnection,
    request: Request,
    phone: str,
    password_hash: str,
    data: dict[str, Any],
) -> AuthUser:
    """Add a user whose number awaits its code.

    Args:
        phone: digits alone.
        password_hash: empty for a user who signs in by codes only.
    """
    id, aud = uuid4(), audience(core, request)
    await check_new_user(
        core, connection, request, id=id, audience=aud, phone=phone, user_metadata=data
    )
    await core.users.insert(
        connection,
        id=id,
        phone=phone,
        aud=aud,
        encrypted_password=password_hash,
        raw_user_meta_data={
            **data,
            "sub": str(id),
            "email_verified": False,
            "phone_verified": False,
        },
        raw_app_meta_data={"provider": "phone", "providers": ["phone"]},
    )
    # As by Supabase Auth, it does not say the number.
    await core.engine.users.add_identity(connection, id, "phone", None, data=data)
    return await core.users.get(connection, id)


async def _anonymous(core: Core, request: Request, body: SignUpBody) -> Response:
    if not core.settings.external_anonymous_users_enabled:
        raise AuthError(codes.ANONYMOUS_DISABLED)
    check_open(core)
    id, aud = uuid4(), audience(core, request)
    async with core.database.write() as connection:
        await check_new_user(
            core, connection, request, id=id, audience=aud, user_metadata=body.data
        )
        await core.users.insert(
            connection,
            id=id,
            aud=aud,
            encrypted_password="",
            raw_user_meta_data=body.data,
            raw_app_meta_data={},
            is_anonymous=True,
        )
        session = await core.open_session(connection, id, request, "anonymous")
    return respond_uncached(session)


async def _sanitized_user(
    core: Core,
    connection: SqlConnection,
    email: str,
    data: dict[str, Any],
    user_id: UUID | None,
) -> dict[str, Any]:
    # Only ids are the user's own: for an address that has an account they are derived, and
    # nothing in the response reveals which they are.
    id = user_id or core.sanitized_id(email)
    identities = await core.engine.users.identities(connection, id)
    identity_id = identities[0].id if identities else core.sanitized_id(email, "identity")
    data = {**data, **email_claims(id, email)}
    user = _unconfirmed(id, identity_id, core.settings.jwt_aud, dict(EMAIL_PROVIDER), data)
    return {**user, "email": email}


def _user_of_taken_phone(
    core: Core, request: Request, phone: str, data: dict[str, Any]
) -> dict[str, Any]:
    """Return what a sign-up by a free number would show."""
    id, identity_id = core.sanitized_id(phone), core.sanitized_id(phone, "identity")
    claims = {"sub": str(id), "email_verified": False, "phone_verified": False}
    metadata = {"provider": "phone", "providers": ["phone"]}
    aud = audience(core, request)
    user = _unconfirmed(id, identity_id, aud, metadata, {**data, **claims})
    return {**user, "phone": phone}


def _unconfirmed(
    id: UUID, identity_id: UUID, aud: str, app_metadata: dict[str, Any], data: dict[str, Any]
) -> dict[str, Any]:
    now: datetime = utc_now()
    times = {"created_at": timestamp(now), "updated_at": timestamp(now)}
    identity = {
        "identity_id": str(identity_id),
        "id": str(id),
        "user_id": str(id),
        "identity_data": by_name(data),
        "provider": app_metadata["provider"],
        "last_sign_in_at": timestamp(now),
        **times,
    }
    if "email" in data:
        identity["email"] = data["email"]
    return {
        "id": str(id),
        "aud": aud,
        "role": "authenticated",
        "email": "",
        "phone": "",
        "confirmation_sent_at": timestamp(now),
        "app_metadata": app_metadata,
        "user_metadata": by_name(data),
        "identities": [identity],
        **times,
        "is_anonymous": False,
    }
