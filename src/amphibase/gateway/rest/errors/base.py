"""The errors of the Data API: their codes, statuses and words, as PostgREST documents them
(https://docs.postgrest.org/en/v14/references/errors.html).

Those about names that the catalog lacks are in `missing`, those that Postgres says in `sqlstates`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

Header = tuple[bytes, bytes]

FINAL_STATUSES = range(200, 600)
"""The statuses that a function may choose; after one below, a client waits for another response."""


class RestError(Exception):
    """An error with a response of its own.

    Args:
        message: what is wrong.
        details: more of it; text, or data where the code is documented so.
        hint: what to do.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str]

    def __init__(self, message: str, details: Any = None, hint: str | None = None) -> None:
        self.message = message
        self.details = details
        self.hint = hint
        super().__init__(message)

    @property
    def headers(self) -> Sequence[Header]:
        """Headers beside the usual ones."""
        return ()

    def body(self, *, minimal: bool = False) -> bytes:
        """Return the response's JSON; a minimal one has neither details nor a hint."""
        if minimal:
            return orjson.dumps({"code": self.code, "message": self.message})
        return orjson.dumps(
            {
                "code": self.code,
                "details": self.details,
                "hint": self.hint,
                "message": self.message,
            }
        )


# The connection


class CannotConnect(RestError):
    """No connection to the database could be had."""

    status = 503
    code = "PGRST000"

    def __init__(self, details: str | None = None) -> None:
        super().__init__("Database connection error. Retrying the connection.", details)

    @property
    def headers(self) -> Sequence[Header]:
        return ((b"retry-after", b"1"),)


class CatalogNotLoaded(RestError):
    """The catalog has not been read yet, or could not be."""

    status = 503
    code = "PGRST002"

    def __init__(self) -> None:
        super().__init__("Could not query the database for the schema cache. Retrying.")

    @property
    def headers(self) -> Sequence[Header]:
        return ((b"retry-after", b"1"),)


class AcquisitionTimeout(RestError):
    """All connections are busy."""

    status = 504
    code = "PGRST003"

    def __init__(self) -> None:
        super().__init__("Timed out acquiring connection from connection pool.")


# The request


class ParseError(RestError):
    """A parameter of the query string that cannot be read."""

    code = "PGRST100"


class InvalidRpcMethod(RestError):
    """Functions are called by GET, HEAD and POST."""

    status = 405
    code = "PGRST101"

    def __init__(self, method: str) -> None:
        super().__init__(f"Cannot use the {method} method on RPC")


class InvalidBody(RestError):
    """A body that cannot be read."""

    code = "PGRST102"


class InvalidRange(RestError):
    """A range that is none, or that the rows do not reach."""

    status = 416
    code = "PGRST103"

    def __init__(self, details: str) -> None:
        super().__init__("Requested range not satisfiable", details)


class InvalidPut(RestError):
    """PUT names one row by its whole primary key, with `eq` and nothing else."""

    status = 405
    code = "PGRST105"

    def __init__(self) -> None:
        super().__init__(
            "Filters must include all and only primary key columns with 'eq' operators"
        )


class SchemaNotExposed(RestError):
    """A profile that is not served."""

    status = 406
    code = "PGRST106"

    def __init__(self, schema: str, exposed: Sequence[str]) -> None:
        super().__init__(
            f"Invalid schema: {schema}",
            hint=f"Only the following schemas are exposed: {', '.join(exposed)}",
        )


class NotAcceptable(RestError):
    """None of the media types that the client accepts can be produced."""

    status = 406
    code = "PGRST107"

    def __init__(self, media_types: Sequence[str]) -> None:
        super().__init__(f"None of these media types are available: {', '.join(media_types)}")


class NotEmbedded(RestError):
    """A filter, order or range on a relation that is not selected."""

    code = "PGRST108"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' is not an embedded resource in this request",
            hint=f"Verify that '{name}' is included in the 'select' query parameter.",
        )


class InvalidResponseHeaders(RestError):
    """A function set `response.headers` to what are no headers."""

    status = 500
    code = "PGRST111"

    def __init__(self) -> None:
        super().__init__(
            "response.headers guc must be a JSON array composed of objects with a single key and "
            "a string value"
        )


