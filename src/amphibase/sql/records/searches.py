"""Full text search under row level security, by the functions of the database that know the rules.

Postgres reads policies before the words of a filter, and so not the search index. See
`schema/search_functions.py`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, column, func, select, tuple_
from sqlalchemy.sql.elements import BooleanClauseList, Grouping
from sqlalchemy.sql.operators import and_

from amphibase.records.model_info import ModelInfo
from amphibase.schema.generated_functions import SCHEMA
from amphibase.schema.search_functions import SearchFunction, search_function
from amphibase.search import SearchMatch, search_vectors, vector_of


def by_index(
    info: ModelInfo[object], role: str, where: Iterable[ColumnElement[bool]]
) -> Iterator[ColumnElement[bool]]:
    """Yield filters that all have to hold, with searches by the index where there is a function.

    A search in `|` or `~` stays: what it does not match is not in the index.

    Args:
        role: of the database.
        where: the filters.
    """
    if "search vectors" not in info.cache:
        info.cache["search vectors"] = search_vectors(info.table)
    vectors = info.cache["search vectors"]
    for each in _flat(where) if vectors else where:
        vector = vector_of(each, info.table)
        if isinstance(each, SearchMatch) and vector in vectors:
            function = search_function(info.table, info.access.read, vector, role)
            yield each if function is None else _is_found(each, function)
        else:
            yield each


def _is_found(search: SearchMatch, function: SearchFunction) -> ColumnElement[bool]:
    call = getattr(getattr(func, SCHEMA), function.name)(search.query_value)
    keys = [column(key.name, key.type) for key in function.keys]
    found = call.table_valued(*keys, name="found").render_derived()
    own: list[Column[object]] = [*function.keys]
    row = own[0] if len(own) == 1 else tuple_(*own)
    return row.in_(select(*found.c))


def _flat(where: Iterable[ColumnElement[bool]]) -> Iterator[ColumnElement[bool]]:
    """Yield the filters of which conjunctions are made."""
    for each in where:
        inner: Any = each.element if isinstance(each, Grouping) else each
        if isinstance(inner, BooleanClauseList) and inner.operator is and_:
            yield from _flat(inner.clauses)
        else:
            yield inner
