"""Reads query strings: from text to `query.Query`, and the values beside it.

The grammar is PostgREST's (https://docs.postgrest.org/en/v14/references/api/tables_views.html and
the pages around it).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus

from amphibase.gateway.rest.errors.base import InvalidRange, ParseError
from amphibase.gateway.rest.request.lru import MAX_CACHED_CHARACTERS, cached
from amphibase.gateway.rest.request.names import read_key, read_names
from amphibase.gateway.rest.request.query import OrderingTerm, QueryParams, Range, SelectItem
from amphibase.gateway.rest.request.select import read_order, read_select
from amphibase.records.filters.query_string import (
    RESERVED,
    SIMPLE_FILTER,
    parse_filter,
    parse_logic,
)
from amphibase.records.filters.scanner import QuerySyntaxError
from amphibase.records.filters.tree import Condition, Path, Position, Value

MAX_PARAMETERS = 1000
"""How many parameters a query string may have."""

MAX_CHARACTERS = 50_000
"""How many characters a query string may have, but for the values of simple filters."""

_SIMPLE = re.compile(f"([^=]*)={SIMPLE_FILTER}")
"""What may be a filter up to its value, as it stands in a query string."""

_NUMBER = re.compile(r" *-?[0-9]{1,4000} *")
_READ_BY_NAME = {"columns": 2, "select": 3, "on_conflict": 5}
_READ_BY_LAST_WORD = {"order": 0, "and": 1, "or": 1, "limit": 6, "offset": 6}
_LARGEST_INT = 2**63 - 1


def read_query(text: str, *, is_call: bool = False) -> tuple[QueryParams, list[Value]]:
    """Parse a query string.

    Args:
        text: what follows the question mark, percent-encoded.
        is_call: whether a function is called by GET: what is no filter is an argument then.

    Returns:
        The query, and the values its positions point at. Texts that differ in the values of
        simple filters alone give the same object.

    Raises:
        ParseError: a parameter cannot be read.
        InvalidRange: a limit below 0.
    """
    query, values = _read(text, is_call)
    return query, values.copy()


@cached(1000)
def _read(text: str, is_call: bool) -> tuple[QueryParams, list[Value]]:
    length = 0
    shape: list[str | bool] = [is_call]
    lifted: list[str] = []
    parameters = text.split("&")
    if len(parameters) > MAX_PARAMETERS:
        raise ParseError(f"The query string has over {MAX_PARAMETERS} parameters")
    for parameter in parameters:
        end = _end_of_simple(parameter)
        if end is not None:
            lifted.append(_decoded(parameter[end:]))
            parameter = parameter[:end]
        length += len(parameter)
        shape.append(parameter)
    if length > MAX_CHARACTERS:
        raise ParseError(f"The query string has over {MAX_CHARACTERS} characters beside its values")
    # What is long is not cached, so that clients cannot fill the memory.
    try:
        parsed = (_parse if length <= MAX_CACHED_CHARACTERS else _parse.__wrapped__)(tuple(shape))
    except QuerySyntaxError as error:
        raise ParseError(error.message, error.details) from None
    values = parsed.values.copy()
    for position, value in zip(parsed.lifted, lifted, strict=True):
        values[position] = value
    return parsed.query, values


class _ParsedQuery(NamedTuple):
    """A query that was read, with its values but for those that were lifted out before."""

    query: QueryParams
    values: list[Value]
    lifted: list[Position]


def _end_of_simple(parameter: str) -> int | None:
    """Where the value of a filter begins, if all that follows is the value."""
    match = _SIMPLE.match(parameter)
    if match is None or _decoded(match[1]).rpartition(".")[2] in RESERVED:
        return None
    return match.end()


@lru_cache(2000)
def _parse(shape: tuple[str | bool, ...]) -> _ParsedQuery:
    """Reads a query string without the values of its simple filters."""
    is_call, *parameters = shape
    parser = _QueryParser(is_call=bool(is_call))
    lifted = []
    errors: dict[int, QuerySyntaxError | InvalidRange] = {}
    for parameter in parameters:
        assert isinstance(parameter, str)
        if _end_of_simple(parameter) == len(parameter):
            lifted.append(len(parser.values))
        key, equals, value = parameter.partition("=")
        if not equals:  # what has no value is not there
            continue
        key = _decoded(key)
        try:
            parser.read(key, _decoded(value))
        except (QuerySyntaxError, InvalidRange) as error:
            errors.setdefault(_place(key), error)
    if errors:
        raise errors[min(errors)]
    return _ParsedQuery(parser.query(), parser.values, lifted)


def _place(key: str) -> int:
    """When upstream reads a parameter, and so which one's error it reports."""
    if key in _READ_BY_NAME:
        return _READ_BY_NAME[key]
    return _READ_BY_LAST_WORD.get(key.rpartition(".")[2], 4)


