"""`/cdn`: clear what the caches in front of Storage hold. Here there are none."""

from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage.caller import SERVICE_ROLE
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.errors import InvalidRole, json_response


async def purge(context: StorageContext, request: Request) -> Response:
    """Respond to `DELETE /cdn`, of all, of a bucket or of an object; for the service alone."""
    if context.authenticate(request).role != SERVICE_ROLE.role:
        raise InvalidRole
    return json_response({"message": "success"})
