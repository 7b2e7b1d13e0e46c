"""`/admin/custom-providers`: third parties that the administration registers, named `custom:…`.

Secrets are stored as they are, as by a Supabase Auth that encrypts nothing in its database
(`SetClientSecret` in its `internal/models/custom_oauth_provider.go`), which is its default.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, text
from starlette.requests import Request
from starlette.responses import Response

from amphibase.accounts.oauth.http import ProviderError, get_json
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.bearer import require_admin
from amphibase.gateway.auth.bodies import Body, read
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.external.custom import PREFIX
from amphibase.gateway.auth.public_urls import check_public_url, check_request
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import timestamp

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
    "pkce_enabled", "attribute_mapping", "custom_claims_allowlist", "authorization_params",
    "enabled", "email_optional",
)  # fmt: skip
_OPENID_URLS = ("issuer", "discovery_url")
_OAUTH_URLS = ("authorization_url", "token_url", "userinfo_url", "jwks_uri")

_ALL = text(
    "SELECT * FROM auth.custom_oauth_providers"
    " WHERE CAST(:type AS text) IS NULL OR provider_type = :type ORDER BY created_at DESC, id"
)
_ONE = text("SELECT * FROM auth.custom_oauth_providers WHERE identifier = :identifier")
_COUNT = text("SELECT count(*) FROM auth.custom_oauth_providers")
_LOCK = text("LOCK TABLE auth.custom_oauth_providers IN SHARE ROW EXCLUSIVE MODE")
_DELETE = text("DELETE FROM auth.custom_oauth_providers WHERE identifier = :identifier")
_JSON = ("attribute_mapping", "authorization_params")
_DISCOVERY = "cached_discovery"

DISCOVERED = (
    "issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri",
    "scopes_supported", "response_types_supported", "grant_types_supported",
    "subject_types_supported",
)  # fmt: skip
"""What is kept of what a provider of OpenID Connect says of itself."""

_NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
_REQUESTED = ("token_endpoint", "jwks_uri")
"""What is requested from here, and not by the browser."""


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
    custom_claims_allowlist: list[str] | None = None
    authorization_params: dict[str, Any] | None = None
    enabled: bool | None = None
    email_optional: bool | None = None
    issuer: str = ""
    discovery_url: str | None = None
    skip_nonce_check: bool | None = None
    authorization_url: str = ""
    token_url: str = ""
    userinfo_url: str = ""
    jwks_uri: str | None = None


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
    """Respond to `POST /admin/custom-providers`: adds one, whose issuer has to be found."""
    await _require_enabled(core, request)
    body = await read(request, CustomProviderBody)
    _check_required(body)
    _check_parameters(body)
    async with core.database.read() as connection:
        await _check_quota(core, connection)
    names = _OPENID_URLS if body.provider_type == "oidc" else _OAUTH_URLS
    for name in names:
        if url := getattr(body, name):
            await check_public_url(url)
    async with core.database.read() as connection:
        known = await connection.execute(_ONE, {"identifier": body.identifier})
        if known.one_or_none() is not None:
            raise _conflict()
    values = {
        "id": uuid4(),
        "provider_type": body.provider_type,
        "identifier": body.identifier,
        "client_secret": body.client_secret,
        **{name: url for name in names if (url := getattr(body, name)) is not None},
        **dict(_changes(body, body.provider_type)),
    }
    if body.provider_type == "oidc":
        values.setdefault("scopes", [OPENID])
        values[_DISCOVERY] = await _discover(body.discovery_url, body.issuer)
    async with core.database.write() as connection:
        if core.settings.custom_oauth_max_providers:
            await connection.execute(_LOCK)
        await _check_quota(core, connection)
        if not await _add(connection, values):
            raise _conflict()
        return respond(_provider_json(await _find(connection, body.identifier)), 201)


async def update(core: Core, request: Request) -> Response:
    """Respond to `PUT /admin/custom-providers/{identifier}`: change what is sent."""
    await _require_enabled(core, request)
    identifier = _identifier(request)
    body = await read(request, CustomProviderBody)
    _check_parameters(body)
    async with core.database.read() as connection:
        row = await _find(connection, identifier)
    values = dict(_changes(body, row.provider_type))
    for name in (*_OPENID_URLS, *_OAUTH_URLS):
        if name in values:
            await check_public_url(values[name])
    if row.provider_type == "oidc" and (body.issuer or body.discovery_url is not None):
        url = values.get("discovery_url", row.discovery_url)
        values[_DISCOVERY] = await _discover(url, values.get("issuer", row.issuer))
    if body.client_secret:
        values["client_secret"] = body.client_secret
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


async def _check_quota(core: Core, connection: SqlConnection) -> None:
    most = core.settings.custom_oauth_max_providers
    if most and (await connection.execute(_COUNT)).scalar_one() >= most:
        raise AuthError(codes.CUSTOM_PROVIDER_QUOTA)


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
    if not all(name.strip() for name in body.custom_claims_allowlist or ()):
        raise invalid("custom_claims_allowlist entries must be non-empty strings")


def _changes(body: CustomProviderBody, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the columns that a body changes, and their values."""
    urls = _OPENID_URLS if kind == "oidc" else _OAUTH_URLS
    for name in ("name", "client_id", *urls):
        if value := getattr(body, name):
            yield name, value
    names = ["acceptable_client_ids", "pkce_enabled", *_JSON, "enabled", "email_optional"]
    names.append("custom_claims_allowlist")
    if kind == "oidc":
        names.append("skip_nonce_check")
    for name in names:
        if (value := getattr(body, name)) is not None:
            yield name, value
    if body.scopes is not None:
        is_whole = kind != "oidc" or OPENID in body.scopes
        yield "scopes", body.scopes if is_whole else [OPENID, *body.scopes]


