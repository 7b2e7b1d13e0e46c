"""Every error that Amphibase raises on purpose, on one page.

    AmphibaseError
    ├── ConfigurationError         the environment or a file it names is wrong; raised at start
    ├── HookError                  a hook of the application returned what it may not
    ├── NotLoaded                  a relationship was read that was not loaded
    ├── MoveFailed                 a move between backends cannot go on
    ├── TransactionClosed          a transaction that has failed or ended is used further
    ├── NotSupported               the backend cannot do that; raised before anything is sent
    ├── InvalidRequest             the request itself is wrong
    │   ├── InvalidCursor          a page cursor that this query did not issue
    │   ├── InvalidLink            a reset or verification token that is unknown, used or expired
    │   ├── EmailAlreadyRegistered
    │   ├── WeakPassword
    │   ├── InvalidPath            a path or a bucket's name that no file can have
    │   ├── IncompleteUpload       fewer or more bytes came than were announced
    │   ├── UnsupportedFileType    a type that is not taken, or bytes of another type
    │   └── RangeNotSatisfiable    a part of a file that it does not have
    ├── Unauthenticated            no user is signed in, or the proof is not valid
    │   ├── InvalidCredentials     wrong address or password; never says which
    │   ├── InvalidToken           an access token that is malformed, forged or expired
    │   ├── InvalidRefreshToken    unknown, expired, or used twice
    │   └── SessionEnded           the token was good, but its session is over
    ├── Forbidden                  signed in, but not allowed
    │   ├── NotAdmin
    │   ├── EmailNotConfirmed
    │   ├── IdentityNotLinked      a third party names an address that another account has
    │   ├── SignUpClosed           sign-up is closed, or needs an invitation
    │   ├── EmailDomainNotAllowed
    │   ├── UserBanned
    │   └── InvalidSignature       a signed URL that is tampered with, expired or of another file
    ├── NotFound                   no such thing, or none that the caller may see
    ├── Conflict                   a unique value is taken; names the columns
    ├── StaleVersion               a write that was based on an older version of the row
    ├── ForeignKeyViolation        a row that is referred to is missing, or is still referred to
    ├── InvalidValue               the database rejected a value (a check, a type, a length)
    │   └── MissingValue           a column that needs a value has none
    ├── UnreadableValue            the database holds a value that Python or JSON cannot
    ├── PreconditionFailed         what the request demanded to be so is not so
    ├── UnsupportedTusVersion      a resumable upload by another version of the protocol
    ├── PayloadTooLarge
    ├── RequestTimeout             the rest of a request did not come
    └── Retryable                  the same request may succeed later; says when
        ├── UploadBusy             another request is sending the same upload
        ├── TooManyRequests        a rate limit is reached, or the password queue is full
        ├── Unavailable            the database or a service behind it cannot be reached now
        │   ├── Contention         another transaction was in the way
        │   ├── ReadOnly           the database takes no writes now, such as during a move
        │   └── HookTimeout        a hook of the application took too long
        ├── SlowSubscriber         messages were dropped that a subscriber did not take in time
        └── StorageFull            there is no room for the bytes of a file

Each class carries the HTTP status and the stable `code` that its response has (`http/problems.py`).
Messages are for the person who reads them and never hold a secret.
"""

from collections.abc import Sequence
from typing import ClassVar


class AmphibaseError(Exception):
    """The root of all errors raised on purpose; `str(error)` is safe to show."""

    status: int = 500
    code: ClassVar[str] = "internal_error"
    default: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.default
        super().__init__(self.detail)


class ConfigurationError(AmphibaseError):
    """Raised at start: a setting, key file or installation is wrong; says which and what to do."""

    code = "configuration_error"
    default = "The configuration is wrong"


class MoveFailed(AmphibaseError):
    """Raised when a move cannot go on: what happened, to what, and what to do."""

    code = "move_failed"
    default = "The move failed"


class HookError(AmphibaseError):
    """Raised when a hook of the application returned what it may not; names the hook."""

    code = "hook_error"


class TransactionClosed(AmphibaseError):
    """Raised when a transaction is used after one of its statements failed, or after its end."""

    code = "transaction_closed"
    default = (
        "A statement of this transaction failed, so nothing more can be done in it; what may fail "
        "alone goes into `async with transaction.nested()`"
    )


class NotSupported(AmphibaseError):
    """Raised before anything is sent when a backend lacks the capability that a call needs."""

    status = 501
    code = "not_supported"
    default = "Not supported by this backend"


class NotLoaded(AmphibaseError):
    """Raised when a relationship is touched that was not loaded; says how to load it."""

    code = "not_loaded"
    default = "This was not loaded with its row"


