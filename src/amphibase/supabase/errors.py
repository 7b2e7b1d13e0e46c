"""Translation of the errors of a Supabase project: the one place where they become Amphibase's.

Told apart by the codes that the services document, and where there is none by the status; never by
a message:
https://docs.postgrest.org/en/v14/references/errors.html,
https://supabase.com/docs/guides/auth/debugging/error-codes,
https://supabase.com/docs/guides/storage/debugging/error-codes.
"""

import re
from typing import Any

import httpx
import orjson

from amphibase.backend import Caller
from amphibase.database.missing_value import missing_value
from amphibase.errors import (
    AmphibaseError,
    ConfigurationError,
    Conflict,
    Contention,
    EmailAlreadyRegistered,
    EmailNotConfirmed,
    Forbidden,
    ForeignKeyViolation,
    InvalidCredentials,
    InvalidLink,
    InvalidPath,
    InvalidRefreshToken,
    InvalidRequest,
    InvalidSignature,
    InvalidToken,
    InvalidValue,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    ReadOnly,
    SessionEnded,
    SignUpClosed,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedFileType,
    UploadBusy,
    UserBanned,
    WeakPassword,
)
from amphibase.supabase.retry import retry_after


class ManualLinkingDisabled(NotSupported):
    """Raised where the project does not let users link identities; says where to change that."""

    default = (
        "The Supabase project does not let users link identities: switch on 'Allow manual linking' "
        "in its dashboard under Authentication, Sign In / Providers"
    )


AUTH_ERRORS: dict[str, type[AmphibaseError]] = {
    "bad_code_verifier": InvalidLink,
    "bad_jwt": InvalidToken,
    "email_exists": EmailAlreadyRegistered,
    "email_not_confirmed": EmailNotConfirmed,
    "email_provider_disabled": SignUpClosed,
    "flow_state_expired": InvalidLink,
    "flow_state_not_found": InvalidLink,
    "identity_already_exists": Conflict,
    "identity_not_found": NotFound,
    "invalid_credentials": InvalidCredentials,
    "manual_linking_disabled": ManualLinkingDisabled,
    "no_authorization": Unauthenticated,
    "otp_expired": InvalidLink,
    "refresh_token_already_used": InvalidRefreshToken,
    "provider_email_needs_verification": EmailNotConfirmed,
    "refresh_token_not_found": InvalidRefreshToken,
    "session_expired": SessionEnded,
    "session_not_found": SessionEnded,
    "signup_disabled": SignUpClosed,
    "single_identity_not_deletable": Conflict,
    "user_already_exists": EmailAlreadyRegistered,
    "user_banned": UserBanned,
    "user_not_found": NotFound,
}

AUTH_ERRORS_WITH_MESSAGE: dict[str, type[AmphibaseError]] = {
    "conflict": Conflict,
    "email_address_invalid": InvalidRequest,
    "email_address_not_authorized": Forbidden,
    "insufficient_aal": Forbidden,
    "not_admin": Forbidden,
    "reauthentication_needed": Forbidden,
    "same_password": WeakPassword,
    "validation_failed": InvalidRequest,
    "weak_password": WeakPassword,
}

STORAGE_ERRORS: dict[str, type[AmphibaseError]] = {
    "EntityTooLarge": PayloadTooLarge,
    "InvalidBucketName": InvalidPath,
    "InvalidJWT": InvalidToken,
    "InvalidKey": InvalidPath,
    "InvalidMimeType": UnsupportedFileType,
    "InvalidSignature": InvalidSignature,
    "InvalidUploadSignature": InvalidSignature,
    "KeyAlreadyExists": Conflict,
    "BucketAlreadyExists": Conflict,
    "NoSuchBucket": NotFound,
    "NoSuchKey": NotFound,
    "NoSuchUpload": NotFound,
    "ResourceAlreadyExists": Conflict,
    "ResourceLocked": UploadBusy,
    "ResourceNotEmpty": ForeignKeyViolation,
    "SlowDown": TooManyRequests,
    # The older field `error`, where a server sends no `code`.
    "Bucket not found": NotFound,
    "Duplicate": Conflict,
    "Payload too large": PayloadTooLarge,
    "invalid_mime_type": UnsupportedFileType,
    "not_found": NotFound,
}

