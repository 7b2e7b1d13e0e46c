"""The errors of Storage, as its clients know them.

    StorageError
    ├── MalformedRequest           the body, query or a header lacks what the call takes
    │   └── UnreadableBody         it is no JSON
    ├── InvalidStorageRequest      the call cannot be carried out as it stands
    ├── InvalidParameter           a parameter's value is wrong
    ├── InvalidBucketName
    ├── InvalidKey                 no object can have this name
    ├── InvalidMimeType            a bucket does not take this type
    ├── InvalidContentType         the header is no type
    ├── InvalidRobotsTag           the header is none that crawlers know
    ├── InvalidUrlToken            the token of a signed URL is malformed, forged or expired
    ├── InvalidUrlSignature        a good token, of another URL or for another use
    ├── AccessDenied               the access token, or a policy, does not let the caller in
    │   └── InvalidRole            the call is the service's alone
    ├── NoSuchBucket, NoSuchKey, NoSuchUpload, RelatedResourceMissing
    ├── ResourceAlreadyExists
    │   └── KeyAlreadyExists, BucketAlreadyExists
    ├── BucketNotEmpty
    ├── FeatureNotEnabled
    │   └── BucketKindNotEnabled
    ├── EntityTooLarge, RangeNotAvailable
    ├── RejectedByDatabase         a trigger or a constraint of the project raised it
    └── RetryableStorageError, InternalStorageError

The status of a response is nearly always 400; the one that HTTP means stands in its body, as text
(https://supabase.com/docs/guides/storage/debugging/error-codes).
"""

from collections.abc import Mapping
from typing import ClassVar

import orjson
from starlette.responses import Response

from amphibase.errors import (
    AmphibaseError,
    IncompleteUpload,
    InvalidRequest,
    InvalidValue,
    NotFound,
    PayloadTooLarge,
    RangeNotSatisfiable,
    RequestTimeout,
    Retryable,
)
from amphibase.gateway.database_errors import RaisedError
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.storage")


class StorageError(AmphibaseError):
    """The root of the errors of Storage.

    Attributes:
        status: what HTTP means; in the body it is `statusCode`.
        code: the body's `code`.
        error: the body's `error`, the older code.
    """

    status = 400
    code = "InvalidRequest"
    error: ClassVar[str] = "InvalidRequest"


class MalformedRequest(StorageError):
    """Raised when a request does not have the form that its call takes."""

    error = "Error"


class UnreadableBody(MalformedRequest):
    """Raised when a body is said to be JSON and is not."""

    error = "FastifyError"


class InvalidStorageRequest(StorageError):
    """Raised when a request has the right form and cannot be carried out."""


class InvalidParameter(StorageError):
    """Raised when a value in the request is wrong."""

    code = error = "InvalidParameter"


class InvalidBucketName(StorageError):
    """Raised for what no bucket can be called."""

    code, error = "InvalidBucketName", "Invalid Input"
    default = "Bucket name invalid"


class InvalidKey(StorageError):
    """Raised for what no object can be called."""

    code = error = "InvalidKey"

    def __init__(self, key: str) -> None:
        super().__init__(f"Invalid key: {key}")


class InvalidMimeType(StorageError):
    """Raised for a type that a bucket does not take, or that is none."""

    status = 415
    code, error = "InvalidMimeType", "invalid_mime_type"

    def __init__(self, mime_type: str) -> None:
        super().__init__(f"mime type {mime_type} is not supported")


class InvalidRobotsTag(StorageError):
    """Raised for what tells no crawler what it may show of an object."""

    error = "invalid_x_robots_tag"

    def __init__(self, fault: str) -> None:
        super().__init__(f"Invalid X-Robots-Tag header: {fault}")


class InvalidContentType(StorageError):
    """Raised where the type of an upload is not written as `type/subtype`."""

    status = 415
    code, error = "InvalidMimeType", "invalid_mime_type"
    default = "Invalid Content-Type header"


class InvalidUrlToken(StorageError):
    """Raised when the token of a signed URL is malformed, forged or expired."""

    code = error = "InvalidJWT"


class InvalidUrlSignature(StorageError):
    """Raised when the token of a signed URL is missing, of another URL or for another use."""

    code = error = "InvalidSignature"
    default = "Invalid signature"


class AccessDenied(StorageError):
    """Raised when an access token is not valid, or a policy does not allow what is done."""

    status = 403
    code, error = "AccessDenied", "Unauthorized"
    default = "Access denied"


class InvalidRole(AccessDenied):
    """Raised for a call that is the service's alone; the response has the status itself."""

    default = "Access denied: Invalid role"


class NoSuchBucket(StorageError):
    """Raised when a bucket is missing, or hidden from the caller."""

    status = 404
    code, error = "NoSuchBucket", "Bucket not found"
    default = "Bucket not found"