class InvalidRequest(AmphibaseError):
    """Raised when the request cannot be right, whichever client sends it."""

    status = 400
    code = "invalid_request"
    default = "The request is not valid"


class InvalidCursor(InvalidRequest):
    """Raised for a page cursor that is malformed, tampered with, or of another query."""

    code = "invalid_cursor"
    default = "The cursor is not one that this list gave out"


class InvalidLink(InvalidRequest):
    """Raised for a reset or verification token that is unknown, already used, or expired."""

    code = "invalid_or_expired_token"
    default = "This link is not valid any more; ask for a new one"


class EmailAlreadyRegistered(InvalidRequest):
    """Raised when an account has the address already, in whatever case it was written."""

    code = "email_already_registered"
    default = "Email already registered"


class WeakPassword(InvalidRequest):
    """Raised when a new password is too short or too long."""

    status = 422
    code = "weak_password"
    default = "The password is too weak"


class InvalidPath(InvalidRequest):
    """Raised for a path or a bucket's name that no file can have; says why."""

    code = "invalid_path"
    default = "No file can have this path"


class IncompleteUpload(InvalidRequest):
    """Raised when fewer or more bytes came than were announced; nothing of them is stored."""

    code = "incomplete_upload"
    default = "The upload does not have the length that it announced"


class UnsupportedFileType(InvalidRequest):
    """Raised when a type is not taken here, or the bytes are not of the type they claim."""

    status = 415
    code = "unsupported_media_type"
    default = "Files of this type are not taken here"


class RangeNotSatisfiable(InvalidRequest):
    """Raised for a part that a file of `size` bytes does not have."""

    status = 416
    code = "range_not_satisfiable"
    default = "The file has no such part"

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"The file has no such part; it has {size} bytes")


class Unauthenticated(AmphibaseError):
    """Raised when the call needs a signed-in user and none is there."""

    status = 401
    code = "not_authenticated"
    default = "Sign in first"


class InvalidCredentials(Unauthenticated):
    """Raised when address and password do not match; the same for unknown addresses."""

    code = "invalid_credentials"
    default = "Incorrect email or password"


class InvalidToken(Unauthenticated):
    """Raised for an access token that is malformed, forged, expired or for another audience."""

    code = "invalid_token"
    default = "The access token is not valid"


class InvalidRefreshToken(Unauthenticated):
    """Raised for a refresh token that is unknown, expired, or was used before."""

    code = "invalid_refresh_token"
    default = "The refresh token is not valid; sign in again"


class SessionEnded(Unauthenticated):
    """Raised for a good token whose session was signed out, revoked or has expired."""

    code = "session_ended"
    default = "The session has ended; sign in again"


class Forbidden(AmphibaseError):
    """Raised when the caller is known and not allowed."""

    status = 403
    code = "forbidden"
    default = "You may not do this"


class NotAdmin(Forbidden):
    """Raised when a route for administrators is called by another user."""

    code = "not_admin"
    default = "This needs an administrator"


class EmailNotConfirmed(Forbidden):
    """Raised at sign-in, after the right password, while the address awaits confirmation."""

    code = "email_not_confirmed"
    default = "Confirm your email address first"


class IdentityNotLinked(Forbidden):
    """Raised where a third party names the address of an account whose owner never proved it.

    Whoever made that account knows its password, and may not be who signs in now.
    """

    code = "identity_not_linked"
    default = "An account has this address: sign in to it, and link the identity there"


class SignUpClosed(Forbidden):
    """Raised at sign-up where sign-up is closed, or needs an invitation (`SIGN_UP`)."""

    code = "sign_up_closed"
    default = "Signing up here needs an invitation"


class EmailDomainNotAllowed(Forbidden):
    """Raised at sign-up for an address whose domain is not one of `SIGN_UP_DOMAINS`."""

    code = "email_domain_not_allowed"
    default = "Addresses of this domain cannot sign up here"


class UserBanned(Forbidden):
    """Raised when a banned user signs in or uses a token."""

    code = "user_banned"
    default = "This account is banned"


class InvalidSignature(Forbidden):
    """Raised for a signed URL that is tampered with, expired, or of another file."""

    code = "invalid_signature"
    default = "This link is not valid, or not any more"


class NotFound(AmphibaseError):
    """Raised when there is no such thing, or none that the caller may see."""

    status = 404
    code = "not_found"
    default = "Not found"


