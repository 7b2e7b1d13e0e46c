"""Errors of Auth as responses, in both shapes that clients know."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from uuid import uuid4

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse

from amphibase.accounts.oauth.flows import FlowExpired, FlowNotFound, WrongVerifier
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
from amphibase.gateway.database_errors import RaisedError, log_missing_right, raised_error
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")

VERSION_HEADER = "x-supabase-api-version"
CODES_AS_TEXT = "2024-01-01"
"""Since this version of the API, `code` is a word and no longer the status."""

BY_CLASS: tuple[tuple[type[AmphibaseError], ErrorCode], ...] = (
    (EmailAlreadyRegistered, codes.EMAIL_EXISTS),
    (InvalidCredentials, codes.INVALID_CREDENTIALS),
    (EmailNotConfirmed, codes.EMAIL_NOT_CONFIRMED),
    (UserBanned, codes.SIGN_IN_BANNED),
    (NotFound, codes.USER_NOT_FOUND),
    (FlowNotFound, codes.FLOW_STATE_NOT_FOUND),
    (FlowExpired, codes.FLOW_STATE_EXPIRED),
    (WrongVerifier, codes.BAD_CODE_VERIFIER),
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


class OAuthError(AuthError):
    """Raised for a request that is rejected in the shape of OAuth (RFC 6749, section 5.2).

    Args:
        name: the member `error`.
        description: the member `error_description`.
    """

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        super().__init__(codes.VALIDATION_FAILED, description)


class PasswordViolation(AuthError):
    """Raised for a new password that the policy does not allow.

    Args:
        reasons: of `length` and `characters`.
    """

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        super().__init__(codes.WEAK_PASSWORD, message)


class RejectedByProject(AuthError):
    """Raised where a trigger or a constraint of the project rejects what is written.

    Args:
        raised: its message, and the status that a trigger chooses by `RAISE SQLSTATE 'PT403'`.
        message: for clients that ask for the newer version of the API, which does not hand on
            what was raised.
    """

    def __init__(self, raised: RaisedError, message: str | None = None) -> None:
        self.raised = raised
        super().__init__(codes.UNEXPECTED_FAILURE, message)


def invalid(message: str, status: int | None = None) -> AuthError:
    """Return the error for a value that is wrong."""
    return AuthError(codes.VALIDATION_FAILED, message, status=status)


def respond_to(request: Request, error: Exception) -> JSONResponse:
    """Return the response to an error, in the shape of the request's version of the API."""
    rejection = as_auth_error(error)
    wants_text = _wants_text(request.headers.get(VERSION_HEADER, ""))
    headers = {VERSION_HEADER: CODES_AS_TEXT} if wants_text else {}
    if isinstance(error, Retryable):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(rejection, OAuthError):
        body = {"error": rejection.name, "error_description": rejection.message}
        return JSONResponse(body, rejection.status, headers)
    headers["x-sb-error-code"] = rejection.code
    if wants_text:
        return JSONResponse(_body_with_text(rejection), rejection.status, headers)
    if isinstance(rejection, RejectedByProject):
        raised = rejection.raised
        return JSONResponse(_raised_body(raised), raised.status, headers)
    status_body = _body_with_status(rejection)
    if rejection is error and rejection.status >= 500:
        status_body["error_id"] = error_id = str(uuid4())
        logger.error("Error %s: %s", error_id, rejection.message)
    return JSONResponse(status_body, rejection.status, headers)


def _body_with_text(error: AuthError) -> dict[str, object]:
    return {"code": error.code, "message": error.message, **_reasons(error)}


def _body_with_status(error: AuthError) -> dict[str, object]:
    members = {"code": error.status, "error_code": error.code, "msg": error.message}
    return {**members, **_reasons(error)}


def _reasons(error: AuthError) -> dict[str, object]:
    if not isinstance(error, PasswordViolation):
        return {}
    return {"weak_password": {"reasons": error.reasons}}


def _raised_body(raised: RaisedError) -> dict[str, str]:
    """Return what a trigger or a constraint raised, in the shape that Supabase Auth gives it."""
    members = {
        "code": raised.code,
        "message": raised.message,
        "hint": raised.hint,
        "detail": raised.detail,
    }
    return {name: value for name, value in members.items() if value is not None}


@contextmanager
def database_errors(action: str, *, shows_raised: bool = True) -> Iterator[None]:
    """Tell a taken address, number or id from what the project's own triggers reject.

    What a trigger or a constraint rejects is logged, and its message reaches the client.

    Args:
        action: for the message of other errors: `saving new`, `updating`, `deleting`.
        shows_raised: whether the message of a trigger reaches the client.
    """
    try:
        with translated_errors():
            yield
    except (EmailAlreadyRegistered, NotFound, Retryable):
        raise
    except Conflict as error:
        if error.constraint in BY_CONSTRAINT:
            raise AuthError(BY_CONSTRAINT[error.constraint]) from error
        raise _database_error(action, error, shows_raised=shows_raised) from error
    except (AmphibaseError, psycopg.Error) as error:
        raise _database_error(action, error, shows_raised=shows_raised) from error


@contextmanager
def faults(message: str) -> Iterator[None]:
    """Report whatever goes wrong as a fault of the server with one message, and log the reason.

    So does Supabase Auth where an administrator writes: a taken address or id is a fault, too.
    """
    try:
        with translated_errors():
            yield
    except (InvalidValue, Retryable):
        raise
    except (AmphibaseError, AuthError) as error:
        logger.error("%s: %s", message, error)
        if raised := raised_error(error):
            raise RejectedByProject(raised, message) from error
        raise AuthError(codes.UNEXPECTED_FAILURE, message) from error


def _database_error(action: str, error: Exception, *, shows_raised: bool) -> AuthError:
    logger.error("Database error %s user: %s", action, error)
    log_missing_right(error, "supabase_auth_admin", "auth")
    message = f"Database error {action} user"
    if shows_raised and (raised := raised_error(error)):
        return RejectedByProject(raised, message)
    return AuthError(codes.UNEXPECTED_FAILURE, message)


def as_auth_error(error: Exception) -> AuthError:
    """Return the error of Auth that an error means; an unexpected one is logged."""
    if isinstance(error, AuthError):
        return error
    if (raised := raised_error(error)) and raised.by_trigger:
        return RejectedByProject(raised)
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
