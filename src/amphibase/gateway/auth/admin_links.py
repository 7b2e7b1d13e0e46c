"""Links for the administration of the project: to send them oneself, or to invite."""

from typing import Any
from uuid import uuid4

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.one_time_tokens import EMAIL_CHANGE, EmailToken, Kind
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bearer import require_admin
from amphibase.gateway.auth.bodies import Body, email_of, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.new_users import check_new_user
from amphibase.gateway.auth.password_policy import check_password
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.users import AuthUser


class InviteBody(Body, go_type="InviteParams"):
    email: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class GenerateLinkBody(Body, go_type="GenerateLinkParams"):
    type: str = ""
    email: str = ""
    new_email: str = ""
    password: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    redirect_to: str = ""


async def invite(core: Core, request: Request) -> Response:
    """Respond to `POST /invite`: adds a user who has yet to accept, and sends the email."""
    role = await require_admin(core, request)
    body = await read(request, InviteBody)
    email = email_of(body.email)
    await core.email_quota.take()
    async with core.database.write() as connection:
        user = await _invited(core, connection, request, email, body.data)
        token = await core.one_time_tokens.issue(connection, user.id, "confirmation_token", email)
        user = await core.users.get(connection, user.id)
        traits = {"user_id": str(user.id), "user_email": email}
        await core.audit.record_admin(connection, role, AuditAction.INVITED, traits)
    core.send(core.templates.invitation(email, token, core.redirects.of(request), body.data))
    return respond(user_json(user))


async def generate_link(core: Core, request: Request) -> Response:
    """Respond to `POST /admin/generate_link`: the user, with the link and the code that an email
    would hold; none is sent."""
    role = await require_admin(core, request)
    body = await read(request, GenerateLinkBody)
    email = email_of(body.email)
    redirect_to = core.redirects.of(request, body.redirect_to)
    # The link to a new account has the type of a sign-up, whatever the body says.
    kind = body.type
    password_hash = await _hash_for(core, body, email)
    async with core.database.write() as connection:
        match kind:
            case "signup":
                user = await _added(core, connection, request, email, body.data, password_hash)
                token = await _confirmation(core, connection, user)
            case "invite":
                user = await _invited(core, connection, request, email, body.data)
                token = await _confirmation(core, connection, user)
            case "magiclink":
                existing = await core.users.find_by_email(connection, email, lock=True)
                if existing is None:
                    kind = "signup"
                    user = await _added(core, connection, request, email, body.data)
                    token = await _confirmation(core, connection, user)
                else:
                    user = existing
                    token = await _recovery(core, connection, user)
            case "recovery":
                user = await _existing(core, connection, email)
                token = await _recovery(core, connection, user)
            case "email_change_current" | "email_change_new":
                user = await _existing(core, connection, email)
                new = email_of(body.new_email)
                token = await _change(core, connection, user, kind, new)
            case _:
                raise invalid(f"Invalid email action link type requested: {kind}")
        user = await core.users.get(connection, user.id)
        await _audit_link(core, connection, role, user, kind)
    link_kind = "email_change" if kind.startswith("email_change") else kind
    return respond(
        {
            **user_json(user),
            "action_link": core.templates.link(link_kind, token.token, redirect_to),
            "email_otp": token.code,
            "hashed_token": token.token,
            "verification_type": kind,
            "redirect_to": redirect_to,
        }
    )


async def _audit_link(
    core: Core, connection: SqlConnection, role: str, user: AuthUser, kind: str
) -> None:
    match kind:
        case "invite":
            traits = {"user_id": str(user.id), "user_email": user.row.email}
            await core.audit.record_admin(connection, role, AuditAction.INVITED, traits)
        case "magiclink" | "recovery":
            await core.audit.record(connection, user.row, AuditAction.RECOVERY_REQUESTED)


async def _hash_for(core: Core, body: GenerateLinkBody, email: str) -> str | None:
    """Return the hash of the password that a link to a sign-up sets, if any: who is there already
    needs none. Raises AuthError."""
    if body.type != "signup":
        return None
    if body.password:
        await check_password(core.settings, body.password)
        return await core.passwords.hash(body.password)
    async with core.database.read() as connection:
        if await core.users.find_by_email(connection, email) is None:
            raise invalid("Signup requires a valid password")
    return None


async def _existing(core: Core, connection: SqlConnection, email: str) -> AuthUser:
    user = await core.users.find_by_email(connection, email, lock=True)
    if user is None:
        raise AuthError(codes.USER_NOT_FOUND, "User with this email not found")
    return user


async def _added(
    core: Core,
    connection: SqlConnection,
    request: Request,
    email: str,
    data: dict[str, Any],
    password_hash: str | None = None,
) -> AuthUser:
    id, aud = uuid4(), core.settings.jwt_aud
    if await core.users.find_by_email(connection, email) is None:
        await check_new_user(
            core, connection, request, id=id, audience=aud, email=email, user_metadata=data
        )
    with database_errors("saving new"):
        row = await core.sign_ups.add_by_admin(
            connection, email, data, password_hash, {"id": id, "aud": aud}
        )
    return await core.users.get(connection, row.id)


async def _invited(
    core: Core, connection: SqlConnection, request: Request, email: str, data: dict[str, Any]
) -> AuthUser:
    user = await _added(core, connection, request, email, data)
    now = utc_now()
    await core.users.change(connection, user.id, invited_at=now, confirmation_sent_at=now)
    return user


async def _confirmation(core: Core, connection: SqlConnection, user: AuthUser) -> EmailToken:
    await core.users.change(connection, user.id, confirmation_sent_at=utc_now())
    return await core.one_time_tokens.issue(
        connection, user.id, "confirmation_token", user.row.email
    )


async def _recovery(core: Core, connection: SqlConnection, user: AuthUser) -> EmailToken:
    await core.users.change(connection, user.id, recovery_sent_at=utc_now())
    return await core.one_time_tokens.issue(connection, user.id, "recovery_token", user.row.email)


async def _change(
    core: Core, connection: SqlConnection, user: AuthUser, kind: str, new: str
) -> EmailToken:
    if not core.settings.mailer_secure_email_change_enabled and kind == "email_change_current":
        raise invalid("Enable secure email change to generate link for current email")
    await core.engine.check_address_free(connection, new)
    values: dict[str, Any] = {"email_change": new, "email_change_sent_at": utc_now()}
    if user.row.email_change != new:
        values["email_change_confirm_status"] = 0
        await core.one_time_tokens.revoke(connection, user.id, *EMAIL_CHANGE)
    await core.users.change(connection, user.id, **values)
    token_kind: Kind = "email_change_token_new"
    address = new
    if kind == "email_change_current":
        token_kind, address = "email_change_token_current", user.row.email
    return await core.one_time_tokens.issue(connection, user.id, token_kind, address)
