"""`/authorize` and `/callback`: to a third party's sign-in, and back from it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from amphibase.accounts.external_identities import ExternalIdentity, IdentityTaken
from amphibase.accounts.jwt.verifier import TokenRejected
from amphibase.accounts.oauth.flows import EXTERNAL, Challenge, FlowExpired, FlowNotFound
from amphibase.accounts.oauth.http import CodeRejected, ProviderError
from amphibase.accounts.one_time_tokens import Kind
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import AmphibaseError, EmailNotConfirmed, UserBanned
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.audit import AuditAction, identity_traits
from amphibase.gateway.auth.bearer import check_linking, signed_in
from amphibase.gateway.auth.bodies import PkceBody, email_of
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.errors import AuthError, database_errors, invalid
from amphibase.gateway.auth.external.custom import PREFIX, custom_provider
from amphibase.gateway.auth.new_users import check_new_user, report_new_user
from amphibase.gateway.auth.notifications import Notification, notify
from amphibase.gateway.auth.redirect_responses import (
    SESSION_FIELDS,
    redirect,
    redirect_callback_error,
)
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.settings_endpoint import unsupported_provider
from amphibase.gateway.auth.sign_up import audience, check_open
from amphibase.gateway.auth.users import AuthUser
from amphibase.redaction import redacted_logger

if TYPE_CHECKING:  # few projects have any
    from amphibase.accounts.oauth.providers import Provider, ProviderTokens

logger = redacted_logger("amphibase.gateway.auth")

INVITED: Kind = "confirmation_token"
"""The kind of the token of an invitation."""

MAX_FORM_BYTES = 64 * 1024

_OWN_PARAMETERS = frozenset(
    {
        "provider", "scopes", "code_challenge", "code_challenge_method",
        "invite_token", "skip_http_redirect", "apikey",
        # What a flow rests on is never the client's to say.
        "client_id", "client_secret", "redirect_uri", "response_type", "response_mode", "state",
        "nonce", "scope", "code_verifier",
    }
)  # fmt: skip


async def authorize(core: Core, request: Request) -> Response:
    """Respond to `GET /authorize`: redirect to the sign-in of a third party."""
    url = await _begin(core, request, None)
    return RedirectResponse(url, 302, {"cache-control": "no-store"})


async def link_identity(core: Core, request: Request) -> Response:
    """Respond to `GET /user/identities/authorize`: to a third party's sign-in, for one more
    identity of the caller."""
    async with core.database.read() as connection:
        user = (await signed_in(core, connection, request)).user
    check_linking(core)
    url = await _begin(core, request, user.id)
    if request.query_params.get("skip_http_redirect") == "true":
        return respond({"url": url}, headers={"cache-control": "no-store"})
    return RedirectResponse(url, 302, {"cache-control": "no-store"})


async def _begin(core: Core, request: Request, linking_user_id: UUID | None) -> str:
    query = request.query_params
    name = query.get("provider", "").lower()
    provider = await _provider(core, name)
    if not provider.settings.secret:
        raise invalid("Unsupported provider: missing OAuth secret")
    body = PkceBody(
        code_challenge=query.get("code_challenge", ""),
        code_challenge_method=query.get("code_challenge_method", ""),
    )
    challenge = body.check_challenge()
    invitation = query.get("invite_token", "")
    async with core.database.write() as connection:
        if invitation and not await core.one_time_tokens.user_of(connection, invitation, INVITED):
            raise AuthError(codes.USER_NOT_FOUND, "User identified by token not found")
        state = await core.flows.begin_external(
            connection,
            name,
            challenge,
            core.redirects.of(request),
            linking_user_id,
            invite_token=core.sealed(invitation) if invitation else None,
        )
    extra = {key: value for key, value in query.items() if key.lower() not in _OWN_PARAMETERS}
    try:
        return await provider.authorization_url(
            _redirect_uri(core, provider),
            state,
            core.flow_secrets(state),
            query.get("scopes", "").replace(",", " ").split(),
            extra,
        )
    except ProviderError as error:
        logger.error("Sign-in with %s failed: %s", name, error)
        raise AuthError(codes.UNEXPECTED_FAILURE, "The provider cannot be reached") from None


async def callback(core: Core, request: Request) -> Response:
    """Respond to `/callback`: redirect to the application with a session, a code or an error."""
    fields = await _callback_fields(request)
    try:
        flow = await _end_flow(core, fields.get("state", ""))
    except AuthError as error:
        return redirect_callback_error(error, core.settings.site_url, names_flow=False)
    # The list of allowed URLs may have changed.
    redirect_to = flow.referrer if core.redirects.allows(flow.referrer) else core.settings.site_url
    try:
        if fields.get("error"):
            return _provider_error(fields, redirect_to)
        if not fields.get("code"):
            raise AuthError(codes.BAD_OAUTH_CALLBACK)
        provider = await _provider(core, flow.provider_type)
        identity, tokens = await _exchange(core, provider, fields)
        async with core.database.write() as connection:
            user = await _accept(core, connection, request, identity, flow, provider)
            if flow.code_challenge is not None:
                code = await core.flows.issue_code(
                    connection,
                    user.id,
                    EXTERNAL,
                    Challenge(flow.code_challenge, flow.code_challenge_method),
                    provider=flow.provider_type,
                    **core.sealed_provider_tokens(tokens),
                )
                response = redirect(redirect_to, query={"code": code}, status=302)
            else:
                session = await core.open_session(connection, user.id, request, EXTERNAL)
                fragment = {name: session[name] for name in SESSION_FIELDS}
                fragment |= provider_fields(tokens)
                response = redirect(redirect_to, fragment=fragment, status=302)
        await report_new_user(core, request)
        if flow.linking_target_id is not None:
            await notify_linked(core, request, user, identity)
        return response
    except (AuthError, AmphibaseError) as error:
        return redirect_callback_error(error, redirect_to)


async def _end_flow(core: Core, state: str) -> Row[Any]:
    """Use a state up and return its flow. Raises AuthError."""
    if not state:
        raise AuthError(codes.BAD_OAUTH_CALLBACK, "OAuth state parameter missing")
    try:
        UUID(state)
    except ValueError:
        raise AuthError(codes.BAD_OAUTH_STATE, "OAuth state parameter is invalid") from None
    try:
        async with core.database.write() as connection:
            return await core.flows.end_external(connection, state)
    except FlowExpired:
        raise AuthError(codes.BAD_OAUTH_STATE, "OAuth state has expired") from None
    except FlowNotFound:
        raise AuthError(codes.BAD_OAUTH_STATE) from None


def provider_fields(tokens: "ProviderTokens") -> dict[str, str]:
    """Return what a session says of a third party's tokens."""
    fields = {"provider_token": tokens.access_token}
    if tokens.refresh_token:
        fields["provider_refresh_token"] = tokens.refresh_token
    return fields


