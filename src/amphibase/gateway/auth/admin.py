"""`/admin/users`: what the administration of the project does to users."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from pydantic import Field
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.passwords import check_hash
from amphibase.accounts.users import merged
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.audit import AuditAction, factor_traits, user_traits
from amphibase.gateway.auth.bearer import audience_of, claims_of, found_first, require_admin
from amphibase.gateway.auth.bodies import Body, email_of, phone_of, read, uuid_of
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.durations import parse_signed_duration
from amphibase.gateway.auth.errors import AuthError, database_errors, faults, invalid
from amphibase.gateway.auth.pages import (
    Cursor,
    cursor_headers,
    page_headers,
    read_cursor_page,
    read_page,
)
from amphibase.gateway.auth.password_policy import (
    MAX_NEW_PASSWORD_BYTES,
    check_password,
    is_too_long,
)
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import changed_user, listed_user
from amphibase.gateway.auth.serializers import factor as factor_json
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.users import AuthUser

MAX_CHARACTERS = 255
DEFAULT_ROLE = "authenticated"

OUTSTANDING_ENDS = {"encrypted_password", "banned_until", "email_confirmed_at", "email", "phone"}
"""Columns whose change ends every link, code and change that is under way."""


class AdminUserBody(Body, go_type="AdminUserParams"):
    id: str = ""
    aud: str = Field("", max_length=MAX_CHARACTERS)
    role: str = Field("", max_length=MAX_CHARACTERS)
    email: str = ""
    phone: str = ""
    password: str | None = None
    password_hash: str = Field("", max_length=MAX_CHARACTERS)
    email_confirm: bool = False
    phone_confirm: bool = False
    user_metadata: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None
    ban_duration: str = ""


class DeleteUserBody(Body, go_type="adminUserDeleteParams"):
    should_soft_delete: bool = False


class FactorBody(Body, go_type="adminUserUpdateFactorParams"):
    friendly_name: str = ""
    phone: str = ""


async def create(core: Core, request: Request) -> Response:
    """Respond to `POST /admin/users`: a new user; without a password, none signs in."""
    role = await require_admin(core, request)
    body = await read(request, AdminUserBody)
    if not (body.email or body.phone):
        raise invalid("Cannot create a user without either an email or phone")
    email, phone = await _free_addresses(core, body)
    if body.password is not None and body.password_hash:
        raise invalid("Only a password or a password hash should be provided")
    hashed = await _hash_of(core, body)
    id = _new_id(body.id)
    banned_until = _banned_until(body.ban_duration)
    providers = [name for name, address in (("email", email), ("phone", phone)) if address]
    now = utc_now()
    confirmed = {"email_verified": True} if email and body.email_confirm else {}
    with faults("Database error creating new user"):
        async with core.database.write() as connection:
            if email:
                await core.engine.claim_address(connection, email)
            await core.users.insert(
                connection,
                id=id,
                aud=body.aud or audience_of(core, request, claims_of(core, request)),
                role=body.role.strip() or DEFAULT_ROLE,
                email=email,
                phone=phone,
                encrypted_password=hashed,
                email_confirmed_at=now if email and body.email_confirm else None,
                phone_confirmed_at=now if phone and body.phone_confirm else None,
                raw_user_meta_data={**(body.user_metadata or {}), **confirmed},
                raw_app_meta_data=merged(
                    {"provider": providers[0], "providers": providers}, body.app_metadata or {}
                ),
                banned_until=banned_until,
            )
            identities = [
                await core.engine.users.add_identity(connection, id, provider, address)
                for provider, address in (("email", email), ("phone", phone))
                if address
            ]
            # Read again, as triggers of the project may have changed it; factors come later.
            row = await core.engine.users.get(connection, id)
            user = AuthUser(row, identities, factors=())
            traits = {**user_traits(user.row), "provider": providers[0]}
            await core.audit.record_admin(connection, role, AuditAction.SIGNED_UP, traits)
    return respond(changed_user(user, None))


async def _free_addresses(core: Core, body: AdminUserBody) -> tuple[str | None, str | None]:
    """Return the address and the number of a new user, each checked before the next is read."""
    email = phone = None
    async with core.database.read() as connection:
        if body.email:
            email = email_of(body.email)
            await core.engine.check_address_free(connection, email)
        if body.phone:
            phone = phone_of(body.phone)
            if await core.users.find_by_phone(connection, phone):
                raise AuthError(codes.PHONE_EXISTS)
    return email, phone


async def _hash_of(core: Core, body: AdminUserBody) -> str:
    """Return what is stored of the password of a new user; nothing where there is none."""
    if body.password_hash:
        with faults("Error creating user"):
            check_hash(body.password_hash)
        return body.password_hash
    if not body.password:
        return ""
    if is_too_long(body.password):
        raise invalid(f"bcrypt: password length exceeds {MAX_NEW_PASSWORD_BYTES} bytes")
    return await core.passwords.hash(body.password)


async def list_users(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/users?page=&per_page=&filter=&sort=`; headers have their number."""
    await require_admin(core, request)
    descending = _is_descending(request)
    audience = audience_of(core, request, claims_of(core, request))
    query = request.query_params
    text = query.get("filter", "")
    by_cursor = core.settings.experimental_cursor_pagination_enabled
    if by_cursor and not query.get("page") and not query.get("per_page"):
        return await _list_by_cursor(core, request, audience, text, descending=descending)
    page = read_page(request)
    async with core.database.read() as connection:
        rows, total = await core.users.page(connection, page, audience, text, descending=descending)
    headers = page_headers(request, page, total)
    body = {"users": [listed_user(row) for row in rows], "aud": audience}
    return respond(body, headers=headers)


