"""The documentation of the parameters of generated routes, which are read without FastAPI."""

from collections.abc import Mapping
from typing import Any

from amphibase.backend import MAX_LIMIT
from amphibase.records.aggregate_query import MAX_GROUPS, functions_of
from amphibase.records.cursors import MAX_CURSOR_CHARACTERS
from amphibase.records.filters.expressions import FilterableColumn, filterable_columns
from amphibase.records.filters.relations import filterable_relations
from amphibase.records.filters.search import SEARCH, searchable
from amphibase.records.listing import DEFAULT_LIMIT
from amphibase.search import MAX_QUERY_CHARACTERS

LIST_DESCRIPTION = """Newest first unless `order` says otherwise.

Filters are columns with an operator and a value: `stars=gt.3`; `not.` before the operator turns it
round; a column may appear several times. Operators: `eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `like`
and `ilike` (`*` stands for any text), `in.(a,b,"c,d")`, `is.null`, `is.not_null`, `is.true`,
`is.false`. `author.name=eq.Ann` holds for rows that have such a related row which the caller
sees; all filters of one relationship hold for the same row."""

AGGREGATE_DESCRIPTION = """Counts, sums and the like over the rows that the caller sees, in groups
of the columns that `select` names without a function, and in their order. Filters are those of the
list."""

CHANGES_DESCRIPTION = """Server-sent events, or the same over a WebSocket: `added` and `changed`
with the row, `removed` with its key, `lost` where changes may have been missed, so that the rows
are to be read again, and `closed` where the stream ends for a reason. Filters are those of the
list: a row that begins to match is `added`, one that does not match any more is `removed`."""

IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": 'The version that the change is based on, as in the ETag: `"3"`. If the row has '
    "another by now, the response is 409.",
    "schema": {"type": "string", "pattern": r'^(\*|(W/)?"[0-9]{1,10}")$'},
}


def change_parameters(model: type[Any]) -> list[dict[str, Any]]:
    """Return the documentation of the query string of a stream."""
    after = {
        "description": "The id of the event after which the stream goes on",
        "schema": {"type": "string", "maxLength": MAX_CURSOR_CHARACTERS},
    }
    return [
        *filter_parameters(model),
        {"name": "after", "in": "query", **after},
        {"name": "Last-Event-ID", "in": "header", **after},
    ]


def list_parameters(model: type[Any]) -> list[dict[str, Any]]:
    """Return the documentation of the query string of a list."""
    ordered = next(iter(filterable_columns(model)), "id")
    return [
        *filter_parameters(model),
        *row_parameters(model),
        {
            "name": "order",
            "in": "query",
            "description": "Columns, each with `.desc`, `.nullsfirst` or `.nullslast` as wanted",
            "schema": {"type": "string"},
            "example": f"{ordered}.desc",
        },
        _limit_parameter(DEFAULT_LIMIT),
        {
            "name": "cursor",
            "in": "query",
            "description": "`next_cursor` of the part before, with the same filters and order",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_CURSOR_CHARACTERS},
        },
    ]


def aggregate_parameters(model: type[Any]) -> list[dict[str, Any]]:
    """Return the documentation of the query string of aggregates."""
    offered = [
        f"{name}.{function}()"
        for name, functions in functions_of(model).items()
        for function in functions
    ]
    return [
        {
            "name": "select",
            "in": "query",
            "required": True,
            "description": "Columns to group by, `count()`, and functions of columns, each with a "
            f"name of its own as wanted (`total:count()`): {', '.join(offered)}",
            "schema": {"type": "string"},
            "example": "count()",
        },
        _limit_parameter(MAX_GROUPS),
        *filter_parameters(model),
        *row_parameters(model),
    ]


def row_parameters(model: type[Any]) -> list[dict[str, Any]]:
    """Return the documentation of the filters that lists and aggregates have beside columns."""
    related = [
        parameter
        for name, relation in filterable_relations(model).items()
        for parameter in _column_parameters(relation.columns, f"{name}.")
    ]
    if SEARCH in filterable_columns(model) or searchable(model) is None:
        return related
    search = {
        "name": SEARCH,
        "in": "query",
        "description": 'Words that the row has to have, `"a phrase"`, `or`, and `-` before a word '
        "that it must not have",
        "schema": {"type": "string", "maxLength": MAX_QUERY_CHARACTERS},
    }
    return [search, *related]


def filter_parameters(model: type[Any]) -> list[dict[str, Any]]:
    """Return the documentation of filters, which are read without FastAPI."""
    columns = _column_parameters(filterable_columns(model))
    logic = [
        {
            "name": name,
            "in": "query",
            "description": f"{meaning} hold: `(stars.gt.3,title.eq.tea,and(…))`",
            "schema": {"type": "array", "items": {"type": "string", "pattern": r"^\(.*\)$"}},
            "explode": True,
        }
        for name, meaning in (("and", "All"), ("or", "Some"))
    ]
    return [*columns, *logic]


def _column_parameters(
    columns: Mapping[str, FilterableColumn], prefix: str = ""
) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{prefix}{name}",
            "in": "query",
            "description": f"Operators: {', '.join(column.operators)}",
            "schema": {"type": "array", "items": {"type": "string"}},
            "explode": True,
        }
        for name, column in columns.items()
        if prefix or name not in ("order", "limit", "cursor", "select", "and", "or")
    ]


def _limit_parameter(default: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": default}
    return {"name": "limit", "in": "query", "schema": schema}
