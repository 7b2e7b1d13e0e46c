"""The parameters of requests to the Data API, and what responses say beside their bodies."""

from urllib.parse import quote, quote_plus

import httpx
from sqlalchemy import Table

from amphibase.errors import NotSupported
from amphibase.records.filters.names import format_name
from amphibase.records.filters.query_string import format_parameter
from amphibase.supabase.records.expressions import Filters, JoinedRelation

Parameters = list[tuple[str, str]]

MAX_QUERY_BYTES = 8000
"""How long a query string may be: servers and proxies commonly take a first line of 8 KiB."""


def table_path(table: Table) -> str:
    """Return the path of a table below the service."""
    return f"/{quote(table.name, safe='')}"


def conditions_of(filters: Filters) -> Parameters:
    """Return the conditions as parameters of a query string."""
    return [
        format_parameter(condition, filters.values, path) for path, condition in filters.conditions
    ]


def total_of(response: httpx.Response) -> int:
    """Return how many rows matched a request that had them counted (`Content-Range`)."""
    return int(response.headers["content-range"].rpartition("/")[2])


def query_length(parameters: Parameters) -> int:
    """Return how many bytes parameters have in a query string, at least roughly where few."""
    characters = sum(len(name) + len(value) for name, value in parameters)
    if characters * 3 <= MAX_QUERY_BYTES:  # a byte takes three at most, and most are ASCII
        return characters
    return sum(len(quote_plus(name)) + len(quote_plus(value)) + 2 for name, value in parameters)


def check_length(parameters: Parameters) -> None:
    """Raise NotSupported for a query string that servers do not take."""
    length = query_length(parameters)
    if length > MAX_QUERY_BYTES:
        raise NotSupported(
            f"The filters make a query string of {length} bytes, and servers of Supabase take "
            f"{MAX_QUERY_BYTES}; list fewer or shorter values"
        )


def embedded(embed: JoinedRelation) -> str:
    """Return a joined relation as `select=` takes it."""
    inner = ",".join(filter(None, (embed.select, *map(embedded, embed.inner))))
    step = embed.step
    return f"{embed.alias}:{format_name(step.table.name)}!{format_name(step.hint)}({inner})"
