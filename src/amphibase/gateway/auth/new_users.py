"""The hooks of the project around a new user: one may reject it, and one gets to know of it."""

from typing import Any
from uuid import UUID

from starlette.requests import Request

from amphibase.backend import Claims
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.serializers import user as user_json

NO_TIME = "0001-01-01T00:00:00Z"
"""As Go writes a time that is not set, which is what hooks get."""


async def check_new_user(
    core: Core,
    connection: SqlConnection,
    request: Request,
    *,
    id: UUID,
    audience: str,
    email: str = "",
    phone: str = "",
    user_metadata: Claims,
) -> None:
    """Ask the hook `before_user_created` whether a user may be added.

    Raises:
        AuthError: the hook rejects the user, or fails.
    """
    if not core.hooks.has_new_user_hooks:
        return
    request.state.new_user_id = id
    provider = "email" if email else "phone" if phone else None
    app_metadata = {"provider": provider, "providers": [provider]} if provider else {}
    user: dict[str, Any] = {
        "id": str(id),
        "aud": audience,
        "role": "",
        "email": email,
        "phone": phone,
        "app_metadata": app_metadata,
        "user_metadata": user_metadata,
        "identities": [],
        "created_at": NO_TIME,
        "updated_at": NO_TIME,
        "is_anonymous": provider is None,
    }
    await core.hooks.before_user_created(connection, user, address_of(request))


async def report_new_user(core: Core, request: Request) -> None:
    """Let the hook `after_user_created` know once of the user that a request added, if it did.

    Raises:
        AuthError: the hook fails; the user stays.
    """
    id: UUID | None = getattr(request.state, "new_user_id", None)
    if id is None or not core.hooks.reports_users:
        return
    request.state.new_user_id = None
    async with core.database.write() as connection:
        user = await core.users.find(connection, id)
        if user is not None:
            await core.hooks.after_user_created(connection, user_json(user), address_of(request))
