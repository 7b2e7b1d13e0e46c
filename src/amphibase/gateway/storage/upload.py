"""Uploads: a new file, or new bytes for one, sent in one request."""

from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage.core import Core, place_of
from amphibase.gateway.storage.errors import json_answer
from amphibase.gateway.storage.identity import Identity, service
from amphibase.gateway.storage.incoming import incoming
from amphibase.gateway.storage.rules import check_key
from amphibase.gateway.storage.signing import token_of


def is_upsert(request: Request) -> bool:
    """Whether the request may replace a file."""
    return request.headers.get("x-upsert") == "true"


async def create(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    return await _put(
        core, request, identity, "storage.object.upload", overwrite=is_upsert(request)
    )


async def update(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    return await _put(core, request, identity, "storage.object.upload_update", overwrite=True)


async def by_token(core: Core, request: Request) -> Response:
    """What a signed upload URL takes; permission was looked at when it was signed."""
    bucket, name = place_of(request)
    signed = core.signed.verify(token_of(request), "upload", f"{bucket}/{name}")
    identity = service(signed.owner)
    operation = "storage.object.upload_signed"
    return await _put(core, request, identity, operation, overwrite=signed.overwrite)


async def _put(
    core: Core, request: Request, identity: Identity, operation: str, *, overwrite: bool
) -> Response:
    bucket, name = place_of(request)
    check_key(name)
    id = await core.store.put(
        identity, (bucket, name), await incoming(request), operation, overwrite=overwrite
    )
    return json_answer({"Id": id, "Key": f"{bucket}/{name}"})