async def accept_identity(
    core: Core,
    connection: SqlConnection,
    request: Request,
    identity: ExternalIdentity,
    *,
    email_optional: bool,
) -> AuthUser:
    """Return the user of an account at a third party, who is added where there is none.

    Args:
        email_optional: whether a user may have no address.

    Raises:
        AuthError: the user is banned or may not be added, or the address is not verified.
    """
    with _rejections(identity):
        signed_in = await core.external_identities.sign_in(connection, identity)
    traits = {"provider": identity.provider}
    if signed_in is not None:
        row = signed_in.user
        if signed_in.linked is not None:
            await _audit_link(core, connection, request, row, signed_in.linked)
        await core.audit.record(connection, row, AuditAction.LOGIN, traits=traits)
        return await core.users.of(connection, row)
    check_open(core)
    if identity.email is None and not email_optional:
        raise AuthError(codes.OAUTH_NO_EMAIL)
    id, aud = uuid4(), audience(core, request)
    await check_new_user(
        core,
        connection,
        request,
        id=id,
        audience=aud,
        email=identity.email or "",
        user_metadata=identity.data,
    )
    with database_errors("saving new"), _rejections(identity):
        row = await core.external_identities.add_user(
            connection,
            identity,
            id=id,
            accepts_unverified=core.settings.mailer_autoconfirm,
            email_optional=email_optional,
            aud=aud,
        )
    await core.audit.record(connection, row, AuditAction.SIGNED_UP, traits=traits)
    return await core.users.of(connection, row)


async def link(
    core: Core,
    connection: SqlConnection,
    request: Request,
    user_id: UUID,
    identity: ExternalIdentity,
) -> AuthUser:
    """Link an account at a third party to a user who is signed in; return the user.

    Raises:
        AuthError: it belongs to a user already, or the user is banned, or would have no verified
            address.
    """
    with database_errors("updating"), _rejections(identity):
        linked = await core.external_identities.link(connection, user_id, identity)
    user = await core.users.get(connection, user_id)
    await _audit_link(core, connection, request, user.row, linked)
    return user


