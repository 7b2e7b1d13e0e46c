"""The answers of reads, writes and calls."""

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from urllib.parse import quote, unquote_plus, urlencode

from amphibase.gateway.rest.errors.base import NotSingular
from amphibase.gateway.rest.plan.negotiation import Chosen
from amphibase.gateway.rest.plan.types import Action
from amphibase.gateway.rest.request.lru import kept
from amphibase.gateway.rest.request.preferences import Preferences
from amphibase.gateway.rest.request.request import Asked
from amphibase.gateway.rest.response.response import Answer, Result, content_range, read_status
from amphibase.gateway.rest.schema.catalog import Function, Table

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


def answer_read(
    asked: Asked, preferences: Preferences, chosen: Chosen, result: Result, offset: int
) -> Answer:
    """The rows of a table, or the part of them that was asked for."""
    if chosen.is_singular and result.rows != 1:
        raise NotSingular(result.rows)
    answer = Answer(read_status(offset, result.rows, result.total), body=result.body)
    answer.add(b"content-type", chosen.content_type)
    answer.add(b"content-range", content_range(offset, offset + result.rows - 1, result.total))
    answer.add(b"content-location", _location(asked))
    answer.add(b"preference-applied", preferences.applied(*_APPLIED["read"]))
    return answer


def answer_plan(chosen: Chosen, result: Result) -> Answer:
    """How Postgres would do it, or did."""
    answer = Answer(200, body=result.body)
    answer.add(b"content-type", chosen.content_type)
    return answer


def answer_write(
    action: Action,
    preferences: Preferences,
    chosen: Chosen,
    result: Result,
    table: Table,
    on_conflict: Sequence[str] | None,
) -> Answer:
    """What was written, or only that it was."""
    shows = preferences.representation == "representation"
    answer = Answer(_write_status(action, preferences, result, shows), [])
    counted = result.rows if preferences.count else None
    match action:
        case "insert":
            if preferences.representation == "headers-only" and result.location:
                answer.add(b"location", _location_of_row(table, result.location))
            answer.add(b"content-range", content_range(1, 0, counted))
        case "update":
            answer.add(b"content-range", content_range(0, result.rows - 1, counted))
        case "delete":
            answer.add(b"content-range", content_range(1, 0, counted))
    if shows:
        answer.body = result.body
        answer.add(b"content-type", chosen.content_type)
    names = _APPLIED[action]
    if not (table.primary_key or on_conflict):
        names = tuple(name for name in names if name != "resolution")
    answer.add(b"preference-applied", preferences.applied(*names))
    return answer


def answer_call(
    preferences: Preferences, chosen: Chosen, result: Result, function: Function, offset: int
) -> Answer:
    """What a function returned."""
    if function.returns.is_void:
        answer = Answer(204)
    else:
        answer = Answer(read_status(offset, result.rows, result.total), body=result.body)
        answer.add(b"content-type", chosen.content_type)
    answer.add(b"content-range", content_range(offset, offset + result.rows - 1, result.total))
    answer.add(b"preference-applied", preferences.applied(*_APPLIED["call"]))
    return answer


def _write_status(action: Action, preferences: Preferences, result: Result, shows: bool) -> int:
    if action == "insert":
        updated_only = result.inserted == 0 and preferences.resolution == "merge-duplicates"
        return 200 if updated_only else 201
    if not shows:
        return 204
    return 201 if action == "put" and result.inserted else 200


def _location_of_row(table: Table, key: Mapping[str, object]) -> str:
    filters = {name: "is.null" if value is None else f"eq.{value}" for name, value in key.items()}
    return f"/{table.name.name}?{_query_string(filters.items())}"


def _location(asked: Asked) -> str:
    if not asked.query_string:
        return asked.path
    parameters = [_parameter(each) for each in asked.query_string.split("&") if each]
    parameters.sort(key=itemgetter(0))
    return f"{asked.path}?{'&'.join([text for _, text in parameters])}"


def _parameter(text: str) -> tuple[str, str]:
    """The name of a parameter, and the parameter with all encoded that may be."""
    if plain := _PLAIN.fullmatch(text):
        return plain[1], text
    return _encoded(text)


@kept(1000)
def _encoded(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    name = unquote_plus(name)
    return name, _query_string([(name, unquote_plus(value))])


def _query_string(parameters: Iterable[tuple[str, str]]) -> str:
    return urlencode(list(parameters), quote_via=quote, safe="")
