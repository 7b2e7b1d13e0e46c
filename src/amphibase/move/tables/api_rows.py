"""Rows and keys in the requests and responses of the Data API.

https://docs.postgrest.org/en/v14/references/api/tables_views.html
"""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote as percent_encode

import orjson

from amphibase.move.catalog import TableName
from amphibase.move.tables.base import Key, Row, Selection
from amphibase.move.tables.types import JSON_TYPES, parse_type
from amphibase.records.filters.names import format_name, quote

Parameter = tuple[str, str]

MAX_FILTER_BYTES = 4_000
"""Of the keys in a query string, before they are escaped; proxies take 8,000 of all of it."""

MAX_KEYS = 500
"""Of a query, so that a project which cuts responses at 1,000 rows does not cut this one."""


def table_path(table: TableName) -> str:
    """Return the path of a table."""
    return "/" + percent_encode(table.name, safe="")


def select_of(selection: Selection) -> list[Parameter]:
    """Return what selects the columns, each as text."""
    columns = [f"{format_name(name)}::text" for name in selection.columns]
    return [("select", ",".join(columns))]


def order_of(selection: Selection) -> Parameter:
    """Return what orders rows by their keys."""
    return ("order", ",".join(f"{format_name(name)}.asc" for name in selection.key))


def later_than(selection: Selection, key: Key) -> Parameter:
    """Return the filter for the rows after a key."""
    alternatives = []
    for place, name in enumerate(selection.key):
        equal = [
            f"{format_name(earlier)}.eq.{quote(value)}"
            for earlier, value in zip(selection.key[:place], key[:place], strict=True)
        ]
        later = f"{format_name(name)}.gt.{quote(key[place])}"
        alternatives.append(f"and({','.join([*equal, later])})" if equal else later)
    return ("or", f"({','.join(alternatives)})")


def any_of_keys(selection: Selection, keys: Sequence[Key]) -> list[Parameter]:
    """Return the filter for the rows with these keys."""
    if len(selection.key) == 1:
        values = ",".join(quote(value) for (value,) in keys)
        return [(format_name(selection.key[0]), f"in.({values})")]
    rows = [
        "and("
        + ",".join(
            f"{format_name(name)}.eq.{quote(value)}"
            for name, value in zip(selection.key, key, strict=True)
        )
        + ")"
        for key in keys
    ]
    return [("or", f"({','.join(rows)})")]


def pages_of_keys(selection: Selection, keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Yield keys, as many at a time as a query string takes."""
    names = sum(len(name) + 10 for name in selection.key)
    page: list[Key] = []
    size = 0
    for key in keys:
        bytes_of_key = names + sum(len(percent_encode(value)) for value in key)
        if page and (size + bytes_of_key > MAX_FILTER_BYTES or len(page) >= MAX_KEYS):
            yield page
            page, size = [], 0
        page.append(key)
        size += bytes_of_key
    if page:
        yield page


def request_body(selection: Selection, rows: Sequence[Row]) -> bytes:
    """Return rows as a JSON array: each value is a string but that of a JSON column.

    Raises:
        orjson.JSONEncodeError: a text is not valid Unicode.
    """
    columns = selection.columns
    of_json = {name for name in columns if _type(selection, name) in JSON_TYPES}
    if not of_json:
        return orjson.dumps([dict(zip(columns, row, strict=True)) for row in rows])
    return orjson.dumps(
        [
            {
                name: orjson.Fragment(value) if value is not None and name in of_json else value
                for name, value in zip(columns, row, strict=True)
            }
            for row in rows
        ]
    )


def read_row(selection: Selection, values: dict[str, Any]) -> Row:
    """Return a row of a response, as Postgres itself writes its values.

    A cast to text writes `true` for `t`, and the mask of every address.
    """
    row: list[str | None] = []
    for name in selection.columns:
        value = values[name]
        if value is not None:
            match _type(selection, name):
                case "boolean":
                    value = "t" if value == "true" else "f"
                case "inet":
                    value = value.removesuffix("/128" if ":" in value else "/32")
        row.append(value)
    return tuple(row)


def _type(selection: Selection, name: str) -> str:
    parsed = parse_type(selection.table.column(name).base_type)
    return f"{parsed.name}[]" if parsed.is_array else parsed.name
