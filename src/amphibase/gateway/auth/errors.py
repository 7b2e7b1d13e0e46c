"""The errors of Auth, in both shapes that clients know (https://supabase.com/docs/guides/auth/debugging/error-codes)."""

import logging
import re
from collections.abc import Sequence
from datetime import date

from starlette.requests import Request
from starlette.responses import JSONResponse

from amphibase.errors import (
    AmphibaseError,
    InvalidRequest,
    InvalidValue,
    PayloadTooLarge,
    Retryable,
    TooManyRequests,
)

logger = logging.getLogger("amphibase.gateway.auth")

VERSION_HEADER = "x-supabase-api-version"
CODES_AS_TEXT = "2024-01-01"
"""Since this version of the API, `code` is a word and no longer the status."""


class AuthError(Exception):
    """A refusal.

    Args:
        code: a word that clients know it by.
        message: for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(message)


class WeakPassword(AuthError):
    """A new password that is not good enough.

    Args:
        reasons: of `length` and `characters`.
    """

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        super().__init__(422, "weak_password", message)


def invalid(message: str, status: int = 400) -> AuthError:
    """A value in the request is wrong."""
    return AuthError(status, "validation_failed", message)


def no_phone(what: str) -> AuthError:
    """Somebody asks for a text message."""
    return AuthError(
        400, "phone_provider_disabled", f"{what} are disabled: no SMS provider is configured"
    )


def answer(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error, in the shape that the request's version of the API has."""
    known = _known(error)
    headers = {"x-sb-error-code": known.code}
    if isinstance(error, Retryable):
        headers["retry-after"] = str(error.retry_after)
    body: dict[str, object]
    if _wants_text(request.headers.get(VERSION_HEADER, "")):
        headers[VERSION_HEADER] = CODES_AS_TEXT
        body = {"code": known.code, "message": known.message}
    else:
        body = {"code": known.status, "error_code": known.code, "msg": known.message}
    if isinstance(known, WeakPassword):
        body["weak_password"] = {"reasons": known.reasons}
    return JSONResponse(body, known.status, headers)


def _known(error: Exception) -> AuthError:
    match error:
        case AuthError():
            return error
        case TooManyRequests():
            return AuthError(429, "over_request_rate_limit", error.detail)
        case InvalidValue() | InvalidRequest():
            return invalid(error.detail)
        case PayloadTooLarge():
            return AuthError(413, "validation_failed", error.detail)
        case Retryable():
            return AuthError(error.status, "unexpected_failure", error.detail)
        case AmphibaseError() if error.status < 500:
            return AuthError(error.status, "conflict", error.detail)
    logger.error("Unexpected error", exc_info=error)
    return AuthError(500, "unexpected_failure", "Unexpected failure, please check server logs")


def _wants_text(version: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", version, re.ASCII):
        return False
    try:
        return date.fromisoformat(version) >= date.fromisoformat(CODES_AS_TEXT)
    except ValueError:
        return False