BY_STATUS: dict[int, type[AmphibaseError]] = {
    401: Unauthenticated,
    402: Unavailable,  # the project's owner has something to pay
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    413: PayloadTooLarge,
    415: UnsupportedFileType,
    423: UploadBusy,
}


class EmailsTooFrequent(TooManyRequests):
    """Raised when Auth sends no further email for now, to an address or at all."""


def raise_for_response(service: str, response: httpx.Response, caller: Caller) -> None:
    """Raise what an error response means.

    Args:
        service: `rest`, `auth`, `storage` or `realtime`.
        response: read to its end.
        caller: whose request it was.

    Raises:
        AmphibaseError: the status is 300 or above.
        ConfigurationError: the project does not accept the API key.
    """
    if response.is_success:
        return
    if not response.is_error:
        raise Unavailable("The Supabase project responded with a redirect: compare SUPABASE_URL")
    body = _body(response)
    status = _status(response, body)
    has_body = bool(response.content)  # the response to HEAD has none
    if service == "rest" and status == 403 and has_body and "code" not in body:
        # PostgREST's own has one: such a 403 does not mean that the caller sees no rows.
        raise Unavailable("A proxy before the Data API of the Supabase project rejected a request")
    if status == 401 and has_body and "code" not in body and "error_code" not in body:
        # The gateway before the services: it knows API keys, and no users.
        raise ConfigurationError(
            f"The project does not accept the API key of the role {caller.role}: compare "
            "SUPABASE_ANON_KEY and SUPABASE_SERVICE_KEY with those of its dashboard"
        )
    error = _temporary(service, status, response, body)
    if error is None:
        match service:
            case "rest":
                error = _rest_error(body, caller)
            case "auth":
                error = _auth_error(body, response)
            case "storage":
                error = _storage_error(body, caller)
    raise error or _by_status(service, status, body)


def translate_transport_error(error: httpx.HTTPError) -> Unavailable:
    """Return the error of a request that got no response, or only a part of one."""
    if isinstance(error, httpx.PoolTimeout):
        return Unavailable("All connections to the Supabase project are in use; try again")
    if isinstance(error, httpx.TimeoutException):
        return Unavailable("The Supabase project took too long; try again", retry_after=1)
    return Unavailable("The Supabase project cannot be reached just now")


def read_json(response: httpx.Response) -> Any:
    """Parse a response's body. Raises Unavailable where it is not JSON, such as a proxy's page."""
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        raise Unavailable("The Supabase project sent a response that is not JSON") from None


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _status(response: httpx.Response, body: dict[str, Any]) -> int:
    """Return the status: Storage sends 400 with nearly every error, the real one in the body."""
    in_body = body.get("statusCode")
    if isinstance(in_body, int | str) and str(in_body).isdecimal():
        return int(in_body)
    return response.status_code


def _temporary(
    service: str, status: int, response: httpx.Response, body: dict[str, Any]
) -> AmphibaseError | None:
    if status == 429:
        if _auth_code(body, response) == "over_email_send_rate_limit":
            return EmailsTooFrequent(retry_after=retry_after(response))
        return TooManyRequests(retry_after=retry_after(response))
    if status in (502, 503, 504) or status >= 520:
        return Unavailable(
            f"The service {service} of the Supabase project is not available just now",
            retry_after=retry_after(response),
        )
    return None


