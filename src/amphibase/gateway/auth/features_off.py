"""What Supabase's Auth has and this one leaves off, rejected as there where it is not enabled, and
who may enter where nothing is."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.bearer import require_admin, signed_in
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError

Call = Callable[[Core, Request], Awaitable[Response]]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _public(code: codes.ErrorCode) -> Call:
    async def reject(core: Core, request: Request) -> Response:
        raise AuthError(code)

    return reject


def _for_admins(code: codes.ErrorCode) -> Call:
    async def reject(core: Core, request: Request) -> Response:
        await require_admin(core, request)
        raise AuthError(code)

    return reject


def _for_users(code: codes.ErrorCode) -> Call:
    async def reject(core: Core, request: Request) -> Response:
        async with core.database.read() as connection:
            await signed_in(core, connection, request)
        raise AuthError(code)

    return reject


_CALLS: tuple[tuple[str, Call], ...] = (
    ("/.well-known/oauth-authorization-server", _public(codes.OAUTH_SERVER_DISABLED)),
    ("/oauth/{rest:path}", _public(codes.OAUTH_SERVER_DISABLED)),
    ("/user/oauth/grants", _for_users(codes.OAUTH_SERVER_DISABLED)),
    ("/admin/oauth/{rest:path}", _for_admins(codes.OAUTH_SERVER_DISABLED)),
    ("/passkeys", _public(codes.PASSKEYS_DISABLED)),
    ("/passkeys/{rest:path}", _public(codes.PASSKEYS_DISABLED)),
    ("/scim/v2/{rest:path}", _public(codes.SCIM_DISABLED)),
)


async def check_entry(core: Core, request: Request) -> None:
    """Check who asks for a path that is not there, below one that only some may enter.

    Raises:
        AuthError: the request has no such token, or all below the path is off.
    """
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    match path.split("/")[1:2]:
        case ["admin"]:
            await require_admin(core, request)
        case ["user" | "factors" | "reauthenticate"]:
            async with core.database.read() as connection:
                await signed_in(core, connection, request)
        case ["sso"]:
            raise AuthError(codes.SAML_DISABLED)


ENDPOINTS: tuple[tuple[str, str, Call], ...] = tuple(
    (method, path, call) for path, call in _CALLS for method in METHODS
)
