"""Signed URLs: who holds one reads one file, or uploads one, without a token of their own."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage.bodies import Body, read
from amphibase.gateway.storage.core import Core, place_of
from amphibase.gateway.storage.errors import json_answer, malformed

MAX_SECONDS = 100 * 366 * 24 * 3600
MAX_AT_ONCE = 1000
UNSEEN = "Either the object does not exist or you do not have access to it"


class OneUrl(Body):
    seconds: int = Field(ge=1, le=MAX_SECONDS, alias="expiresIn")


class ManyUrls(OneUrl):
    paths: list[str] = Field(min_length=1, max_length=MAX_AT_ONCE)


def token_of(request: Request) -> str:
    """The token in the query. Raises StorageError."""
    token = request.query_params.get("token")
    if token is None:
        raise malformed("querystring must have required property 'token'")
    return token


async def one(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    asked = await read(request, OneUrl)
    bucket, name = place_of(request)
    await core.store.find(identity, (bucket, name), "storage.object.sign")
    return json_answer({"signedURL": _download(core, f"{bucket}/{name}", asked.seconds)})


async def many(core: Core, request: Request) -> Response:
    identity, bucket = core.identify(request), request.path_params["bucket"]
    asked = await read(request, ManyUrls)
    seen = await core.store.find_many(identity, bucket, asked.paths, "storage.object.sign_many")
    return json_answer(
        [
            {
                "error": None if path in seen else UNSEEN,
                "path": path,
                "signedURL": _download(core, f"{bucket}/{path}", asked.seconds)
                if path in seen
                else None,
            }
            for path in asked.paths
        ]
    )


async def for_upload(core: Core, request: Request) -> Response:
    identity = core.identify(request)
    bucket, name = place_of(request)
    overwrite = request.headers.get("x-upsert") == "true"
    operation = "storage.object.sign_upload_url"
    await core.store.may_put(identity, (bucket, name), operation, overwrite=overwrite)
    path = f"{bucket}/{name}"
    seconds = core.settings.upload_signed_url_expiration_time
    token = core.signed.upload(path, seconds, owner=identity.subject, overwrite=overwrite)
    return json_answer({"url": _url("/object/upload/sign", path, token), "token": token})


def _download(core: Core, path: str, seconds: int) -> str:
    return _url("/object/sign", path, core.signed.download(path, seconds))


def _url(call: str, path: str, token: str) -> str:
    # Nearly as it is, since the clients encode what they are given; but the query begins once.
    return f"{call}/{path.replace('?', '%3F')}?token={token}"
