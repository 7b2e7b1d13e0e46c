"""The responses of reads, writes and calls."""

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from urllib.parse import quote, unquote_plus, urlencode

from amphibase.gateway.rest.errors.base import InvalidRange, NotSingular
from amphibase.gateway.rest.plan.negotiation import NegotiatedMediaType
from amphibase.gateway.rest.plan.types import Action
from amphibase.gateway.rest.request.lru import cached
from amphibase.gateway.rest.request.preferences import NONE, Preferences
from amphibase.gateway.rest.request.request import ApiRequest
from amphibase.gateway.rest.response.response import (
    RestResponse,
    ResultSet,
    beyond_the_end,
    content_range,
    read_status,
)
from amphibase.gateway.rest.schema.catalog import Routine, Table

_APPLIED: Mapping[Action, tuple[str, ...]] = {
    "read": ("count", "tx", "handling", "timezone"),
    "insert": ("resolution", "return", "count", "tx", "missing", "handling", "timezone"),
    "update": ("return", "count", "tx", "missing", "handling", "timezone", "max-affected"),
    "put": ("return", "count", "tx", "handling", "timezone"),
    "delete": ("return", "count", "tx", "handling", "timezone", "max-affected"),
    "call": ("count", "tx", "handling", "timezone", "max-affected"),
}

_PLAIN = re.compile(r"([\w.~-]+)=[\w.~-]*", re.ASCII)
"""A parameter in which nothing is to be encoded."""


def read_response(
    request: ApiRequest,
    query_string: str,
    preferences: Preferences,
    negotiated: NegotiatedMediaType,
    result: ResultSet,
    offset: int,
) -> RestResponse:
    """Make the response of a read: the rows, or the requested part of them."""
    if negotiated.is_singular and result.rows != 1:
        raise NotSingular(result.rows)
    status = read_status(offset, result.rows, result.total)
    rows = content_range(offset, offset + result.rows - 1, result.total)
    headers = [
        (b"content-type", negotiated.content_type.encode()),
        (b"content-range", rows.encode()),
        (b"content-location", _location(request.path, query_string).encode()),
    ]
    response = RestResponse(status, headers, result.body, result.spooled)
    if preferences is not NONE:
        response.add(b"preference-applied", preferences.applied(*_APPLIED["read"]))
    if status == InvalidRange.status:
        beyond_the_end(response, offset, result.total)
    return response


def plan_response(negotiated: NegotiatedMediaType, result: ResultSet) -> RestResponse:
    """Make the response of `application/vnd.pgrst.plan`."""
    response = RestResponse(200, body=result.body)
    response.add(b"content-type", negotiated.content_type)
    return response


def mutate_response(
    action: Action,
    preferences: Preferences,
    negotiated: NegotiatedMediaType,
    result: ResultSet,
    table: Table,
    on_conflict: Sequence[str] | None,
) -> RestResponse:
    """Make the response of a write."""
    shows = preferences.representation == "representation"
    response = RestResponse(_write_status(action, preferences, result, shows), [])
    counted = result.rows if preferences.count in ("exact", "estimated") else None
    match action:
        case "insert":
            if preferences.representation == "headers-only" and result.location:
                response.add(b"location", _location_of_row(table, result.location))
            response.add(b"content-range", content_range(1, 0, counted))
        case "update":
            response.add(b"content-range", content_range(0, result.rows - 1, counted))
        case "delete":
            response.add(b"content-range", content_range(1, 0, counted))
    if shows:
        response.body = result.body
        response.add(b"content-type", negotiated.content_type)
    names = _APPLIED[action]
    if not (table.primary_key or on_conflict):
        names = tuple(name for name in names if name != "resolution")
    response.add(b"preference-applied", preferences.applied(*names))
    return response


def call_response(
    preferences: Preferences,
    negotiated: NegotiatedMediaType,
    result: ResultSet,
    function: Routine,
    offset: int,
) -> RestResponse:
    """Make the response of a call."""
    if function.returns.is_void:
        response = RestResponse(204)
    else:
        status = read_status(offset, result.rows, result.total)
        response = RestResponse(status, body=result.body, spooled=result.spooled)
        response.add(b"content-type", negotiated.content_type)
        if status == InvalidRange.status:
            beyond_the_end(response, offset, result.total)
    response.add(b"content-range", content_range(offset, offset + result.rows - 1, result.total))
    response.add(b"preference-applied", preferences.applied(*_APPLIED["call"]))
    return response


def _write_status(action: Action, preferences: Preferences, result: ResultSet, shows: bool) -> int:
    if action == "insert":
        updated_only = result.inserted == 0 and preferences.resolution == "merge-duplicates"
        return 200 if updated_only else 201
    if not shows:
        return 204
    return 201 if action == "put" and result.inserted else 200


def _location_of_row(table: Table, key: Mapping[str, object]) -> str:
    filters = {name: "is.null" if value is None else f"eq.{value}" for name, value in key.items()}
    return f"/{quote(table.name.name, safe='')}?{_query_string(filters.items())}"


def _location(path: str, query_string: str) -> str:
    return f"{path}?{_canonical(query_string)}" if query_string else path


@cached(1000)
def _canonical(query_string: str) -> str:
    """The parameters by name, each name once, with all encoded that may be."""
    parameters = [_parameter(each) for each in query_string.split("&") if each]
    parameters.sort(key=itemgetter(0))
    texts: dict[str, str] = {}
    for name, text in parameters:
        earlier = texts.get(name)
        texts[name] = text if earlier is None else f"{earlier},{text.partition('=')[2]}"
    return "&".join(texts.values())


def _parameter(text: str) -> tuple[str, str]:
    """The name of a parameter, and the parameter with all encoded that may be."""
    if plain := _PLAIN.fullmatch(text):
        return plain[1], text
    return _encoded(text)


@cached(1000)
def _encoded(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    name = unquote_plus(name)
    return name, _query_string([(name, unquote_plus(value))])


def _query_string(parameters: Iterable[tuple[str, str]]) -> str:
    return urlencode(list(parameters), quote_via=quote, safe="")
