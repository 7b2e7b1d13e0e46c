"""Reads the body of a request: what it holds becomes one JSON text, which Postgres takes apart."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from amphibase.gateway.rest.errors.base import InvalidBody
from amphibase.gateway.rest.request.media_type import CSV, JSON, MediaType

FORM = "application/x-www-form-urlencoded"
RAW_TYPES = ("text/plain", "text/xml", "application/octet-stream")
"""Bodies that a function with one unnamed parameter takes as they are."""

MAX_FIELDS = 10_000


@dataclass(frozen=True, slots=True)
class Payload:
    """A body.

    Attributes:
        text: JSON; of raw bodies, the body itself.
        columns: the keys of its objects, which all have the same; None where it was not taken
            apart, because the request names the columns itself.
    """

    text: str | bytes
    columns: tuple[str, ...] | None


def read_payload(
    body: bytes, media_type: MediaType, *, has_columns: bool, is_call: bool
) -> Payload:
    """Read a body.

    Args:
        media_type: one without a name means JSON.
        has_columns: whether the request says which columns are written (`columns=`).
        is_call: whether a function is called, which no body means no arguments to.

    Raises:
        InvalidBody: it cannot be read.
    """
    name = media_type.name
    if not name or str(media_type) == JSON:
        if is_call and not body:
            body = b"{}"
        return _json(body, has_columns=has_columns)
    if name == CSV:
        return _of_rows(_csv(_decoded(body)))
    if name == FORM:
        row = dict(read_form(body))
        return Payload(orjson.dumps(row).decode(), tuple(row))
    if is_call and name in RAW_TYPES:
        text = body if name == "application/octet-stream" else _decoded(body)
        return Payload(text, None)
    raise InvalidBody(f"Content-Type not acceptable: {media_type}")


def read_form(body: bytes) -> list[tuple[str, str]]:
    """Parse the fields of a form; their names may repeat. Raises InvalidBody."""
    try:
        return parse_qsl(_decoded(body), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidBody(f"The form has over {MAX_FIELDS} fields") from None


def _json(body: bytes, *, has_columns: bool) -> Payload:
    if has_columns and body.lstrip()[:1] in (b"{", b"["):
        return Payload(_decoded(body), None)  # only Postgres parses it, as upstream
    try:
        value = _loads(body)
        text = body.decode()
    except (ValueError, RecursionError):
        raise InvalidBody("Empty or invalid json") from None
    if not isinstance(value, (Mapping, list)):
        text, value = "[]", []  # no row, then
    if has_columns:
        return Payload(text, None)
    return Payload(text, tuple(value) if isinstance(value, Mapping) else _shared_keys(value))


def _loads(body: bytes) -> Any:
    """The value of a JSON text, whose numbers may be larger than Python's floats."""
    try:
        return orjson.loads(body)
    except ValueError:
        # Slower, but JSON limits no number, and Postgres reads them all.
        text = body.decode()
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=_reject_constant)
        json.dumps(value, ensure_ascii=False).encode()  # raises for half a character
        return value


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _shared_keys(rows: list[Any]) -> tuple[str, ...]:
    """The keys that all the objects have. Raises InvalidBody where they differ."""
    if not rows:
        return ()
    first = rows[0].keys() if isinstance(rows[0], dict) else None
    for row in rows:
        if first is None or not isinstance(row, dict) or row.keys() != first:
            raise InvalidBody("All object keys must match")
    return tuple(rows[0])


def _of_rows(rows: list[dict[str, str | None]]) -> Payload:
    columns = tuple(rows[0]) if rows else ()
    text = orjson.dumps(rows).decode()
    return Payload(text, columns)


def _csv(text: str) -> list[dict[str, str | None]]:
    """The lines as objects by the names of the first; the word NULL is null."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, len(text)))  # the server limits bodies, not their values
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise InvalidBody("Invalid csv", str(error)) from None
    finally:
        csv.field_size_limit(before)
    if len(lines) < 2 and not text.endswith(("\n", "\r")):
        raise InvalidBody('parse error (not enough input) at ""')
    if not lines:
        return []
    names, *rows = lines
    if any(len(row) != len(names) for row in rows):
        raise InvalidBody("All lines must have same number of fields")
    return [
        {name: None if value == "NULL" else value for name, value in zip(names, row, strict=True)}
        for row in rows
    ]


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidBody("The body is not UTF-8") from None
