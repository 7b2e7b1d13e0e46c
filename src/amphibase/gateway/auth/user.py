"""`/user`: what a signed-in user sees and changes of themselves; and signing out."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.phones import change_phone
from amphibase.accounts.users import merged
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.audit import AuditAction, identity_traits
from amphibase.gateway.auth.bearer import (
    BearerUser,
    check_linking,
    claims_of,
    found_first,
    has_own_audience,
    is_admin,
    signed_in,
)
from amphibase.gateway.auth.bodies import PkceBody, email_of, phone_of, read, uuid_of
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.email_change import begin_email_change
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.go_json import quoted
from amphibase.gateway.auth.mail_templates import AuthEmail
from amphibase.gateway.auth.notifications import Notification, notify, notify_phone
from amphibase.gateway.auth.password_policy import check_password
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.users import AuthUser

FRESH = timedelta(hours=24)
"""A session as young as this needs no code for a new password."""


class UserBody(PkceBody, go_type="UserUpdateParams"):
    email: str = ""
    phone: str = ""
    channel: str = ""
    password: str | None = None
    nonce: str = ""
    current_password: str = ""
    data: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None


async def get(core: Core, request: Request) -> Response:
    """Respond to `GET /user`."""
    async with core.database.read() as connection:
        user = (await signed_in(core, connection, request)).user
    if not has_own_audience(core, request):
        raise invalid(codes.UNEXPECTED_AUDIENCE.message)
    return respond(user_json(user))


async def update(core: Core, request: Request) -> Response:
    """Respond to `PUT /user`: another address, password or metadata.

    A new address waits until emails are confirmed; a new password ends the other sessions.
    """
    claims = claims_of(core, request)
    async with found_first(core, partial(signed_in, core, request=request)):
        body = await read(request, UserBody)
    async with core.database.read() as connection:
        caller = await signed_in(core, connection, request)
    email = email_of(body.email) if body.email else ""
    if email == caller.user.row.email:
        email = ""
    phone = phone_of(body.phone) if body.phone else ""
    if phone == caller.user.row.phone:
        phone = ""
    if body.phone:
        sms.check_channel(core, body.channel)
    if body.password is not None:
        await check_password(core.settings, body.password)
    if body.app_metadata is not None and not is_admin(core, claims):
        raise AuthError(codes.NOT_ADMIN, "Updating app_metadata requires admin privileges")
    _check(body, caller, email, phone)
    if email or phone:
        async with core.database.read() as connection:
            await _check_free(core, connection, email, phone)
    password_hash = None
    if body.password is not None:
        await _check_code(core, caller, body.nonce)
        await _check_current_password(core, caller, body.current_password)
        await _check_new_password(core, caller, body.password)
        password_hash = await core.passwords.hash(body.password)
    messages: list[AuthEmail] = []
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request, lock=True)
        user = caller.user
        await _check_free(core, connection, email, phone)
        if password_hash is not None:
            await core.engine.set_password(
                connection, user.row, password_hash, keep_session=caller.session_id
            )
            await core.add_email_identity(connection, user, body.password)
            user = await core.users.get(connection, user.id)
        if body.data is not None:
            metadata = merged(user.row.raw_user_meta_data, body.data)
            await core.users.change(connection, user.id, raw_user_meta_data=metadata)
        if body.app_metadata is not None:
            metadata = merged(user.row.raw_app_meta_data, body.app_metadata)
            await core.users.change(connection, user.id, raw_app_meta_data=metadata)
        if email:
            user = await core.users.get(connection, user.id)
            messages = await _change_email(core, connection, user, email, request, body)
        if phone:
            await _change_phone(core, connection, user, phone)
        actions = [AuditAction.UPDATED_PASSWORD] if password_hash is not None else []
        await core.audit.record(connection, user.row, *actions, AuditAction.MODIFIED)
        user = await core.users.get(connection, user.id)
    core.send(*messages)
    if password_hash is not None:
        await notify(core, request, Notification.PASSWORD_CHANGED, user)
    if phone and core.settings.sms_autoconfirm:
        await notify_phone(core, request, caller.user, phone)
    fields = user_json(user)
    if caller.user.row.confirmed_at is None:
        fields.pop("confirmed_at", None)
    return respond(fields)


def _check(body: UserBody, caller: BearerUser, email: str, phone: str) -> None:
    if email or phone or body.password is not None:
        caller.require_second_factor(
            401, "AAL2 session is required to update email or password when MFA is enabled."
        )
    row = caller.user.row
    if row.is_anonymous and body.password and not (email or phone):
        raise invalid(
            "Updating password of an anonymous user without an email or phone is not allowed", 422
        )
    if row.is_sso_user and (email or phone or body.password or body.nonce):
        raise AuthError(codes.USER_SSO_MANAGED)
    if email:
        body.check_challenge()


async def _check_free(core: Core, connection: SqlConnection, email: str, phone: str) -> None:
    """Raise AuthError or EmailAlreadyRegistered where another user has one of them."""
    if email:
        await core.engine.check_address_free(connection, email)
    if phone and await core.users.find_by_phone(connection, phone) is not None:
        raise AuthError(
            codes.PHONE_EXISTS, "A user with this phone number has already been registered"
        )


async def _check_current_password(core: Core, caller: BearerUser, password: str) -> None:
    current = caller.user.row.encrypted_password
    if not core.settings.security_update_password_require_current_password or not current:
        return
    # Who signed in by an email, as to recover the account, may have forgotten the password.
    if not caller.by_password:
        return
    if not password:
        raise AuthError(codes.CURRENT_PASSWORD_REQUIRED)
    with core.attempts.counting(str(caller.user.id)):
        if not await core.passwords.verify(password, current):
            raise AuthError(codes.CURRENT_PASSWORD_INVALID)


async def _check_new_password(core: Core, caller: BearerUser, password: str) -> None:
    current = caller.user.row.encrypted_password
    if current and await core.passwords.verify(password, current):
        raise AuthError(codes.SAME_PASSWORD)


async def _check_code(core: Core, caller: BearerUser, nonce: str) -> None:
    """Use up the code that a new password takes, unless the session is fresh. Raises AuthError."""
    if not core.settings.security_update_password_require_reauthentication:
        return
    if caller.session is not None and caller.session.created_at >= utc_now() - FRESH:
        return
    if not nonce:
        raise AuthError(codes.REAUTHENTICATION_NEEDED)
    user = caller.user
    tokens = core.one_time_tokens if user.row.email else core.sms_tokens
    with core.attempts.counting(str(user.id)):
        async with core.database.write() as connection:
            if not await tokens.redeem_code(connection, user.id, nonce, "reauthentication_token"):
                raise AuthError(codes.REAUTHENTICATION_NOT_VALID)


async def _change_email(
    core: Core,
    connection: SqlConnection,
    user: AuthUser,
    email: str,
    request: Request,
    body: UserBody,
) -> list[AuthEmail]:
    if user.row.is_anonymous and core.settings.mailer_autoconfirm:
        with database_errors("updating"):
            await core.engine.change_email(connection, user.row, email)
        return []
    messages = await begin_email_change(core, connection, user, email, request, body)
    await core.email_quota.take()
    return messages


async def _change_phone(core: Core, connection: SqlConnection, user: AuthUser, phone: str) -> None:
    if core.settings.sms_autoconfirm:
        with database_errors("updating"):
            await change_phone(core.engine, connection, user.row, phone)
        return
    await core.users.change(connection, user.id, phone_change=phone)
    await sms.send_code(core, connection, user, phone, "phone_change_token")


async def log_out(core: Core, request: Request) -> Response:
    """Respond to `POST /logout?scope=`: ends this session, the others or all."""
    scope = request.query_params.get("scope") or "global"
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request)
        if scope not in ("global", "local", "others"):
            raise invalid(f"Unsupported logout scope {quoted(scope)}")
        user_id = caller.user.id
        await core.audit.record(connection, caller.user.row, AuditAction.LOGOUT)
        match scope, caller.session_id:
            case "global", _:
                await core.sessions.end(connection, user_id)
            case "local", UUID() as session_id:
                await core.sessions.end(connection, user_id, session_id)
            case _, session_id:
                await core.sessions.end(connection, user_id, keep=session_id)
    return Response(status_code=204)


async def unlink_identity(core: Core, request: Request) -> Response:
    """Respond to `DELETE /user/identities/{id}`: remove a way to sign in; one has to be left."""
    async with core.database.write() as connection:
        user = (await signed_in(core, connection, request, lock=True)).user
        check_linking(core)
        id = uuid_of(request.path_params["id"], "identity_id")
        if not has_own_audience(core, request):
            raise AuthError(codes.UNEXPECTED_AUDIENCE)
        identity = next((other for other in user.identities if other.id == id), None)
        if len(user.identities) <= 1:
            raise AuthError(codes.SINGLE_IDENTITY)
        if identity is None:
            raise AuthError(codes.IDENTITY_NOT_FOUND)
        values = await core.users.remove_identity(
            connection, user, identity, accepts_unverified=core.settings.mailer_autoconfirm
        )
        if "email" in values:
            await core.engine.revoke_outstanding(connection, user.row, **values)
        else:
            await core.users.change(connection, user.id, **values)
        await core.engine.users.sync_providers(connection, user.id)
        await core.audit.record(
            connection,
            user.row,
            AuditAction.IDENTITY_UNLINKED,
            traits=identity_traits(identity),
            ip=address_of(request),
        )
    await notify(
        core,
        request,
        Notification.IDENTITY_UNLINKED,
        user,
        Email=user.row.email or "",
        Provider=identity.provider,
    )
    return respond({})