def _rest_error(body: dict[str, Any], caller: Caller) -> AmphibaseError | None:
    """Translate a SQLSTATE (PostgreSQL docs, appendix A) or a code of PostgREST."""
    message = str(body.get("message") or "")
    match str(body.get("code") or ""):
        case "23505":
            return Conflict(columns=_conflicting_columns(body), constraint=_quoted_name(message))
        case "23503" | "23001":
            return ForeignKeyViolation()
        case "23502":
            return missing_value(_quoted_name(message))
        case "23514" | "23P01":
            return InvalidValue(constraint=_quoted_name(message, last=True))
        case "42501":
            if caller.role == "anon":
                return Unauthenticated()
            return Forbidden("The database does not let this caller do that")
        case "P0001":  # RAISE EXCEPTION, by a function or a trigger of the application's
            return InvalidRequest(message)
        case "42883" | "42804":
            return InvalidValue("A column is compared with a value of another type")
        case "40001" | "40P01" | "55P03":
            return Contention()
        case "57014":
            return Unavailable("The database took too long; try again", retry_after=1)
        case "54000":
            return InvalidValue("A value is larger than an index of the database takes")
        case code if code.startswith("22"):
            return InvalidValue()
        case "25006":
            return ReadOnly()
        case code if code.startswith(("08", "53", "57P", "58")):
            return Unavailable()
        case "PGRST102":  # JSON of ours that it cannot read: a text holds half a character
            return InvalidValue()
        case "PGRST202":
            return NotFound(f"There is no such function in the database: {message}")
        case "PGRST204" | "PGRST205" | "PGRST200":
            return ConfigurationError(
                f"The project's tables are not those of the models: {message}"
            )
        case "PGRST123":
            return NotSupported(
                "Aggregates are off in this project. As its owner, run: ALTER ROLE authenticator "
                "SET pgrst.db_aggregates_enabled = 'true'; NOTIFY pgrst, 'reload config'"
            )
        case "PGRST301" | "PGRST303":
            return InvalidToken()
        case "PGRST302":
            return Unauthenticated()
    return None


def _auth_error(body: dict[str, Any], response: httpx.Response) -> AmphibaseError | None:
    """Translate a code of Auth."""
    code = _auth_code(body, response)
    if code in AUTH_ERRORS:
        return AUTH_ERRORS[code]()
    if code in AUTH_ERRORS_WITH_MESSAGE:
        return AUTH_ERRORS_WITH_MESSAGE[code](_message(body))
    return None


def _auth_code(body: dict[str, Any], response: httpx.Response) -> str:
    """Return the code of an error of Auth, which older versions call `error_code`."""
    code = body.get("code")
    if not isinstance(code, str):
        code = body.get("error_code") or response.headers.get("x-sb-error-code")
    return str(code)


def _storage_error(body: dict[str, Any], caller: Caller) -> AmphibaseError | None:
    """Translate a code of Storage, or the older field `error`."""
    for name in ("code", "error"):
        code = body.get(name)
        if code in STORAGE_ERRORS:
            return STORAGE_ERRORS[code]()
        if code in ("AccessDenied", "Unauthorized"):
            return Unauthenticated() if caller.role == "anon" else Forbidden()
    return None


def _by_status(service: str, status: int, body: dict[str, Any]) -> AmphibaseError:
    if status in BY_STATUS:
        return BY_STATUS[status]()
    if status < 500:
        return InvalidRequest(_message(body))
    return Unavailable(f"The service {service} of the Supabase project failed")


def _message(body: dict[str, Any]) -> str | None:
    for name in ("message", "msg", "error_description"):
        if isinstance(body.get(name), str):
            return str(body[name])
    return None


def _conflicting_columns(body: dict[str, Any]) -> tuple[str, ...]:
    # The details name the columns, but in the server's language; the parentheses are constant.
    match = re.search(r"\(([^()]+)\)=\(", str(body.get("details") or ""))
    return tuple(name.strip(' "') for name in match[1].split(",")) if match else ()


def _quoted_name(message: str, *, last: bool = False) -> str | None:
    """Return the first or last name in quotation marks; PostgREST has no field for it."""
    names = re.findall(r'"([^"]+)"', message)
    return (names[-1] if last else names[0]) if names else None