async def notify_linked(
    core: Core, request: Request, user: AuthUser, identity: ExternalIdentity
) -> None:
    """Tell a user who has linked an account at a third party of it."""
    linked = Notification.IDENTITY_LINKED
    await notify(core, request, linked, user, Provider=identity.provider)


async def _audit_link(
    core: Core, connection: SqlConnection, request: Request, user: Row[Any], identity: Row[Any]
) -> None:
    await core.audit.record(
        connection,
        user,
        AuditAction.IDENTITY_LINKED,
        traits=identity_traits(identity),
        ip=address_of(request),
    )


async def _accept(
    core: Core,
    connection: SqlConnection,
    request: Request,
    identity: ExternalIdentity,
    flow: Row[Any],
    provider: "Provider",
) -> AuthUser:
    user_id: UUID | None = flow.linking_target_id
    if flow.invite_token:
        token = core.unsealed(flow.invite_token)
        return await _accept_invitation(core, connection, identity, token)
    if user_id is None:
        optional = provider.settings.email_optional
        return await accept_identity(core, connection, request, identity, email_optional=optional)
    return await link(core, connection, request, user_id, identity)


async def _accept_invitation(
    core: Core, connection: SqlConnection, identity: ExternalIdentity, token: str
) -> AuthUser:
    """Sign in the invited user by the account at a third party with the same address."""
    user_id = await core.one_time_tokens.redeem(connection, token, INVITED)
    user = await core.users.find(connection, user_id, lock=True) if user_id else None
    if user is None:
        raise AuthError(codes.INVITE_NOT_FOUND)
    if (user.row.email or "").lower() != identity.email:
        raise invalid("Invited email does not match emails from external provider")
    with database_errors("updating"), _rejections(identity):
        row = await core.external_identities.accept_invitation(connection, user.row, identity)
    traits = {"provider": identity.provider}
    await core.audit.record(connection, row, AuditAction.INVITE_ACCEPTED, traits=traits)
    return await core.users.of(connection, row)


@contextmanager
def _rejections(identity: ExternalIdentity) -> Iterator[None]:
    """Raise AuthError for what the account engine rejects of an identity."""
    try:
        yield
    except IdentityTaken as error:
        message = None if error.is_own else "Identity is already linked to another user"
        raise AuthError(codes.IDENTITY_EXISTS, message) from None
    except UserBanned:
        raise AuthError(codes.USER_BANNED) from None
    except EmailNotConfirmed:
        raise AuthError(
            codes.PROVIDER_EMAIL_UNVERIFIED,
            f"Unverified email with {identity.provider}. "
            f"Verify the email with {identity.provider} in order to sign in",
        ) from None


async def _exchange(
    core: Core, provider: "Provider", fields: Mapping[str, str]
) -> "tuple[ExternalIdentity, ProviderTokens]":
    flow_secrets = core.flow_secrets(fields["state"])
    try:
        identity, tokens = await provider.exchange(
            fields, _redirect_uri(core, provider), flow_secrets
        )
    except (ProviderError, TokenRejected) as error:
        logger.error("Sign-in with a third party failed: %s", getattr(error, "reason", error))
        if isinstance(error, CodeRejected):
            message = f"Unable to exchange external code: {fields['code'][:4]}"
            raise AuthError(codes.OAUTH_CALLBACK_FAILED, message) from None
        raise AuthError(codes.OAUTH_CALLBACK_FAILED) from None
    if identity.email is not None:
        email_of(identity.email)
    return identity, tokens


async def _callback_fields(request: Request) -> dict[str, str]:
    """Return the fields of the query, or of the form that Apple posts."""
    if request.method == "GET":
        return dict(request.query_params)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise AuthError(codes.BODY_TOO_LARGE)
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _provider_error(fields: Mapping[str, str], redirect_to: str) -> Response:
    query = {name: fields.get(name, "") for name in ("error", "error_description")}
    fragment = {name: value for name, value in query.items() if value}
    return redirect(redirect_to, query=query, fragment=fragment, status=302)


async def _provider(core: Core, name: str) -> "Provider":
    if name.startswith(PREFIX):
        return await custom_provider(core, name)
    provider = core.provider(name)
    if provider is None:
        raise unsupported_provider(name)
    return provider


def _redirect_uri(core: Core, provider: "Provider") -> str:
    own = provider.settings.redirect_uri
    return own if own and urlsplit(own).netloc else f"{core.settings.service_url}/callback"
