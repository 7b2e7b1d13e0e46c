"""Makes HTTP responses of the rows of statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from amphibase.database.pool import Cells
from amphibase.gateway.rest.errors.base import (
    FINAL_STATUSES,
    Header,
    InvalidRange,
    InvalidResponseHeaders,
    InvalidResponseStatus,
    RestError,
)
from amphibase.gateway.rest.transaction.run import header_of
from amphibase.gateway.rest.transaction.spool import SpooledRows

JSON = "application/json; charset=utf-8"

BODILESS = (204, 304)
"""The statuses whose responses end with their headers (RFC 9110, section 6.4.1)."""


class ResultSet(NamedTuple):
    """The row of a statement, as values.

    Attributes:
        total: how many rows there are without limits, if they were counted.
        rows: how many are in the body, or were written.
        is_too_large: whether the statement left the body out, which a cursor has to read.
        spooled: the body where a cursor has read it.
        location: the key of the one row that was inserted, by columns.
        headers, status: what functions set (`response.headers`, `response.status`).
        inserted: how many of the written rows are new, where that is known.
    """

    total: int | None
    rows: int
    body: bytes
    is_too_large: bool = False
    spooled: SpooledRows | None = None
    location: Mapping[str, object] | None = None
    headers: bytes | None = None
    status: bytes | None = None
    inserted: int | None = None


def read_result(row: Cells) -> ResultSet:
    """Read the row of a compiled statement (`sql.statement.ResultColumns`)."""
    total, page, body, location, headers, status, inserted, is_bytes = row
    if body is not None and is_bytes == b"t":
        body = bytes.fromhex(body[2:].decode())  # as Postgres writes it: \x and digits
    return ResultSet(
        total=None if total is None else int(total),
        rows=int(page or 0),
        body=body or b"",
        is_too_large=body is None,
        location=None if location is None else orjson.loads(location),
        headers=headers,
        status=status,
        inserted=None if inserted is None else int(inserted),
    )


@dataclass(slots=True)
class RestResponse:
    """An HTTP response, whose body is in memory or in a file.

    Attributes:
        error: what the body says in place of the rows.
    """

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    spooled: SpooledRows | None = None
    error: RestError | None = None

    @property
    def size(self) -> int:
        """The number of bytes of the body."""
        return len(self.body) if self.spooled is None else self.spooled.size

    def drop_body(self) -> None:
        """Leave out the body, which would be taken for the next response of the connection."""
        self.body = b""
        if self.spooled is not None:
            self.spooled.file.close()
            self.spooled = None
        self.headers = [each for each in self.headers if each[0] != b"content-length"]

    def add(self, name: bytes, value: str | None) -> None:
        """Add a header, if it has a value."""
        if value is not None:
            self.headers.append((name, value.encode()))


def error_response(error: RestError, *, minimal: bool = False) -> RestResponse:
    """Make the response of an error.

    Args:
        minimal: leave the details and the hint out.
    """
    body = error.body(minimal=minimal)
    headers: list[Header] = [
        (b"content-type", JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        *error.headers,
    ]
    if header := header_of("proxy-status", f"PostgREST; error={error.code}"):
        headers.append(header)  # a code that a function chose may be no text for a header
    return RestResponse(error.status, headers, body)


def content_range(first: int, last: int, total: int | None) -> str:
    """Write `first-last/total`, with stars where there are no rows or they were not counted."""
    rows = f"{first}-{last}" if last >= first and total != 0 else "*"
    return f"{rows}/{'*' if total is None else total}"


def read_status(offset: int, count: int, total: int | None) -> int:
    """Return 200, 206 for a part, or 416 for one that begins after the end."""
    if total is None:
        return 200
    if offset > total:
        return InvalidRange.status
    return 206 if count < total else 200


def beyond_the_end(response: RestResponse, offset: int, total: int | None) -> None:
    """Replace the rows of a response that begins after the end by the error; its headers stay."""
    response.drop_body()
    details = f"An offset of {offset} was requested, but there are only {total} rows."
    response.error = InvalidRange(details)


def override(response: RestResponse, result: ResultSet) -> None:
    """Give the response the status and the headers that functions set for it.

    Raises:
        InvalidResponseStatus, InvalidResponseHeaders: they are none.
    """
    if result.status:
        if not (result.status.isdigit() and int(result.status) in FINAL_STATUSES):
            raise InvalidResponseStatus
        response.status = int(result.status)
    if result.headers:
        own = _own_headers(result.headers)
        names = {name for name, _ in own} - {b"set-cookie"}
        response.headers = [each for each in response.headers if each[0] not in names] + own


def _own_headers(text: bytes) -> list[Header]:
    try:
        objects = orjson.loads(text)
    except ValueError:
        raise InvalidResponseHeaders from None
    if not isinstance(objects, list):
        raise InvalidResponseHeaders
    found = []
    for each in objects:
        if not isinstance(each, dict) or len(each) != 1:
            raise InvalidResponseHeaders
        ((name, value),) = each.items()
        header = header_of(name, value)
        if header is None:
            raise InvalidResponseHeaders
        found.append(header)
    return found


def allowed(methods: Sequence[str]) -> RestResponse:
    """Make the response to OPTIONS."""
    return RestResponse(200, [(b"allow", ",".join(methods).encode()), (b"content-length", b"0")])
