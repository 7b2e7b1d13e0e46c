"""Errors of Auth as responses, in both shapes that clients know."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse

from amphibase.database.errors import translated_errors
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    EmailAlreadyRegistered,
    EmailNotConfirmed,
    InvalidCredentials,
    InvalidRequest,
    InvalidValue,
    NotFound,
    PayloadTooLarge,
    Retryable,
    TooManyRequests,
    UserBanned,
)
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.error_codes import ErrorCode

logger = logging.getLogger("amphibase.gateway.auth")

VERSION_HEADER = "x-supabase-api-version"
CODES_AS_TEXT = "2024-01-01"
"""Since this version of the API, `code` is a word and no longer the status."""

BY_CLASS: tuple[tuple[type[AmphibaseError], ErrorCode], ...] = (
    (EmailAlreadyRegistered, codes.EMAIL_EXISTS),
    (InvalidCredentials, codes.INVALID_CREDENTIALS),
    (EmailNotConfirmed, codes.EMAIL_NOT_CONFIRMED),
    (UserBanned, codes.SIGN_IN_BANNED),
    (NotFound, codes.USER_NOT_FOUND),
)
"""What the account engine raises, with the message of Supabase Auth."""

BY_CLASS_WITH_DETAIL: tuple[tuple[type[AmphibaseError], ErrorCode], ...] = (
    (TooManyRequests, codes.REQUEST_RATE_LIMIT),
    (InvalidValue, codes.VALIDATION_FAILED),
    (InvalidRequest, codes.VALIDATION_FAILED),
    (PayloadTooLarge, codes.BODY_TOO_LARGE),
)
"""The same, with the message of the error itself."""

BY_CONSTRAINT = {
    "users_email_partial_key": codes.EMAIL_EXISTS,
    "users_phone_key": codes.PHONE_EXISTS,
    "users_pkey": codes.ID_EXISTS,
}


class AuthError(Exception):
    """Raised for a request that Auth rejects.

    Args:
        error: an entry of the table of errors.
        message: instead of the entry's own.
        status: instead of the entry's own.
    """

    def __init__(
        self, error: ErrorCode, message: str | None = None, *, status: int | None = None
    ) -> None:
        self.error = error
        self.status = status or error.status
        self.code = error.code
        self.message = message or error.message
        super().__init__(self.message)


class PasswordViolation(AuthError):
    """Raised for a new password that the policy does not allow.

    Args:
        reasons: of `length` and `characters`.
    """

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        super().__init__(codes.WEAK_PASSWORD, message)


def invalid(message: str, status: int | None = None) -> AuthError:
    """Return the error for a value that is wrong."""
    return AuthError(codes.VALIDATION_FAILED, message, status=status)


def respond_to(request: Request, error: Exception) -> JSONResponse:
    """Return the response to an error, in the shape of the request's version of the API."""
    rejection = as_auth_error(error)
    headers = {"x-sb-error-code": rejection.code}
    if isinstance(error, Retryable):
        headers["retry-after"] = str(error.retry_after)
    body: dict[str, object]
    if _wants_text(request.headers.get(VERSION_HEADER, "")):
        headers[VERSION_HEADER] = CODES_AS_TEXT
        body = {"code": rejection.code, "message": rejection.message}
    else:
        body = {"code": rejection.status, "error_code": rejection.code, "msg": rejection.message}
    if isinstance(rejection, PasswordViolation):
        body["weak_password"] = {"reasons": rejection.reasons}
    return JSONResponse(body, rejection.status, headers)


@contextmanager
def database_errors(action: str) -> Iterator[None]:
    """Tell a taken address, number or id from what the project's own triggers reject.

    What a trigger rejects is a fault of the project: it is logged, and the response says so.

    Args:
        action: for the message: `saving new`, `updating`, `deleting`.
    """
    try:
        with translated_errors():
            yield
    except (EmailAlreadyRegistered, NotFound, Retryable):
        raise
    except Conflict as error:
        if error.constraint in BY_CONSTRAINT:
            raise AuthError(BY_CONSTRAINT[error.constraint]) from error
        raise _database_error(action, error) from error
    except (AmphibaseError, SQLAlchemyError) as error:
        raise _database_error(action, error) from error


def _database_error(action: str, error: Exception) -> AuthError:
    logger.error("Database error %s user: %s", action, error)
    return AuthError(codes.UNEXPECTED_FAILURE, f"Database error {action} user")


def as_auth_error(error: Exception) -> AuthError:
    """Return the error of Auth that an error means; an unexpected one is logged."""
    if isinstance(error, AuthError):
        return error
    for kind, code in BY_CLASS:
        if isinstance(error, kind):
            return AuthError(code)
    for kind, code in BY_CLASS_WITH_DETAIL:
        if isinstance(error, kind):
            return AuthError(code, error.detail)
    if isinstance(error, Retryable):
        return AuthError(codes.UNEXPECTED_FAILURE, error.detail, status=error.status)
    if isinstance(error, AmphibaseError) and error.status < 500:
        return AuthError(codes.CONFLICT, error.detail, status=error.status)
    logger.error("Unexpected error", exc_info=error)
    return AuthError(codes.UNEXPECTED_FAILURE)


def _wants_text(version: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", version, re.ASCII):
        return False
    try:
        return date.fromisoformat(version) >= date.fromisoformat(CODES_AS_TEXT)
    except ValueError:
        return False
