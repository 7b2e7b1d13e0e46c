"""`/admin/audit`: what happened to accounts, for the administration of the project."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.auth.bearer import require_admin
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import invalid
from amphibase.gateway.auth.pages import page_headers, read_page
from amphibase.gateway.auth.responses import respond
from amphibase.gateway.auth.serializers import by_name, timestamp

SCOPES: Mapping[str, tuple[str, ...]] = {
    "author": ("actor_username", "actor_name"),
    "action": ("action",),
    "type": ("log_type",),
}
"""The fields of an entry that `query=<scope>:<text>` searches."""


async def list_entries(core: Core, request: Request) -> Response:
    """Respond to `GET /admin/audit?page=&per_page=&query=`: the newest entries first."""
    await require_admin(core, request)
    page = read_page(request)
    query = request.query_params.get("query", "")
    scope, separator, text = query.partition(":")
    if query and (scope not in SCOPES or not separator):
        raise invalid(f"Invalid query scope: {query}")
    async with core.database.read() as connection:
        entries, total = await core.audit.page(connection, page, SCOPES.get(scope, ()), text)
    return respond(
        [_entry_json(entry) for entry in entries], headers=page_headers(request, page, total)
    )


def _entry_json(entry: Row[Any]) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "payload": by_name(entry.payload),
        "created_at": timestamp(entry.created_at),
        "ip_address": entry.ip_address,
    }
