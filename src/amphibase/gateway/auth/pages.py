"""Pages of lists for the administration: which is requested, and the headers that lead on."""

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request

from amphibase.gateway.auth.errors import invalid

PER_PAGE = 50
MAX_PER_PAGE = 100_000
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
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]

    def link(number: int, relation: str) -> str:
        query = sorted([("page", str(number)), *others], key=itemgetter(0))
        return f'<{path}?{urlencode(query)}>; rel="{relation}"'

    links = [link(page.number + 1, "next")] if page.number < last else []
    return {"x-total-count": str(total), "link": ", ".join([*links, link(last, "last")])}


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
    written = json.dumps(text, ensure_ascii=False)
    raise invalid(f"Bad Pagination Parameters: strconv.ParseUint: parsing {written}: {reason}")