def _decoded(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


@dataclass(slots=True)
class _Bounds:
    offset: int = 0
    limit: int | None = None


class _QueryParser:
    def __init__(self, is_call: bool) -> None:
        self.values: list[Value] = []
        self._is_call = is_call
        self._select: tuple[SelectItem, ...] | None = None
        self._columns: tuple[str, ...] | None = None
        self._on_conflict: tuple[str, ...] | None = None
        self._conditions: list[tuple[Path, Condition]] = []
        self._orders: dict[Path, tuple[OrderingTerm, ...]] = {}
        self._bounds: dict[Path, _Bounds] = {}
        self._arguments: list[tuple[str, int]] = []

    def read(self, key: str, value: str) -> None:
        """Read one parameter; of those that come once, the first counts."""
        match key.rpartition(".")[2]:
            case "select" if key == "select":
                if self._select is None and value:  # an empty value counts as missing
                    self._select = read_select(value)
            case "columns" if key == "columns":
                if self._columns is None:
                    self._columns = read_names(value, "columns parameter")
            case "on_conflict" if key == "on_conflict":
                if self._on_conflict is None:
                    self._on_conflict = read_names(value, "on_conflict parameter")
            case "order":
                self._orders.setdefault(self._path(key), read_order(value))
            case "limit" | "offset" as bound:
                self._bound(self._path(key), bound, value)
            case "and" | "or" as operator:
                path = self._path(key)
                negated = f".{key}".endswith(f".not.{operator}")
                path = path[:-1] if negated else path
                logic = parse_logic(operator, negated, value, self.values)
                self._conditions.append((path, logic))
            case _:
                self._filter(key, value)

    def query(self) -> QueryParams:
        return QueryParams(
            select=self._select,
            conditions=tuple(self._conditions),
            orders=tuple(self._orders.items()),
            ranges=tuple((path, self._range(bounds)) for path, bounds in self._bounds.items()),
            columns=self._columns,
            on_conflict=self._on_conflict,
            arguments=tuple(self._arguments),
        )

    def _path(self, key: str) -> Path:
        """The path before the last word of a key."""
        path, _ = read_key(key)
        return path

    def _bound(self, path: Path, bound: str, value: str) -> None:
        bounds = self._bounds.setdefault(path, _Bounds())
        if not _NUMBER.fullmatch(value):
            return  # as upstream: what is no number is no bound
        number = min(int(value), _LARGEST_INT)
        if bound == "offset":
            bounds.offset = max(number, 0)
        elif number < 0:
            raise InvalidRange("Limit should be greater than or equal to zero.")
        else:
            bounds.limit = number

    def _range(self, bounds: _Bounds) -> Range:
        if not bounds.offset:
            return Range(limit=bounds.limit)
        self.values.append(bounds.offset)
        return Range(len(self.values) - 1, bounds.limit)

    def _filter(self, key: str, value: str) -> None:
        path, field = read_key(key)
        before = len(self.values)
        try:
            condition = parse_filter(field, value, self.values)
        except QuerySyntaxError:
            if not self._is_call:
                raise
            del self.values[before:]
            self.values.append(value)
            self._arguments.append((field.name, len(self.values) - 1))
        else:
            self._conditions.append((path, condition))
