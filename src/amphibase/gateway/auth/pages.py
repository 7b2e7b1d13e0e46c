"""Pages of lists for the administration: which is requested, and the headers that lead on."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ValidationError
from starlette.requests import Request

from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.go_json import quoted, syntax_error
from amphibase.gateway.auth.token_errors import base64_error

PER_PAGE = 50
MAX_PER_PAGE = 100_000
MAX_LIMIT = 1000
MAX_NUMBER = 2**64 - 1
MAX_DIGITS = 100


class RequestedPage(NamedTuple):
    """Which page of a list is requested; `number` counts from 1, and 0 is the first, too."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many rows come before it."""
        return min((max(self.number, 1) - 1) * self.size, 2**63 - 1)


class Cursor(BaseModel):
    """The last row of a page, after which the next one begins."""

    created_at: AwareDatetime
    id: UUID

    def __str__(self) -> str:
        return urlsafe_b64encode(self.model_dump_json().encode()).rstrip(b"=").decode()


class CursorPage(NamedTuple):
    """Which page of a list is requested by a cursor; None for the first."""

    size: int
    after: Cursor | None


def read_cursor_page(request: Request) -> CursorPage:
    """Read `limit` and `cursor` of the query string. Raises AuthError, in the words of Go."""
    size = _number(request, "limit", PER_PAGE)
    if size == 0:
        raise invalid("Bad Pagination Parameters: limit must be greater than 0")
    text = request.query_params.get("cursor", "")
    return CursorPage(min(size, MAX_LIMIT), _cursor(text) if text else None)


def cursor_headers(request: Request, after: Cursor | None) -> Mapping[str, str]:
    """Return `Link` with the next page, which begins after a row; none where there is none."""
    if after is None:
        return {}
    names = ("page", "cursor")
    others = [each for each in request.query_params.multi_items() if each[0] not in names]
    return {"link": _link(request, [("cursor", str(after)), *others], "next")}


def _cursor(text: str) -> Cursor:
    if reason := base64_error(text):
        raise _bad_cursor(f" encoding: {reason}")
    content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if reason := syntax_error(content):
        raise _bad_cursor(f": {reason}")
    try:
        return Cursor.model_validate_json(content)
    except ValidationError as error:
        *_, name = error.errors()[-1]["loc"] or ("id",)  # what is no object has none
        raise _bad_cursor(f": missing {name}") from None


def _bad_cursor(fault: str) -> AuthError:
    return invalid(f"Bad Pagination Parameters: invalid cursor{fault}")


def read_page(request: Request) -> RequestedPage:
    """Read `page` and `per_page` of the query string.

    Raises:
        AuthError: one is not a number, in the words of Go, or there is nothing on a page.
    """
    number = _number(request, "page", 1)
    size = _number(request, "per_page", PER_PAGE)
    if size == 0:
        raise invalid("Bad Pagination Parameters: per_page must be greater than 0")
    return RequestedPage(number, min(size, MAX_PER_PAGE))


def page_headers(request: Request, page: RequestedPage, total: int) -> Mapping[str, str]:
    """Return `X-Total-Count`, and `Link` with the next and the last page (RFC 8288)."""
    last = -(-total // page.size)
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]

    def link(number: int, relation: str) -> str:
        return _link(request, [("page", str(number)), *others], relation)

    links = [link(page.number + 1, "next")] if page.number < last else []
    return {"x-total-count": str(total), "link": ", ".join([*links, link(last, "last")])}


def _link(request: Request, query: Iterable[tuple[str, str]], relation: str) -> str:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return f'<{path}?{urlencode(sorted(query, key=itemgetter(0)))}>; rel="{relation}"'


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        reason = "invalid syntax"
    elif len(text) > MAX_DIGITS or int(text) > MAX_NUMBER:
        reason = "value out of range"
    else:
        return int(text)
    raise invalid(f"Bad Pagination Parameters: strconv.ParseUint: parsing {quoted(text)}: {reason}")
