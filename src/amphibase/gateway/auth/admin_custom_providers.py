"""`/admin/custom-providers`: third parties that the administration registers, named `custom:…`.

Those that came with a project's data are shown, changed and deleted. None is added and no secret
changed, as by a Supabase Auth without a key of its own for the database, which stores no secret
that is not encrypted (`SetClientSecret` in its `internal/models/custom_oauth_provider.go`); so
nobody signs in by one.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row, text
from starlette.requests import Request
from starlette.responses import Response

from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.bearer import require_admin
from amphibase.gateway.auth.bodies import Body, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.public_urls import check_public_url
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import timestamp

PREFIX = "custom:"
OPENID = "openid"

RESERVED_PARAMETERS = frozenset(
    (
        "client_id", "client_secret", "redirect_uri", "response_type", "state", "code_challenge",
        "code_challenge_method", "code_verifier", "nonce",
    )
)  # fmt: skip
"""Of the request to a third party: what a sign-in rests on."""

PROTECTED_FIELDS = frozenset(
    (
        "id", "aud", "role", "app_metadata", "created_at", "updated_at", "confirmed_at",
        "email_confirmed_at", "phone_confirmed_at", "email_verified", "phone_verified",
        "banned_until", "is_super_admin",
    )
)  # fmt: skip
"""Of a user: what no third party may say."""

_COLUMNS = (
    "provider_type", "identifier", "name", "client_id", "acceptable_client_ids", "scopes",
    "pkce_enabled", "attribute_mapping", "authorization_params", "enabled", "email_optional",
    "skip_nonce_check",
)  # fmt: skip
_OPENID_URLS = ("issuer", "discovery_url")
_OAUTH_URLS = ("authorization_url", "token_url", "userinfo_url", "jwks_uri")

_ALL = text(
    "SELECT * FROM auth.custom_oauth_providers"
    " WHERE CAST(:type AS text) IS NULL OR provider_type = :type ORDER BY created_at DESC, id"
)
_ONE = text("SELECT * FROM auth.custom_oauth_providers WHERE identifier = :identifier")
_DELETE = text("DELETE FROM auth.custom_oauth_providers WHERE identifier = :identifier")
_JSON = ("attribute_mapping", "authorization_params")


class CustomProviderBody(Body, go_type="AdminCustomOAuthProviderParams"):
    provider_type: str = ""
    identifier: str = ""
    name: str = ""
    client_id: str = ""
    client_secret: str = ""
    acceptable_client_ids: list[str] | None = None
    scopes: list[str] | None = None
    pkce_enabled: bool | None = None
    attribute_mapping: dict[str, Any] | None = None
    authorization_params: dict[str, Any] | None = None
    enabled: bool | None = None
    email_optional: bool | None = None
    issuer: str = ""
    discovery_url: str = ""
    skip_nonce_check: bool | None = None
    authorization_url: str = ""
    token_url: str = ""
    userinfo_url: str = ""
    jwks_uri: str = ""


async def list_providers(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/custom-providers?type=`: the newest first."""
    await _require_enabled(core, request)
    kind = request.query_params.get("type") or None
    if kind not in (None, "oauth2", "oidc"):
        raise invalid("type must be either 'oauth2' or 'oidc'")
    async with core.database.read() as connection:
        providers = (await connection.execute(_ALL, {"type": kind})).all()
    return respond({"providers": [_provider_json(provider) for provider in providers]})


