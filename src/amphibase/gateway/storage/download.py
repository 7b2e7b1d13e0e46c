"""Reading files, and what is known of them."""

from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.download import FileResponse
from amphibase.gateway.storage import answers
from amphibase.gateway.storage.core import Core, place_of
from amphibase.gateway.storage.errors import NO_BUCKET, StorageError, json_answer
from amphibase.gateway.storage.identity import Identity
from amphibase.gateway.storage.signing import token_of


async def get(core: Core, request: Request) -> Response:
    """A file that the sender may see, or that everybody may."""
    operation = "storage.object.get_authenticated"
    found, reader = await _shown(core, request, operation)
    return await _file(core, request, found, reader, operation)


async def authenticated(core: Core, request: Request) -> Response:
    operation = "storage.object.get_authenticated"
    identity = core.identify(request)
    found = await core.store.find(identity, place_of(request), operation)
    return await _file(core, request, found, identity, operation)


async def public(core: Core, request: Request) -> Response:
    operation = "storage.object.get_public"
    found = await _public(core, request, operation)
    return await _file(core, request, found, None, operation)


async def by_token(core: Core, request: Request) -> Response:
    """What a signed URL opens."""
    operation = "storage.object.get_signed"
    bucket, name = place_of(request)
    signed = core.signed.verify(token_of(request), "download", f"{bucket}/{name}")
    found = await core.store.find(None, (bucket, name), operation)
    return await _file(core, request, found, None, operation, expires=signed.expires)


async def info(core: Core, request: Request) -> Response:
    found, _ = await _shown(core, request, "storage.object.info_authenticated")
    return _info(request, found)


async def info_authenticated(core: Core, request: Request) -> Response:
    identity, operation = core.identify(request), "storage.object.info_authenticated"
    return _info(request, await core.store.find(identity, place_of(request), operation))


async def info_public(core: Core, request: Request) -> Response:
    return _info(request, await _public(core, request, "storage.object.info_public"))


async def _shown(
    core: Core, request: Request, operation: str
) -> tuple[RowMapping, Identity | None]:
    identity = core.identify_if_any(request)
    try:
        return await core.store.find_shown(identity, place_of(request), operation)
    except StorageError as error:
        if error.word == NO_BUCKET and "authorization" in request.headers:
            core.identify(request)  # which says what is wrong with the token, if anything
        raise


async def _public(core: Core, request: Request, operation: str) -> RowMapping:
    found, _ = await core.store.find_shown(None, place_of(request), operation)
    return found


def _info(request: Request, found: RowMapping) -> Response:
    headers = {**answers.headers_of(found), "Cache-Control": "no-cache"}
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(answers.file_of(found).size)})
    kept = {name: headers[name] for name in ("ETag", "Last-Modified", "Cache-Control")}
    return json_answer(answers.info(found), headers=kept)


async def _file(
    core: Core,
    request: Request,
    found: RowMapping,
    reader: Identity | None,
    operation: str,
    *,
    expires: int | None = None,
) -> Response:
    download = request.query_params.get("download")
    headers = answers.headers_of(found, download=download, expires=expires)
    if answers.has_it(request, found):
        return answers.not_modified(headers)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(answers.file_of(found).size)})
    part = answers.asked_part(request, found)
    row, start, stop, chunks = await core.store.open(reader, found, part, operation)
    if row is not found:  # replaced a moment ago
        headers = answers.headers_of(row, download=download, expires=expires)
    opened = answers.opened(row, start, stop, chunks)
    return FileResponse(opened, headers, whole=part is None)
