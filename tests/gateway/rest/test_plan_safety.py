"""Whatever a request says, its SQL is one that Postgres can parse, and holds no value of it."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.pq import DiagnosticField, ExecStatus
from tests.gateway.rest.library import Library

from amphibase.gateway.rest.catalog import Name
from amphibase.gateway.rest.errors import RestError
from amphibase.gateway.rest.grammar import read_query
from amphibase.gateway.rest.plan import Demand, Media
from amphibase.gateway.rest.query import (
    Field,
    Filter,
    Logic,
    Order,
    Query,
    Range,
    SelectField,
    SelectRelation,
    Step,
)

HOSTILE = [
    'a"b', "a'b", "'; DROP TABLE api.books; --", '" FROM pg_authid; --', "\\", "$1", "/*", "%s",
    "é" * 40, "x" * 70, "::text", ")", "*", "_t", "_source", "_1", "a\x00b", "", " ",
]  # fmt: skip
COLUMNS = ["id", "name", "title", "pages", "data", "words", "nicknames", "shade", "flag", "shout"]
RELATIONS = ["books", "authors", "tags", "covers", "book_tags", "countries", "author_id", "works"]

hostile = st.sampled_from(HOSTILE) | st.text(max_size=8)
aliases = st.none() | hostile
casts = st.none() | st.sampled_from(["text", "int", "double precision", "json"]) | hostile
steps = st.builds(Step, hostile | st.integers(-9, 9), st.booleans())
fields = st.builds(
    Field, st.sampled_from(COLUMNS) | hostile, st.lists(steps, max_size=2).map(tuple)
)
aggregates = st.none() | st.sampled_from(["count", "sum", "avg", "min", "max"])
select_fields = st.builds(SelectField, fields, aliases, casts, aggregates, casts)
stars = st.just(SelectField(Field("*")))
counts = st.builds(SelectField, st.just(Field("")), aliases, st.none(), st.just("count"), casts)


def relations(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        SelectRelation,
        st.sampled_from(RELATIONS),
        st.lists(items, max_size=3).map(tuple),
        aliases,
        st.none() | st.sampled_from(["author_id", "books_editor", "book_tags", "mentor_id"]),
        st.none() | st.sampled_from(["inner", "left"]),
        st.booleans(),
    )


items = st.recursive(select_fields | stars | counts, relations, max_leaves=6)
filters = st.builds(
    Filter,
    fields | st.sampled_from(RELATIONS).map(Field),
    st.sampled_from(["eq", "like", "fts", "match", "cs", "sl", "isdistinct"]),
    st.just(0),
    st.booleans(),
    st.none() | st.sampled_from(["any", "all"]),
    st.none(),
    st.none() | st.just(0),
)
lists = st.builds(Filter, fields, st.just("in"), st.just(1), st.booleans())
truths = st.builds(
    Filter,
    fields | st.sampled_from(RELATIONS).map(Field),
    st.just("is"),
    st.none(),
    st.booleans(),
    st.none(),
    st.sampled_from(["null", "not_null", "true", "unknown"]),
)
conditions = st.recursive(
    filters | lists | truths,
    lambda inner: st.builds(
        Logic,
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
    max_leaves=4,
)
paths = st.just(()) | st.sampled_from(RELATIONS).map(lambda name: (name,))
flags = st.none() | st.booleans()
orders = st.builds(Order, fields, flags, flags, st.none() | st.sampled_from(RELATIONS))
ranges = st.builds(Range, st.none() | st.just(2), st.none() | st.integers(0, 99))
queries = st.builds(
    Query,
    st.none() | st.lists(items, max_size=4).map(tuple),
    st.lists(st.tuples(paths, conditions), max_size=3).map(tuple),
    st.lists(st.tuples(paths, st.lists(orders, max_size=2).map(tuple)), max_size=2).map(tuple),
    st.lists(st.tuples(paths, ranges), max_size=2).map(tuple),
)
media = st.builds(Media, st.sampled_from(["array", "object", "csv", "none"]), st.booleans())
demands = st.builds(
    Demand,
    st.sampled_from(["books", "authors", "covers", "novels"]).map(lambda name: Name("api", name)),
    st.sampled_from(["read", "update", "delete", "insert"]),
    queries,
    media,
    st.lists(st.sampled_from(COLUMNS) | hostile, max_size=2, unique=True).map(tuple),
    st.just("json"),
    st.none() | st.sampled_from(["exact", "planned", "estimated"]),
    st.sampled_from(["minimal", "headers-only", "representation"]),
    st.none() | st.sampled_from(["merge", "ignore"]),
    st.booleans(),
)

SYNTAX = {"42601", "42602", "42622", "42P01", "42P10", "42702", "42703", "42712", "42P02", "54001"}
"""Errors of SQL that makes no sense, which no request may cause; 42P10 is ON CONFLICT's."""


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(demand=demands)
def test_no_request_makes_sql_that_postgres_cannot_parse(library: Library, demand: Demand) -> None:
    try:
        prepared = library.planner.prepare(demand)
    except RestError:
        return
    postgres = library.connection.pgconn
    texts = [prepared.text, *([prepared.estimate] if prepared.estimate else [])]
    for text in texts:
        assert "\x00" not in text.sql
        postgres.exec_(b"SAVEPOINT before")
        result = postgres.prepare(b"", text.sql.encode())
        postgres.exec_(b"ROLLBACK TO before")
        if result.status != ExecStatus.COMMAND_OK:
            state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
            assert state not in SYNTAX, (state, result.error_message, text.sql)


@pytest.mark.parametrize("value", ["needle", "needle' OR '1'='1", 'needle"', "$1needle", "{needle"])
@pytest.mark.parametrize(
    "query",
    [
        "id=eq.{}", "name=like.{}", "name=in.({})", "name=fts(english).{}", "name=eq(any).{{{}}}",
        "or=(id.eq.{},name.neq.{})", "name=not.isdistinct.{}", "offset=1&name=ilike.{}",
        "select=id,books!author_id(id)&books.title=eq.{}", "name=match.{}",
    ],
)  # fmt: skip
def test_no_value_reaches_the_text(library: Library, query: str, value: str) -> None:
    text = query.format(*[f'"{value}"' if "(" in query else value] * 2)
    try:
        asked, values = read_query(quote(text, safe="=&"))
    except RestError:
        return
    prepared = library.planner.prepare(Demand(Name("api", "authors"), "read", asked))
    assert "needle" not in prepared.statement.sql
    assert any("needle" in str(bound) for bound in prepared.call(values).values)


def test_words_of_a_request_are_identifiers_or_bound(library: Library) -> None:
    query = Query(
        select=(
            SelectField(Field("id"), alias='x" FROM pg_authid --', cast='text" FROM y --'),
            SelectField(Field("data", (Step("k' || pg_sleep(9) --", True),)), alias="y"),
        )
    )
    sql = library.planner.prepare(Demand(Name("api", "books"), "read", query)).statement.sql
    assert '"x"" FROM pg_authid --"' in sql
    assert '"text"" from y --"' in sql
    assert "pg_sleep" not in sql


def test_columns_of_unknown_rows_are_never_taken_for_functions(library: Library) -> None:
    query = Query(select=(SelectField(Field("row_to_json")),))
    prepared = library.planner.prepare(Demand(Name("api", "pairs"), "call", query, content="json"))
    result = library.connection.pgconn.prepare(b"", prepared.statement.sql.encode())
    assert result.error_field(DiagnosticField.SQLSTATE) == b"42703"
