"""Pages of lists for the administration: which is requested, and the headers that lead on."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request

from amphibase.gateway.auth.errors import invalid

PER_PAGE = 50
MAX_PER_PAGE = 1000


class RequestedPage(NamedTuple):
    """Which page of a list is requested; `number` counts from 1."""

    number: int
    size: int


def read_page(request: Request) -> RequestedPage:
    """Read `page` and `per_page` of the query string.

    Raises:
        AuthError: one is not a number.
    """
    size = min(_number(request, "per_page", PER_PAGE), MAX_PER_PAGE)
    return RequestedPage(_number(request, "page", 1), size)


def page_headers(request: Request, page: RequestedPage, total: int) -> Mapping[str, str]:
    """Return `X-Total-Count`, and `Link` with the next and the last page (RFC 8288)."""
    # Clients read the page's number from the first parameter.
    last = max(1, -(-total // page.size))
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]

    def link(number: int, relation: str) -> str:
        return f'<{path}?{urlencode([("page", number), *others])}>; rel="{relation}"'

    links = [link(page.number + 1, "next")] if page.number < last else []
    return {"x-total-count": str(total), "link": ", ".join([*links, link(last, "last")])}


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise invalid(f"Bad Pagination Parameters: {name} has to be a number")
    return int(text) or default
