"""Which action of the S3 protocol a request is, by its method, its path and its query string."""

from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.keys import S3Credentials
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.errors import NoSuchBucket
from amphibase.gateway.storage.limits import check_key
from amphibase.gateway.storage.s3 import PREFIX, buckets, listing, multipart, objects, post
from amphibase.gateway.storage.s3.errors import InvalidS3Request, NotImplementedByStorage
from amphibase.gateway.storage.s3.request import S3Request
from amphibase.gateway.storage.s3.signature import verify

Action = Callable[[S3Request], Awaitable[Response]]

# By method, the parameters that have to be there, and the header; the first that fits is taken.
OF_BUCKET: tuple[tuple[str, tuple[str, ...], Action], ...] = (
    ("GET", ("location",), buckets.location),
    ("GET", ("versioning",), buckets.versioning),
    ("GET", ("uploads",), multipart.list_uploads),
    ("GET", ("list-type",), listing.list_v2),
    ("GET", (), listing.list_v1),
    ("HEAD", (), buckets.head),
    ("PUT", (), buckets.create),
    ("POST", ("delete",), objects.delete_many),
    ("DELETE", (), buckets.delete),
)
OF_OBJECT: tuple[tuple[str, tuple[str, ...], Action], ...] = (
    ("GET", ("uploadId",), multipart.list_parts),
    ("GET", ("tagging",), objects.tagging),
    ("GET", (), objects.get),
    ("HEAD", (), objects.get),
    ("POST", ("uploads",), multipart.create),
    ("POST", ("uploadId",), multipart.complete),
    ("PUT", ("uploadId", "partNumber"), multipart.put_part),
    ("PUT", (), objects.put),
    ("DELETE", ("uploadId",), multipart.abort),
    ("DELETE", (), objects.delete),
)
COPIES: dict[Action, Action] = {multipart.put_part: multipart.copy_part, objects.put: objects.copy}
"""What an action is where the header `x-amz-copy-source` names an object."""

UNKNOWN = frozenset(
    (
        *("accelerate", "acl", "analytics", "attributes", "cors", "encryption", "inventory"),
        *("intelligent-tiering", "legal-hold", "lifecycle", "logging", "metrics", "notification"),
        *("object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock"),
        *("replication", "requestPayment", "restore", "retention", "select", "tagging", "torrent"),
        *("versionId", "versions", "website"),
    )
)
"""Parameters that make another action of a request, which Storage does not have."""


async def handle(context: StorageContext, request: Request, credentials: S3Credentials) -> Response:
    """Verify a request and do what it wants.

    Raises:
        S3Error, StorageError: it is not signed, or cannot be done.
    """
    bucket, key = _path(request)
    if request.method == "POST" and bucket and not key and _is_form(request):
        return await post.post(context, request, credentials, bucket)
    signing_key, signature, payload_kind = verify(request, credentials)
    token = signature.session_token
    caller = context.service(request) if token is None else context.caller_of_token(token, request)
    query = dict(request.query_params)
    s3 = S3Request(
        context, request, caller, bucket, key, query, signing_key, signature, payload_kind
    )
    action = _action(request, bucket, key)
    return await action(s3)


def _action(request: Request, bucket: str, key: str) -> Action:
    if not bucket:
        if request.method == "GET":
            return buckets.list_all
        raise NotImplementedByStorage
    names = request.query_params.keys()
    for method, parameters, action in OF_OBJECT if key else OF_BUCKET:
        if method == request.method and all(name in names for name in parameters):
            if UNKNOWN & names - set(parameters):
                break
            if "x-amz-copy-source" in request.headers:
                return COPIES.get(action, action)
            return action
    raise NotImplementedByStorage


def _path(request: Request) -> tuple[str, str]:
    """Return the bucket and the key of a request, exactly as they were sent."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    root: str = request.scope.get("root_path", "")
    path = unquote_to_bytes(raw.partition(b"?")[0]).removeprefix(root.encode())
    try:
        text = path.decode().removeprefix(PREFIX).removeprefix("/")
    except UnicodeDecodeError:
        raise InvalidS3Request("The key is not UTF-8") from None
    bucket, _, key = text.partition("/")
    if "\0" in text:
        raise NoSuchBucket
    if key:
        check_key(key)
    return bucket, key


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")
