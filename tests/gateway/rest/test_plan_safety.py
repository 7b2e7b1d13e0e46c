"""Whatever a request says, its SQL is one that Postgres can parse, and holds no value of it."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.pq import DiagnosticField, ExecStatus
from tests.gateway.rest.planner_database import PlannerDatabase

from amphibase.gateway.rest.errors.base import RestError
from amphibase.gateway.rest.plan.types import BodyFormat, PlanKey
from amphibase.gateway.rest.request.query import (
    Join,
    OrderingTerm,
    QueryParams,
    Range,
    SelectField,
    SelectRelation,
)
from amphibase.gateway.rest.request.query_string import read_query
from amphibase.gateway.rest.schema.catalog import Name
from amphibase.records.filters.operators import OPERATORS, TRUTHS, Argument, Operator
from amphibase.records.filters.tree import FieldPath, Filter, JsonStep, Logic

HOSTILE = [
    'a"b', "a'b", "'; DROP TABLE api.books; --", '" FROM pg_authid; --', "\\", "$1", "/*", "%s",
    "é" * 40, "x" * 70, "::text", ")", "*", "_t", "_source", "_1", "a\x00b", "", " ",
]  # fmt: skip
COLUMNS = {
    "books": ["id", "title", "pages", "author_id", "data", "words", "during"],
    "novels": ["id", "title", "pages"],
    "authors": ["id", "name", "born", "nicknames", 'odd "name', "shout"],
    "covers": ["book_id", "shade"],
    "tags": ["id", "name"],
    "book_tags": ["book_id", "weight"],
    "countries": ["id", "name", "flag"],
}
RELATIONS = {
    "books": {"tags": "tags", "covers": "covers", "author_id": "authors", "book_tags": "book_tags"},
    "novels": {"authors": "authors"},
    "authors": {
        "works": "books",
        "home": "countries",
        "mentor_id": "authors",
        "authors": "authors",
    },
    "covers": {"books": "books"},
    "tags": {"books": "books", "book_tags": "book_tags"},
    "book_tags": {"books": "books", "tags": "tags"},
    "countries": {"authors": "authors"},
}

hostile = st.sampled_from(HOSTILE) | st.text(max_size=8)
aliases = st.none() | hostile
casts = st.none() | st.sampled_from(["text", "int", "double precision", "json"]) | hostile
steps = st.builds(JsonStep, hostile | st.integers(-9, 9), st.booleans())
aggregates = st.none() | st.sampled_from(["count", "sum", "avg", "min", "max"])
flags = st.none() | st.booleans()
counts = st.builds(SelectField, st.just(FieldPath("")), aliases, st.none(), st.just("count"), casts)
ranges = st.builds(Range, st.none() | st.just(2), st.none() | st.integers(0, 99))
media = st.builds(BodyFormat, st.sampled_from(["array", "object", "csv", "none"]), st.booleans())


def fields(table: str) -> st.SearchStrategy[FieldPath]:
    paths = st.lists(steps, max_size=2).map(tuple)
    return st.builds(FieldPath, st.sampled_from(COLUMNS[table]), st.just(()) | paths)


def items(table: str) -> st.SearchStrategy[Any]:
    stars = st.just(SelectField(FieldPath("*")))
    return stars | counts | st.builds(SelectField, fields(table), aliases, casts, aggregates, casts)


QUANTIFIABLE = [each for each in OPERATORS.values() if each.quantifiable]


def operators(*arguments: Argument) -> st.SearchStrategy[Operator]:
    return st.sampled_from([each for each in OPERATORS.values() if each.argument in arguments])


def conditions(table: str, embedded: list[str]) -> st.SearchStrategy[Any]:
    """Filters, alone and in trees, some of them on whether there are related rows."""
    of = fields(table)
    plain = st.builds(
        Filter, of, operators(Argument.VALUE, Argument.PATTERN), st.just(0), st.booleans()
    )
    quantified = st.builds(
        Filter, of, st.sampled_from(QUANTIFIABLE), st.just(0), st.booleans(),
        st.sampled_from(["any", "all"]),
    )  # fmt: skip
    searched = st.builds(
        Filter, of, operators(Argument.SEARCH), st.just(0), st.booleans(),
        language=st.none() | st.just(0),
    )  # fmt: skip
    listed = st.builds(Filter, of, operators(Argument.LIST), st.just(1), st.booleans())
    named = of | st.sampled_from(embedded).map(FieldPath) if embedded else of
    presence = st.builds(
        Filter, named, operators(Argument.TRUTH), st.none(), st.booleans(),
        truth=st.sampled_from([TRUTHS["null"], TRUTHS["not_null"]]),
    )  # fmt: skip
    return st.recursive(
        plain | quantified | searched | listed | presence,
        lambda inner: st.builds(
            Logic,
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3).map(tuple),
            st.booleans(),
        ),
        max_leaves=4,
    )


@st.composite
def queries(draw: st.DrawFn) -> tuple[str, QueryParams]:
    """A table, and a query whose names are its own, while its aliases and casts are anything."""
    request: dict[str, list[Any]] = {"conditions": [], "orders": [], "ranges": []}

    def select(table: str, path: tuple[str, ...]) -> tuple[Any, ...]:
        negotiated = draw(st.lists(items(table), max_size=3))
        relations = RELATIONS[table]
        names = st.lists(st.sampled_from(sorted(relations)), max_size=2, unique=True)
        embedded = draw(names) if len(path) < 3 else []
        for name in embedded:
            inside = select(relations[name], (*path, name))
            join: Join | None = draw(st.sampled_from([None, "inner", "left"]))
            negotiated.append(SelectRelation(name, inside, None, None, join, draw(st.booleans())))
        if draw(st.booleans()):
            request["conditions"].append((path, draw(conditions(table, embedded))))
        if draw(st.booleans()):
            order = OrderingTerm(draw(fields(table)), draw(flags), draw(flags))
            related = [
                OrderingTerm(FieldPath(COLUMNS[relations[name]][0]), relation=name)
                for name in embedded
                if name in ("covers", "author_id", "home", "books")
            ]
            request["orders"].append((path, (order, *draw(st.just(related) | st.just([])))))
        if draw(st.booleans()):
            request["ranges"].append((path, draw(ranges)))
        return tuple(negotiated)

    table = draw(st.sampled_from(sorted(COLUMNS)))
    negotiated = draw(st.just(None)) if draw(st.integers(0, 9)) == 0 else select(table, ())
    return table, QueryParams(negotiated, **{name: tuple(each) for name, each in request.items()})


@st.composite
def plan_keys(draw: st.DrawFn) -> PlanKey:
    table, query = draw(queries())
    columns = [name for name in COLUMNS[table] if name != "shout"]
    return PlanKey(
        Name("api", table),
        draw(st.sampled_from(["read", "read", "update", "delete", "insert"])),
        query,
        draw(media),
        tuple(draw(st.lists(st.sampled_from(columns), unique=True))),
        "json",
        draw(st.sampled_from([None, "exact", "planned", "estimated"])),
        draw(st.sampled_from(["minimal", "headers-only", "representation"])),
        draw(st.sampled_from([None, "merge", "ignore"])),
        draw(st.booleans()),
    )


SYNTAX = {"42601", "42602", "42622", "42P01", "42P10", "42702", "42703", "42712", "42P02", "54001"}
"""Errors of SQL that makes no sense, which no request may cause; 42P10 is ON CONFLICT's."""


