"""`search=…` of a query string: full text search in the text of a model's search index."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import inspect as inspect_model

from amphibase.backend import Where
from amphibase.records.fields import cached_by_model, fields_of
from amphibase.records.filters.expressions import TEXT, invalid_parameter
from amphibase.search import MAX_QUERY_CHARACTERS, SearchVector, matches, search_vectors

SEARCH = "search"
"""The parameter; a column of this name hides it."""


@cached_by_model
def searchable(model: type[Any]) -> SearchVector | None:
    """Return what a list of a model can be searched in: the first of its search indexes, by name,
    that has only columns which callers read; None without one."""
    for vector in search_vectors(inspect_model(model).local_table):
        if _attributes(model, vector) is not None:
            return vector
    return None


def search_condition(model: type[Any], query: str) -> Where:
    """Return whether a row matches a query.

    Raises:
        RequestValidationError: the query is too long, or no text.
    """
    if len(query) > MAX_QUERY_CHARACTERS:
        raise invalid_parameter(SEARCH, f"must have at most {MAX_QUERY_CHARACTERS} characters")
    try:
        TEXT.validate_python(query)
    except ValidationError as error:
        raise invalid_parameter(SEARCH, error.errors()[0]["msg"]) from None
    vector = searchable(model)
    assert vector is not None
    columns = _attributes(model, vector) or ()
    return matches(*columns, query=query, language=vector.language)


def _attributes(model: type[Any], vector: SearchVector) -> Sequence[Any] | None:
    """Return the attributes of a vector's columns; None where a caller may not read one."""
    by_column = {each.column.name: each for each in fields_of(model).values() if not each.hidden}
    if not by_column.keys() >= {*vector.columns}:
        return None
    return [by_column[name].attribute for name in vector.columns]