async def _list_by_cursor(
    core: Core, request: Request, audience: str, text: str, *, descending: bool
) -> Response:
    """Respond with the users that follow `cursor`, without counting all."""
    page = read_cursor_page(request)
    async with core.database.read() as connection:
        rows = await core.users.page_after(connection, page, audience, text, descending=descending)
    users, more = rows[: page.size], rows[page.size :]
    last = Cursor(created_at=users[-1].created_at, id=users[-1].id) if more else None
    pagination = {**({"next_cursor": str(last)} if last else {}), "has_more": bool(more)}
    body = {
        "users": [listed_user(row) for row in users],
        "aud": audience,
        "pagination": pagination,
    }
    return respond(body, headers=cursor_headers(request, last))


async def get(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/users/{id}`."""
    await require_admin(core, request)
    async with core.database.read() as connection:
        user = await core.users.get(connection, _user_id(request))
    return respond(user_json(user))


async def update(core: Core, request: Request) -> Response:
    """Respond to `PUT /admin/users/{id}`: change what is sent, but `password_hash` and `aud`."""
    role = await require_admin(core, request)
    id = _user_id(request)
    values: dict[str, Any] = {}
    async with found_first(core, partial(core.users.get, id=id)):
        body = await read(request, AdminUserBody)
        email = email_of(body.email) if body.email else None
        phone = phone_of(body.phone) if body.phone else None
        if body.role:
            values["role"] = body.role.strip()
        if body.ban_duration:
            values["banned_until"] = _banned_until(body.ban_duration)
        if body.password is not None:
            await check_password(core.settings, body.password)
            values["encrypted_password"] = await core.passwords.hash(body.password)
    async with core.database.write() as connection:
        user = await core.users.get(connection, id, lock=True)
        with faults("Error updating user"):
            metadata = dict(user.row.raw_user_meta_data or {})
            if body.email_confirm:
                values["email_confirmed_at"] = user.row.email_confirmed_at or utc_now()
                metadata["email_verified"] = True
            if body.phone_confirm:
                values["phone_confirmed_at"] = user.row.phone_confirmed_at or utc_now()
            metadata = merged(metadata, body.user_metadata or {})
            if metadata != (user.row.raw_user_meta_data or {}):
                values["raw_user_meta_data"] = metadata
            if body.app_metadata is not None:
                known = user.row.raw_app_meta_data
                values["raw_app_meta_data"] = merged(known, body.app_metadata)
            values |= {"email": email} if email else {}
            values |= {"phone": phone} if phone else {}
            if email and email != user.row.email:
                await core.engine.claim_address(connection, email, id)
            if OUTSTANDING_ENDS & values.keys():
                await core.engine.revoke_outstanding(connection, user.row, **values)
            else:
                await core.users.change(connection, id, **values)
            await _update_identities(core, connection, user, body, email, phone)
            await core.add_email_identity(connection, user, body.password)
            if body.password is not None:
                await core.sessions.end(connection, id)
            changed = await core.users.get(connection, id)
            traits = user_traits(changed.row)
            await core.audit.record_admin(connection, role, AuditAction.MODIFIED, traits)
    return respond(changed_user(changed, user))


async def _update_identities(
    core: Core,
    connection: SqlConnection,
    user: AuthUser,
    body: AdminUserBody,
    email: str | None,
    phone: str | None,
) -> None:
    for provider, address, verified in (
        ("email", email, body.email_confirm),
        ("phone", phone, body.phone_confirm),
    ):
        if address:
            await core.engine.users.set_identity(
                connection, user.id, provider, address, verified=verified
            )
            if verified:
                await core.users.change(connection, user.id, is_anonymous=False)


async def delete(core: Core, request: Request) -> Response:
    """Respond to `DELETE /admin/users/{id}`: for good, or softly, so that only the id stays."""
    role = await require_admin(core, request)
    id = _user_id(request)
    async with found_first(core, partial(core.users.get, id=id)):
        body = await read(request, DeleteUserBody, required=False)
    async with core.database.write() as connection:
        user = await core.users.get(connection, id, lock=True)
        await core.audit.record_admin(connection, role, AuditAction.DELETED, user_traits(user.row))
        if not body.should_soft_delete:
            with database_errors("deleting"):
                await core.engine.delete(connection, id)
        elif user.row.deleted_at is None:
            await core.sessions.end(connection, id)
            await core.engine.revoke_outstanding(connection, user.row)
            await core.users.soft_delete(connection, user)
    return respond({})


async def list_factors(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/users/{id}/factors`."""
    await require_admin(core, request)
    async with core.database.read() as connection:
        user = await core.users.get(connection, _user_id(request))
    return respond([factor_json(factor) for factor in user.factors])


async def list_passkeys(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/users/{id}/passkeys`: nobody can add one."""
    await require_admin(core, request)
    async with core.database.read() as connection:
        await core.users.get(connection, _user_id(request))
    return respond([])


async def update_factor(core: Core, request: Request) -> Response:
    """Respond to `PUT /admin/users/{id}/factors/{factor_id}`: gives it another name or number."""
    role = await require_admin(core, request)

    async def find(connection: SqlConnection, lock: bool = False) -> Row[Any]:
        user = await core.users.get(connection, _user_id(request), lock=lock)
        factor_id = uuid_of(request.path_params["factor_id"], "factor_id")
        return await core.factors.get(connection, user.id, factor_id)

    async with found_first(core, find):
        body = await read(request, FactorBody)
    async with core.database.write() as connection:
        factor = await find(connection, lock=True)
        if body.friendly_name:
            await core.factors.change(connection, factor.id, friendly_name=body.friendly_name)
        if body.phone and factor.factor_type == "phone":
            phone = phone_of(body.phone)
            await core.factors.change(connection, factor.id, phone=phone)
        factor = await find(connection)
        traits = {**factor_traits(factor), "factor_type": factor.factor_type}
        await core.audit.record_admin(connection, role, AuditAction.FACTOR_UPDATED, traits)
    return respond(factor_json(factor))


async def delete_factor(core: Core, request: Request) -> Response:
    """Respond to `DELETE /admin/users/{id}/factors/{factor_id}`."""
    await require_admin(core, request)
    async with core.database.write() as connection:
        user = await core.users.get(connection, _user_id(request), lock=True)
        factor_id = uuid_of(request.path_params["factor_id"], "factor_id")
        factor = await core.factors.get(connection, user.id, factor_id)
        await core.factors.remove(connection, factor)
        await core.audit.record(
            connection,
            user.row,
            AuditAction.FACTOR_DELETED,
            traits=factor_traits(factor),
            ip=address_of(request),
        )
    return respond(factor_json(factor))


def _user_id(request: Request) -> UUID:
    return uuid_of(request.path_params["id"], "user_id")


def _new_id(text: str) -> UUID:
    if not text:
        return uuid4()
    try:
        id = UUID(text)
    except ValueError:
        raise invalid("ID must conform to the uuid v4 format") from None
    if id.int == 0:
        raise invalid("ID cannot be a nil uuid")
    return id


def _banned_until(duration: str) -> datetime | None:
    if duration in ("", "none"):
        return None
    try:
        length = parse_signed_duration(duration)
    except ValueError as error:
        raise invalid(f"invalid format for ban duration: {error}") from None
    # A negative one is a ban that has ended.
    return utc_now() + length if length else None


def _is_descending(request: Request) -> bool:
    orders = request.query_params.getlist("sort") or ["created_at desc"]
    for order in orders:
        field, _, direction = order.partition(" ")
        if field != "created_at":
            raise invalid(f"Bad Sort Parameters: bad field for sort '{field}'")
        if direction.lower() not in ("", "asc", "desc"):
            raise invalid(
                f"Bad Sort Parameters: bad direction for sort '{direction}', only 'asc' and 'desc' "
                "allowed"
            )
    # Users are sorted by one field, of which the first mention counts.
    return orders[0].partition(" ")[2].lower() != "asc"
