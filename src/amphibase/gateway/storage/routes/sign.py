"""Sign URLs: the holder of one reads or uploads one object, without an access token."""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.storage.coercion import AS_OBJECT, Texts, Whole
from amphibase.gateway.storage.context import StorageContext, bucket_of, checked_path, is_upsert
from amphibase.gateway.storage.errors import InvalidParameter, MalformedRequest, json_response
from amphibase.gateway.storage.images import Transformation
from amphibase.gateway.storage.schemas import StorageModel, read_body, read_unused_body
from amphibase.gateway.storage.uploader import NewObject

MAX_SECONDS = 100 * 366 * 24 * 3600
MAX_AT_ONCE = 1000
NOT_READABLE = "Either the object does not exist or you do not have access to it"


class SignUrl(StorageModel):
    seconds: Whole = Field(ge=1, alias="expiresIn")


class SignObject(SignUrl):
    transform: Annotated[Transformation | None, AS_OBJECT] = None


class SignUrls(SignUrl):
    paths: Texts = Field(min_length=1, max_length=MAX_AT_ONCE)


def token_of(request: Request) -> str:
    """Return the token in the query. Raises MalformedRequest."""
    token = request.query_params.get("token")
    if token is None:
        raise MalformedRequest("querystring must have required property 'token'")
    return token


def _check_seconds(body: SignUrl) -> None:
    if body.seconds > MAX_SECONDS:
        raise InvalidParameter("Invalid Parameter expiresIn")


async def one(context: StorageContext, request: Request) -> Response:
    """Sign a URL that opens an object, or an image in another size or format."""
    body = await read_body(request, SignObject)
    caller = context.authenticate(request)
    _check_seconds(body)
    bucket, name = checked_path(request)
    await context.objects.find(caller, (bucket, name), "storage.object.sign")
    path = f"{bucket}/{name}"
    transform = body.transform if context.images.is_enabled else None
    if transform is None or not transform.description:
        return json_response({"signedURL": _download(context, path, body.seconds)})
    context.images.check_available()
    form = transform.model_dump(exclude_none=True)
    token = context.signed_urls.image(path, body.seconds, form)
    return json_response({"signedURL": _url("/render/image/sign", path, token)})


async def many(context: StorageContext, request: Request) -> Response:
    """Sign the URLs of several objects, as far as the caller may read them."""
    body = await read_body(request, SignUrls)
    caller = context.authenticate(request)
    _check_seconds(body)
    bucket = bucket_of(request)
    readable = await context.objects.readable_names(
        caller, bucket, body.paths, "storage.object.sign_many"
    )
    return json_response(
        [
            {
                "error": None if path in readable else NOT_READABLE,
                "path": path,
                "signedURL": _download(context, f"{bucket}/{path}", body.seconds)
                if path in readable
                else None,
            }
            for path in body.paths
        ]
    )


async def for_upload(context: StorageContext, request: Request) -> Response:
    """Sign a URL for an upload that the caller may make."""
    await read_unused_body(request)
    caller = context.authenticate(request)
    bucket, name = checked_path(request)
    overwrite, operation = is_upsert(request), "storage.object.sign_upload_url"
    await context.uploader.check(NewObject(caller, (bucket, name), operation, overwrite))
    path = f"{bucket}/{name}"
    seconds = context.settings.upload_signed_url_expiration_time
    token = context.signed_urls.upload(path, seconds, owner=caller.subject, overwrite=overwrite)
    return json_response({"url": _url("/object/upload/sign", path, token), "token": token})


def _download(context: StorageContext, path: str, seconds: int) -> str:
    return _url("/object/sign", path, context.signed_urls.download(path, seconds))


def _url(call: str, path: str, token: str) -> str:
    # Nearly unchanged, since the clients encode the path; but the query begins once.
    return f"{call}/{path.replace('?', '%3F')}?token={token}"
