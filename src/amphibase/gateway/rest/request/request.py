"""Reads the head of a request: its target, schema, method and headers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

from amphibase.gateway.rest.errors.base import (
    InvalidRange,
    InvalidResourcePath,
    InvalidRpcMethod,
    SchemaNotExposed,
    UnsupportedMethod,
)
from amphibase.gateway.rest.request.query import QueryParams, Range
from amphibase.records.filters.tree import Value

Kind = Literal["root", "table", "function"]

_READS = ("GET", "HEAD")
_WRITES = ("POST", "PATCH", "PUT", "DELETE")
_METHODS: Mapping[Kind, tuple[str, ...]] = {
    "root": ("GET", "HEAD", "OPTIONS"),
    "table": ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"),
    "function": ("GET", "HEAD", "POST", "OPTIONS"),
}
_RANGE = re.compile(r"(?:items=)?([0-9]{1,18})-([0-9]{0,18})")
_LARGEST = 2**62
_MAX_CACHED = 500
_MAX_CACHED_BYTES = 4096

_Head: TypeAlias = tuple[str, str, tuple[tuple[bytes, ...], ...]]


@dataclass(frozen=True, eq=False)
class ApiRequest:
    """A request without its query string and its body: what a client sends again and again.

    It is compared by identity, so that it is a cheap key of what is derived from it.

    Attributes:
        path: as the Data API sees it: `/items`, whatever it is mounted at.
        name: of the table or the function; empty for the root.
        schema: the one the request is about.
        headers: by name, in lower case as ASGI has them; of repeated headers all values, with
            commas between them.
        names_schema: whether a response with a body says of which schema it is
            (`Content-Profile`): the request chose it, or there are several.
        is_cached: whether a request with the same head is the same object.
    """

    method: str
    path: str
    kind: Kind
    name: str
    schema: str
    headers: Mapping[str, str]
    names_schema: bool = False
    is_cached: bool = False

    @property
    def is_read(self) -> bool:
        return self.method in _READS

    @cached_property
    def bearer_token(self) -> str | None:
        """The token of the `Authorization` header, as `read_bearer_token` returns it."""
        return read_bearer_token(self.headers.get("authorization", ""))


def read_bearer_token(header: str) -> str | None:
    """Return the token of an `Authorization` header, maybe empty; None for another scheme."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class RequestReader:
    """Reads the heads of requests, and keeps those that it read last.

    Args:
        schemas: the exposed ones, the default first.
        root_function: what is called at the root, None for the description.
    """

    def __init__(self, schemas: Sequence[str], root_function: str | None = None) -> None:
        self._schemas = schemas
        self._root_function = root_function
        self._cached: dict[_Head, ApiRequest] = {}

    def read(self, method: str, path: str, headers: Iterable[Sequence[bytes]]) -> ApiRequest:
        """Read the head of a request.

        Raises:
            RestError: a path, a method or a schema that there is not.
        """
        fields = tuple(map(tuple, headers))
        head = method, path, fields
        cached = self._cached.get(head)
        if cached is not None:
            return cached
        # What is long is not cached, so that clients cannot fill the memory.
        is_cached = sum(len(name) + len(value) for name, value in fields) <= _MAX_CACHED_BYTES
        request = self._read(method, path, fields, is_cached=is_cached)
        if is_cached:
            if len(self._cached) >= _MAX_CACHED:
                del self._cached[next(iter(self._cached))]
            self._cached[head] = request
        return request

    def _read(
        self, method: str, path: str, fields: Iterable[tuple[bytes, ...]], *, is_cached: bool
    ) -> ApiRequest:
        headers: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("utf-8", "replace")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        kind, target = _target(path)
        if kind == "root" and self._root_function is not None:
            kind, target = "function", self._root_function
        if method not in _METHODS[kind]:
            raise InvalidRpcMethod(method) if kind == "function" else UnsupportedMethod(method)
        chosen = headers.get("content-profile" if method in _WRITES else "accept-profile")
        schema = self._schemas[0] if chosen is None else chosen
        if schema not in self._schemas:
            raise SchemaNotExposed(schema, self._schemas)
        names_schema = chosen is not None or len(self._schemas) > 1
        return ApiRequest(method, path, kind, target, schema, headers, names_schema, is_cached)


def _target(path: str) -> tuple[Kind, str]:
    parts = path[1:].split("/")
    if parts == [""]:
        return "root", ""
    if len(parts) == 1:
        return "table", parts[0]
    if len(parts) == 2 and parts[0] == "rpc":
        return "function", parts[1]
    raise InvalidResourcePath


def with_arguments(
    query: QueryParams, values: list[Value], fields: Sequence[tuple[str, str]]
) -> tuple[QueryParams, list[Value]]:
    """Return the query with the fields of a form as the arguments of a call."""
    first = len(values)
    names = (name for name, _ in fields)
    arguments = tuple((name, position) for position, name in enumerate(names, first))
    return replace(query, arguments=arguments), [*values, *(value for _, value in fields)]


def with_range(
    query: QueryParams, values: list[Value], header: str | None
) -> tuple[QueryParams, list[Value]]:
    """Return the query limited to the rows that the `Range` header names.

    Raises:
        InvalidRange: the header's bounds are the wrong way round, or outside the query's.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return query, values
    first, last = int(match[1]), int(match[2]) if match[2] else _LARGEST
    if last < first:
        raise InvalidRange(
            "The lower boundary must be lower than or equal to the upper boundary in the Range "
            "header."
        )
    own = dict(query.ranges).get((), Range())
    if own.limit == 0:  # an empty range, whatever its offset
        return query, values
    offset = values[own.offset] if own.offset is not None else 0
    assert isinstance(offset, int)
    end = _LARGEST if own.limit is None else offset + own.limit
    start, end = max(first, offset), min(last + 1, end)
    if start >= end:
        raise InvalidRange("Limit should be greater than or equal to zero.")
    limit = None if end == _LARGEST else end - start
    values = [*values, start]
    others = tuple(each for each in query.ranges if each[0])
    ranges = (*others, ((), Range(len(values) - 1 if start else None, limit)))
    return replace(query, ranges=ranges), values
