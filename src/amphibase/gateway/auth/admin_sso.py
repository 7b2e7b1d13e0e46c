"""`/admin/sso/providers`: the companies' own sign-ins by SAML, which came with a project's data.

None can be added or changed, since nobody can sign in by them here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from starlette.requests import Request
from starlette.responses import Response

from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.bearer import require_admin
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import timestamp

_PROVIDERS = text(
    "SELECT p.*, s.entity_id, s.metadata_xml, s.metadata_url, s.attribute_mapping,"
    " s.name_id_format,"
    " ARRAY(SELECT d.domain FROM auth.sso_domains AS d"
    " WHERE d.sso_provider_id = p.id ORDER BY d.created_at, d.domain) AS domains"
    " FROM auth.sso_providers AS p LEFT JOIN auth.saml_providers AS s ON s.sso_provider_id = p.id"
    " WHERE CAST(:id AS uuid) IS NULL OR p.id = :id ORDER BY p.created_at, p.id"
)
_DELETE = text("DELETE FROM auth.sso_providers WHERE id = :id")


async def list_providers(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/sso/providers`."""
    await require_admin(core, request)
    async with core.database.read() as connection:
        providers = await _select(connection)
    items = [_provider_json(provider) for provider in providers]
    for item in items:
        item["saml"].pop("metadata_xml", None)
    return respond({"items": items})


async def get_provider(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/sso/providers/{id}`."""
    await require_admin(core, request)
    async with core.database.read() as connection:
        return respond(_provider_json(await _find(connection, request)))


async def delete_provider(core: Core, request: Request) -> Response:
    """Respond to `DELETE /admin/sso/providers/{id}`: with what was deleted."""
    await require_admin(core, request)
    async with core.database.write() as connection:
        provider = await _find(connection, request)
        await connection.execute(_DELETE, {"id": provider.id})
    return respond(_provider_json(provider))


async def reject_change(core: Core, request: Request) -> Response:
    """Respond to `POST /admin/sso/providers` and `PUT /admin/sso/providers/{id}`."""
    await require_admin(core, request)
    raise AuthError(codes.SAML_DISABLED)


async def _select(connection: SqlConnection, id: UUID | None = None) -> Sequence[Row[Any]]:
    return (await connection.execute(_PROVIDERS, {"id": id})).all()


async def _find(connection: SqlConnection, request: Request) -> Row[Any]:
    try:
        providers = await _select(connection, UUID(request.path_params["id"]))
    except ValueError:
        providers = ()
    if not providers:
        raise AuthError(codes.SSO_PROVIDER_NOT_FOUND)
    return providers[0]


def _provider_json(provider: Row[Any]) -> dict[str, Any]:
    saml = {
        name: getattr(provider, name)
        for name in ("metadata_xml", "metadata_url", "name_id_format")
        if getattr(provider, name)
    }
    return {
        "id": str(provider.id),
        **({"resource_id": provider.resource_id} if provider.resource_id is not None else {}),
        "disabled": provider.disabled,
        "saml": {
            "entity_id": provider.entity_id or "",
            "attribute_mapping": provider.attribute_mapping or {},
            **saml,
        },
        "domains": [{"domain": domain} for domain in provider.domains],
        "created_at": _time(provider.created_at),
        "updated_at": _time(provider.updated_at),
    }


def _time(value: datetime | None) -> str:
    """Write a time; one that the data does not have is the zero of Go, as by Supabase Auth."""
    return "0001-01-01T00:00:00Z" if value is None else timestamp(value)
