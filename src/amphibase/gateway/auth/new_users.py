"""What a hook of the project may reject: users before they are added."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request

from amphibase.backend import Claims
from amphibase.gateway.auth.core import Core, address_of

NO_TIME = "0001-01-01T00:00:00Z"
"""As Go writes a time that is not set, which is what hooks get."""


async def check_new_user(
    core: Core,
    connection: AsyncConnection,
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
    if not core.hooks.checks_users:
        return
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
