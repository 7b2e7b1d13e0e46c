"""The errors of Storage, as its clients know them.

The answer's status is nearly always 400; the real one stands in its body, as text
(https://supabase.com/docs/guides/storage/debugging/error-codes).
"""

import logging
from collections.abc import Mapping

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
    Retryable,
)

logger = logging.getLogger("amphibase.gateway.storage")

NO_BUCKET = "Bucket not found"


class StorageError(AmphibaseError):
    """A refusal.

    Args:
        real_status: what its status would be by the meaning of HTTP.
        word: the old code of the error, the body's `error`.
        message: for people.
        new_code: the body's `code`.
    """

    def __init__(self, real_status: int, word: str, message: str, new_code: str = "") -> None:
        self.real_status = real_status
        self.word = word
        self.new_code = new_code or word
        super().__init__(message)


def no_bucket() -> StorageError:
    return StorageError(404, NO_BUCKET, NO_BUCKET, "NoSuchBucket")


def no_object() -> StorageError:
    return StorageError(404, "not_found", "Object not found", "NoSuchKey")


def taken() -> StorageError:
    return StorageError(409, "Duplicate", "The resource already exists", "ResourceAlreadyExists")


def denied(message: str) -> StorageError:
    return StorageError(403, "Unauthorized", message, "AccessDenied")


def too_large() -> StorageError:
    return StorageError(
        413, "Payload too large", "The object exceeded the maximum allowed size", "EntityTooLarge"
    )


def wrong_type(kind: str) -> StorageError:
    return StorageError(
        415, "invalid_mime_type", f"mime type {kind} is not supported", "InvalidMimeType"
    )


def invalid_key(key: str) -> StorageError:
    return StorageError(400, "InvalidKey", f"Invalid key: {key}")


def invalid(message: str) -> StorageError:
    """A value in the request is wrong."""
    return StorageError(400, "InvalidParameter", message)


def malformed(message: str) -> StorageError:
    """The request does not have the form that its call takes."""
    return StorageError(400, "Error", message, "InvalidRequest")


def known(error: Exception) -> StorageError:
    """The error in the words of Storage; what nobody has foreseen is logged."""
    match error:
        case StorageError():
            return error
        case RangeNotSatisfiable():
            return StorageError(416, "invalid_range", "invalid range provided", "InvalidRange")
        case PayloadTooLarge():
            return too_large()
        case NotFound():
            return StorageError(404, "NoSuchUpload", "Upload not found")
        case Retryable():
            return StorageError(error.status, "InternalError", error.detail)
        case InvalidValue() | InvalidRequest() | IncompleteUpload():
            return StorageError(400, "InvalidRequest", error.detail)
    logger.error("Unexpected error", exc_info=error)
    return StorageError(500, "Internal", "Internal Server Error", "InternalError")


def answer(error: Exception) -> Response:
    """The answer to an error."""
    told = known(error)
    status = 400
    headers: dict[str, str] = {"cache-control": "no-store"}
    if isinstance(error, Retryable):
        status = error.status
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, RangeNotSatisfiable):
        status = 416
        headers["content-range"] = f"bytes */{error.size}"
    elif told.real_status >= 500:
        status = told.real_status
    body = {
        "statusCode": str(told.real_status),
        "error": told.word,
        "message": told.detail,
        "code": told.new_code,
    }
    return json_answer(body, status, headers)


def json_answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(
        orjson.dumps(content, default=str),
        status,
        headers,
        media_type="application/json; charset=utf-8",
    )