async def _discover(url: str | None, issuer: str) -> dict[str, Any]:
    """Return what a provider of OpenID Connect says of itself. Raises AuthError."""
    url = url or f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    failed = f"OIDC discovery from {json.dumps(url)} failed: oidc:"
    try:
        found = await get_json(url, check=check_request)
    except ProviderError as error:
        raise invalid(f"{failed} discovery request to {url} failed: {error}") from None
    if not isinstance(found, dict):
        raise invalid(f"{failed} failed to decode discovery document from {url}")
    named = found.get("issuer", "")
    if named != issuer:
        raise invalid(
            f"{failed} issuer mismatch, expected {json.dumps(issuer)} got {json.dumps(named)}"
        )
    given = {name for name, value in found.items() if value and isinstance(value, str)}
    if missing := [name for name in _NEEDED if name not in given]:
        raise invalid(f"OIDC discovery document is missing required fields: {', '.join(missing)}")
    for name in _REQUESTED:
        await check_public_url(found[name])
    return {name: found[name] for name in DISCOVERED if found.get(name)}


async def _add(connection: SqlConnection, values: Mapping[str, Any]) -> bool:
    """Add a provider; return whether its identifier was free."""
    # The names are those of columns above.
    names, written = [*values], [*map(_placeholder, values)]
    if _DISCOVERY in values:
        names.append("discovery_cached_at")
        written.append("now()")
    statement = text(
        f"INSERT INTO auth.custom_oauth_providers ({', '.join(names)})"  # noqa: S608
        f" VALUES ({', '.join(written)})"
        " ON CONFLICT (identifier) DO NOTHING RETURNING id"
    )
    return (await connection.execute(statement, _written(values))).one_or_none() is not None


async def _change(connection: SqlConnection, identifier: str, values: Mapping[str, Any]) -> None:
    changed = [f"{name} = {_placeholder(name)}" for name in values]
    if _DISCOVERY in values:
        changed.append("discovery_cached_at = now()")
    await connection.execute(
        text(
            f"UPDATE auth.custom_oauth_providers SET {', '.join([*changed, 'updated_at = now()'])}"  # noqa: S608
            " WHERE identifier = :identifier"
        ),
        {**_written(values), "identifier": identifier},
    )


def _placeholder(name: str) -> str:
    return f"CAST(:{name} AS jsonb)" if name in (*_JSON, _DISCOVERY) else f":{name}"


def _written(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value) if name in (*_JSON, _DISCOVERY) else value
        for name, value in values.items()
    }


def _conflict() -> AuthError:
    message = "A custom OAuth provider with this identifier already exists"
    return AuthError(codes.CONFLICT, message, status=400)


async def _find(connection: SqlConnection, identifier: str) -> Row[Any]:
    row = (await connection.execute(_ONE, {"identifier": identifier})).one_or_none()
    if row is None:
        raise AuthError(codes.CUSTOM_PROVIDER_NOT_FOUND)
    return row


def _provider_json(row: Row[Any]) -> dict[str, Any]:
    discovered = row.cached_discovery
    document = discovered and {name: discovered[name] for name in DISCOVERED if name in discovered}
    return {
        "id": str(row.id),
        **{name: getattr(row, name) for name in _COLUMNS},
        **_named(row, _OPENID_URLS),
        "skip_nonce_check": row.skip_nonce_check,
        **({"discovery_document": document} if document is not None else {}),
        **_named(row, _OAUTH_URLS),
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
    }


def _named(row: Row[Any], names: Iterable[str]) -> dict[str, str]:
    return {name: url for name in names if (url := getattr(row, name)) is not None}