class InvalidResponseStatus(RestError):
    """A function set `response.status` to what is no status."""

    status = 500
    code = "PGRST112"

    def __init__(self) -> None:
        super().__init__("response.status guc must be a valid status code")


class PutWithRange(RestError):
    """PUT concerns one row."""

    code = "PGRST114"

    def __init__(self) -> None:
        super().__init__("limit/offset querystring parameters are not allowed for PUT")


class PutDiffers(RestError):
    """The body of a PUT is another row than its URL."""

    code = "PGRST115"

    def __init__(self) -> None:
        super().__init__("Payload values do not match URL in primary key column(s)")


class NotSingular(RestError):
    """One object was requested, and there is not exactly one row."""

    status = 406
    code = "PGRST116"

    def __init__(self, rows: int) -> None:
        super().__init__(
            "Cannot coerce the result to a single JSON object", f"The result contains {rows} rows"
        )


class UnsupportedMethod(RestError):
    """A method that is not supported here."""

    status = 405
    code = "PGRST117"

    def __init__(self, method: str) -> None:
        super().__init__(f"Unsupported HTTP method: {method}")


class OrderNotToOne(RestError):
    """Rows cannot be ordered by one of many related rows."""

    code = "PGRST118"

    def __init__(self, origin: str, target: str) -> None:
        super().__init__(
            f"A related order on '{target}' is not possible",
            f"'{origin}' and '{target}' do not form a many-to-one or one-to-one relationship",
        )


class InvalidRaise(RestError):
    """A function raised SQLSTATE PGRST with something that cannot be read."""

    status = 500
    code = "PGRST121"

    def __init__(self, details: str) -> None:
        super().__init__(
            "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
            details,
            "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional "
            "key: 'status_text'."
            if "DETAIL" in details
            else "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and "
            "optional keys: 'details', 'hint'.",
        )


class InvalidPreferences(RestError):
    """Preferences that are unknown, with `handling=strict`."""

    code = "PGRST122"

    def __init__(self, preferences: Sequence[str]) -> None:
        super().__init__(
            "Invalid preferences given with handling=strict",
            f"Invalid preferences: {', '.join(preferences)}",
        )


class AggregatesNotAllowed(RestError):
    """Aggregates are off (PGRST_DB_AGGREGATES_ENABLED)."""

    code = "PGRST123"

    def __init__(self) -> None:
        super().__init__("Use of aggregate functions is not allowed")


class MaxAffected(RestError):
    """More rows than `Prefer: max-affected` allows."""

    code = "PGRST124"

    def __init__(self, rows: int) -> None:
        super().__init__(
            "Query result exceeds max-affected preference constraint",
            f"The query affects {rows} rows",
        )


class InvalidResourcePath(RestError):
    """A path of more than one part."""

    status = 404
    code = "PGRST125"

    def __init__(self) -> None:
        super().__init__("Invalid path specified in request URL")


class RootDisabled(RestError):
    """PGRST_OPENAPI_MODE is `disabled`."""

    status = 404
    code = "PGRST126"

    def __init__(self) -> None:
        super().__init__("Root endpoint metadata is disabled")


class NotImplementedHere(RestError):
    """An error that the protocol has no code for."""

    code = "PGRST127"

    def __init__(self, details: str) -> None:
        super().__init__("Feature not implemented", details)


class MaxAffectedNeedsSet(RestError):
    """`max-affected` counts rows, which only a function of rows gives."""

    code = "PGRST128"

    def __init__(self) -> None:
        super().__init__(
            "Function must return SETOF or TABLE when max-affected preference is used with "
            "handling=strict"
        )


# Tokens


class JwtError(RestError):
    """A token that does not hold, or none where one is needed (RFC 6750, section 3)."""

    status = 401
    code = "PGRST301"

    @property
    def headers(self) -> Sequence[Header]:
        challenge = f'Bearer error="invalid_token", error_description="{self.message}"'
        return ((b"www-authenticate", challenge.encode()),)


class AnonymousDisabled(JwtError):
    """No token was sent, and there is no role for those who have none."""

    code = "PGRST302"

    def __init__(self) -> None:
        super().__init__("Anonymous access is disabled")

    @property
    def headers(self) -> Sequence[Header]:
        return ((b"www-authenticate", b"Bearer"),)


class InvalidClaims(JwtError):
    """A token whose claims do not hold."""

    code = "PGRST303"