async def get_provider(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/custom-providers/{identifier}`."""
    await _require_enabled(core, request)
    identifier = _identifier(request)
    async with core.database.read() as connection:
        return respond(_provider_json(await _find(connection, identifier)))


async def create(core: Core, request: Request) -> Response:
    """Respond to `POST /admin/custom-providers`: with what is wrong, and that none is added."""
    await _require_enabled(core, request)
    body = await read(request, CustomProviderBody)
    _check_required(body)
    _check_parameters(body)
    names = _OPENID_URLS if body.provider_type == "oidc" else _OAUTH_URLS
    for name in names:
        if url := getattr(body, name):
            await check_public_url(url)
    async with core.database.read() as connection:
        known = await connection.execute(_ONE, {"identifier": body.identifier})
        if known.one_or_none() is not None:
            raise AuthError(
                codes.CONFLICT,
                "A custom OAuth provider with this identifier already exists",
                status=400,
            )
    raise AuthError(codes.CUSTOM_PROVIDER_SECRET)


async def update(core: Core, request: Request) -> Response:
    """Respond to `PUT /admin/custom-providers/{identifier}`: change what is sent."""
    await _require_enabled(core, request)
    identifier = _identifier(request)
    body = await read(request, CustomProviderBody)
    _check_parameters(body)
    async with core.database.read() as connection:
        kind = (await _find(connection, identifier)).provider_type
    values = dict(_changes(body, kind))
    for name in {*_OPENID_URLS, *_OAUTH_URLS} & values.keys():
        await check_public_url(values[name])
    if body.client_secret:
        raise AuthError(codes.CUSTOM_PROVIDER_SECRET)
    async with core.database.write() as connection:
        await _find(connection, identifier)
        await _change(connection, identifier, values)
        return respond(_provider_json(await _find(connection, identifier)))


async def delete(core: Core, request: Request) -> Response:
    """Respond to `DELETE /admin/custom-providers/{identifier}`."""
    await _require_enabled(core, request)
    identifier = _identifier(request)
    async with core.database.write() as connection:
        await _find(connection, identifier)
        await connection.execute(_DELETE, {"identifier": identifier})
    return Response(status_code=204)


async def _require_enabled(core: Core, request: Request) -> None:
    await require_admin(core, request)
    if not core.settings.custom_oauth_enabled:
        raise AuthError(codes.CUSTOM_PROVIDERS_DISABLED)


def _identifier(request: Request) -> str:
    identifier: str = request.path_params["identifier"]
    _check_prefix(identifier)
    return identifier


def _check_prefix(identifier: str) -> None:
    if not identifier.startswith(PREFIX):
        raise invalid(f"identifier must start with '{PREFIX}' prefix, e.g. '{PREFIX}{identifier}'")


def _check_required(body: CustomProviderBody) -> None:
    if body.provider_type not in ("oauth2", "oidc"):
        raise invalid("provider_type must be either 'oauth2' or 'oidc'")
    if not body.identifier:
        raise invalid("identifier is required")
    _check_prefix(body.identifier)
    for name in ("name", "client_id", "client_secret"):
        if not getattr(body, name):
            raise invalid(f"{name} is required")
    if body.provider_type == "oidc":
        if not body.issuer:
            raise invalid("issuer is required for OIDC providers")
        return
    for name in ("authorization_url", "token_url", "userinfo_url"):
        if not getattr(body, name):
            raise invalid(f"{name} is required for OAuth2 providers")


def _check_parameters(body: CustomProviderBody) -> None:
    for name, value in (body.authorization_params or {}).items():
        if name in RESERVED_PARAMETERS:
            raise invalid(f"Cannot override reserved OAuth parameter: {name}")
        if not isinstance(value, str):
            raise invalid(f"Authorization parameter {json.dumps(name)} must be a string")
    for name in body.attribute_mapping or ():
        if name in PROTECTED_FIELDS:
            raise invalid(f"Cannot map to protected system field: {name}")


def _changes(body: CustomProviderBody, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the columns that a body changes, and their values."""
    urls = _OPENID_URLS if kind == "oidc" else _OAUTH_URLS
    for name in ("name", "client_id", *urls):
        if value := getattr(body, name):
            yield name, value
    names = ["acceptable_client_ids", "pkce_enabled", *_JSON, "enabled", "email_optional"]
    if kind == "oidc":
        names.append("skip_nonce_check")
    for name in names:
        if (value := getattr(body, name)) is not None:
            yield name, value
    if body.scopes is not None:
        is_whole = kind != "oidc" or OPENID in body.scopes
        yield "scopes", body.scopes if is_whole else [OPENID, *body.scopes]


async def _change(connection: SqlConnection, identifier: str, values: Mapping[str, Any]) -> None:
    # The names are those of columns above.
    changed = [
        f"{name} = CAST(:{name} AS jsonb)" if name in _JSON else f"{name} = :{name}"
        for name in values
    ]
    written = {
        name: json.dumps(value) if name in _JSON else value for name, value in values.items()
    }
    await connection.execute(
        text(
            f"UPDATE auth.custom_oauth_providers SET {', '.join([*changed, 'updated_at = now()'])}"  # noqa: S608
            " WHERE identifier = :identifier"
        ),
        {**written, "identifier": identifier},
    )


async def _find(connection: SqlConnection, identifier: str) -> Row[Any]:
    row = (await connection.execute(_ONE, {"identifier": identifier})).one_or_none()
    if row is None:
        raise AuthError(codes.CUSTOM_PROVIDER_NOT_FOUND)
    return row


def _provider_json(row: Row[Any]) -> dict[str, Any]:
    urls = {name: getattr(row, name) for name in (*_OPENID_URLS, *_OAUTH_URLS)}
    return {
        "id": str(row.id),
        **{name: getattr(row, name) for name in _COLUMNS},
        **{name: url for name, url in urls.items() if url is not None},
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
    }