class Conflict(AmphibaseError):
    """Raised when a unique value is taken already.

    Args:
        columns: the columns of the constraint, in its order; empty where the engine names none.
        constraint: its name in the database, where that is all that is known.
    """

    status = 409
    code = "conflict"
    default = "A row with this value exists already"

    def __init__(
        self,
        detail: str | None = None,
        *,
        columns: Sequence[str] = (),
        constraint: str | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.constraint = constraint
        if detail is None and columns:
            detail = f"A row with this {', '.join(columns)} exists already"
        super().__init__(detail)


class StaleVersion(AmphibaseError):
    """Raised when a row has changed since the version that a write is based on."""

    status = 409
    code = "stale_version"
    default = "The row has changed since you read it; read it again"


class ForeignKeyViolation(AmphibaseError):
    """Raised when a row that is referred to is missing, or one is still referred to."""

    status = 409
    code = "foreign_key_violation"
    default = "A row that this one refers to is missing, or this one is still referred to"


class InvalidValue(AmphibaseError):
    """Raised when a value cannot be stored: a check, a type, a length, a column of the server's.

    Args:
        field: the column, where it is known.
        constraint: the name of the check in the database, where that is all that is known.
    """

    status = 422
    code = "invalid_value"
    default = "The database does not take this value"

    def __init__(
        self, detail: str | None = None, *, field: str | None = None, constraint: str | None = None
    ) -> None:
        self.field = field
        self.constraint = constraint
        super().__init__(detail)


class MissingValue(InvalidValue):
    """Raised when a column, the `field`, needs a value and has none."""

    code = "missing_value"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is missing", field=field)


class UnreadableValue(AmphibaseError):
    """Raised when a row holds a value that Python or JSON cannot, such as the time `infinity`;
    names row and column."""

    code = "unreadable_value"
    default = "The database holds a value that cannot be read"


class PreconditionFailed(AmphibaseError):
    """Raised when what the request demanded to be so (`If-None-Match: *`) is not so."""

    status = 412
    code = "precondition_failed"
    default = "There is a file with this path already"


class UnsupportedTusVersion(AmphibaseError):
    """Raised when a resumable upload uses another version of tus than the `supported` one."""

    status = 412
    code = "unsupported_tus_version"

    def __init__(self, supported: str) -> None:
        self.supported = supported
        super().__init__(f"Tus-Resumable must be {supported}")


class PayloadTooLarge(AmphibaseError):
    """Raised when a request's body is over the limit, without reading on."""

    status = 413
    code = "payload_too_large"
    default = "The request body is too large"


class RequestTimeout(AmphibaseError):
    """Raised when a client sends nothing for too long in the middle of a request's body."""

    status = 408
    code = "request_timeout"
    default = "The rest of the request did not come"


class Retryable(AmphibaseError):
    """A temporary error: the same request may succeed later.

    Args:
        retry_after: seconds until another try makes sense.
    """

    default_retry_after: ClassVar[int] = 1

    def __init__(self, detail: str | None = None, *, retry_after: int | None = None) -> None:
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        super().__init__(detail)


class UploadBusy(Retryable):
    """Raised when another request is sending the same upload, or did until a moment ago."""

    status = 423
    code = "upload_busy"
    default = "Another request is sending this upload; try again"


class TooManyRequests(Retryable):
    """Raised when a rate limit is reached or the password workers' queue is full."""

    status = 429
    code = "too_many_requests"
    default = "Too many requests; try again later"


class Unavailable(Retryable):
    """Raised when the database or a service behind it cannot be reached or is full."""

    status = 503
    code = "unavailable"
    default = "The database cannot be reached just now"
    default_retry_after = 5


class Contention(Unavailable):
    """Raised when another transaction was in the way: a lock, a deadlock, a serialization."""

    code = "contention"
    default = "Another transaction was in the way; try again"
    default_retry_after = 1


class ReadOnly(Unavailable):
    """Raised when the database takes no writes: it is a standby, or its data is being moved."""

    code = "read_only"
    default = "Nothing can be written just now; try again"
    default_retry_after = 10


class HookTimeout(Unavailable):
    """Raised when a hook of the application took longer than `HOOK_TIMEOUT_SECONDS`."""

    code = "hook_timeout"
    default = "The application took too long to decide; try again"


class SlowSubscriber(Retryable):
    """Raised when more messages waited for a subscriber than are held for it."""

    status = 503
    code = "slow_subscriber"
    default = "Messages came faster than they were taken, and some were dropped; subscribe again"


class StorageFull(Retryable):
    """Raised when there is no room for the bytes of a file; nothing of them is stored."""

    status = 507
    code = "storage_full"
    default = "There is no room for this file"
    default_retry_after = 60