class NoSuchKey(StorageError):
    """Raised when an object is missing, or hidden from the caller."""

    status = 404
    code, error = "NoSuchKey", "not_found"
    default = "Object not found"


class NoSuchUpload(StorageError):
    """Raised when a resumable upload is missing, another's, or has expired."""

    status = 404
    code = error = "NoSuchUpload"
    default = "Upload not found"


class UploadTimeout(StorageError):
    """Stands for `amphibase.errors.RequestTimeout`."""

    status = 408
    code = error = "RequestTimeout"


class RelatedResourceMissing(StorageError):
    """Raised when a row refers to one that is missing, such as an object to its bucket."""

    status = 404
    default = "The related resource does not exist"


class ResourceAlreadyExists(StorageError):
    """Raised when an object or a bucket has this name already."""

    status = 409
    code, error = "ResourceAlreadyExists", "Duplicate"
    default = "The resource already exists"


class KeyAlreadyExists(ResourceAlreadyExists):
    """Raised where an object is stored, and its name is taken."""

    code = "KeyAlreadyExists"


class BucketAlreadyExists(ResourceAlreadyExists):
    """Raised where a bucket is made, and its name is taken."""

    code = "BucketAlreadyExists"


class BucketNotEmpty(StorageError):
    """Raised when a bucket is to be deleted and holds objects."""

    status = 409
    code = error = "ResourceNotEmpty"
    default = "The bucket you tried to delete is not empty"


class FeatureNotEnabled(StorageError):
    """Raised for what this Storage does not have, such as versions of objects."""

    status = 409
    code = error = "NotSupported"


class BucketKindNotEnabled(FeatureNotEnabled):
    """Raised for a bucket of a kind that this Storage does not have, in upstream's words."""

    code = error = "FeatureNotEnabled"
    default = (
        "The feature Iceberg buckets are not enabled for this tenant "
        "is not enabled for this resource"
    )


class EntityTooLarge(StorageError):
    """Raised when a body or an object has more bytes than are taken."""

    status = 413
    code, error = "EntityTooLarge", "Payload too large"
    default = "The object exceeded the maximum allowed size"


class RangeNotAvailable(StorageError):
    """Raised for a range of bytes that an object does not have."""

    status = 416
    code, error = "InvalidRange", "invalid_range"
    default = "invalid range provided"


class RejectedByDatabase(StorageError):
    """Raised with the message of a trigger or a constraint of the project.

    Args:
        raised: its message, and the status that a trigger chooses by `RAISE SQLSTATE 'PT403'`.
    """

    status = 500
    code = error = "DatabaseError"

    def __init__(self, raised: RaisedError) -> None:
        self.status = raised.status
        super().__init__(raised.message)


class InternalStorageError(StorageError):
    """An unexpected error; the log has more."""

    status = 500
    code, error = "InternalError", "Internal"
    default = "Internal Server Error"


class RetryableStorageError(StorageError):
    """Stands for what may succeed later (`amphibase.errors.Retryable`)."""

    code = error = "InternalError"

    def __init__(self, cause: Retryable) -> None:
        self.status = cause.status
        super().__init__(cause.detail)


def storage_error(error: Exception) -> StorageError:
    """Translate an error into one of Storage; log an unexpected one."""
    match error:
        case StorageError():
            return error
        case RangeNotSatisfiable():
            return RangeNotAvailable()
        case PayloadTooLarge():
            return EntityTooLarge()
        case NotFound():
            return NoSuchUpload()
        case RequestTimeout():
            return UploadTimeout(error.detail)
        case Retryable():
            return RetryableStorageError(error)
        case InvalidValue() | InvalidRequest() | IncompleteUpload():
            return InvalidStorageRequest(error.detail)
    logger.error("Unexpected error", exc_info=error)
    return InternalStorageError()


def error_response(error: Exception) -> Response:
    """Respond to an error."""
    known = storage_error(error)
    status = known.status if known.status >= 500 else 400
    headers: dict[str, str] = {}
    if isinstance(error, Retryable):
        status = error.status
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, InvalidRole):
        status = error.status
    elif isinstance(error, RequestTimeout):
        status = error.status
        headers["connection"] = "close"
    elif isinstance(error, RangeNotSatisfiable):
        status = error.status
        headers["content-range"] = f"bytes */{error.size}"
    body = {
        "statusCode": str(known.status),
        "error": known.error,
        "message": known.detail,
        "code": known.code,
    }
    return json_response(body, status, headers)


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Respond with JSON."""
    return Response(
        orjson.dumps(content, default=str),
        status,
        headers,
        media_type="application/json; charset=utf-8",
    )