@settings(
    max_examples=75,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=plan_keys())
def test_no_request_makes_sql_that_postgres_cannot_parse(
    database: PlannerDatabase, key: PlanKey
) -> None:
    try:
        compiled = database.statements.get(key)
    except RestError:
        return
    postgres = database.connection.pgconn
    texts = [compiled.main, *([compiled.estimate] if compiled.estimate else [])]
    for text in texts:
        assert "\x00" not in text.statement.sql
        postgres.exec_(b"SAVEPOINT before")
        result = postgres.prepare(b"", text.statement.sql.encode())
        postgres.exec_(b"ROLLBACK TO before")
        if result.status != ExecStatus.COMMAND_OK:
            state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
            assert state not in SYNTAX, (state, result.error_message, text.statement.sql)


@pytest.mark.parametrize("value", ["needle", "needle' OR '1'='1", 'needle"', "$1needle", "{needle"])
@pytest.mark.parametrize(
    "query",
    [
        "id=eq.{}", "name=like.{}", "name=in.({})", "name=fts(english).{}", "name=eq(any).{{{}}}",
        "or=(id.eq.{},name.neq.{})", "name=not.isdistinct.{}", "offset=1&name=ilike.{}",
        "select=id,books!author_id(id)&books.title=eq.{}", "name=match.{}",
    ],
)  # fmt: skip
def test_no_value_reaches_the_text(database: PlannerDatabase, query: str, value: str) -> None:
    text = query.format(*[f'"{value}"' if "(" in query else value] * 2)
    try:
        request, values = read_query(quote(text, safe="=&"))
    except RestError:
        return
    compiled = database.statements.get(PlanKey(Name("api", "authors"), "read", request))
    assert "needle" not in compiled.main.statement.sql
    assert any("needle" in str(bound) for bound in compiled.main.bind(values).values)


def test_words_of_a_request_are_identifiers_or_bound(database: PlannerDatabase) -> None:
    query = QueryParams(
        select=(
            SelectField(FieldPath("id"), alias='x" FROM pg_authid --', cast='text" FROM y --'),
            SelectField(FieldPath("data", (JsonStep("k' || pg_sleep(9) --", True),)), alias="y"),
        )
    )
    sql = database.statements.get(PlanKey(Name("api", "books"), "read", query)).main.statement.sql
    assert '"x"" FROM pg_authid --"' in sql
    assert '"text"" from y --"' in sql
    assert "pg_sleep" not in sql


def test_columns_of_unknown_rows_are_never_taken_for_functions(database: PlannerDatabase) -> None:
    query = QueryParams(select=(SelectField(FieldPath("row_to_json")),))
    unnamed, pairs = (
        PlanKey(Name("api", name), "call", query, content="json") for name in ("unnamed", "pairs")
    )
    compiled = database.statements.get(unnamed)
    result = database.connection.pgconn.prepare(b"", compiled.main.statement.sql.encode())
    assert result.error_field(DiagnosticField.SQLSTATE) == b"42703"
    with pytest.raises(RestError, match=r"column pgrst_call\.row_to_json does not exist"):
        database.statements.get(pairs)


@pytest.mark.parametrize(
    "select",
    [",".join(["id"] * 3001), "...mentor_id(" * 50 + ",".join(["id"] * 100) + ")" * 50],
    ids=["many columns", "columns spread over many levels"],
)
async def test_what_is_selected_has_an_end(database: PlannerDatabase, select: str) -> None:
    query, _ = read_query(f"select={select}")
    with pytest.raises(RestError, match="over 3000 columns"):
        database.statements.get(PlanKey(Name("api", "authors"), "read", query))
