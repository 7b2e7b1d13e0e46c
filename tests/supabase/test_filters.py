"""Filters over the Data API find the rows that they find in SQL, on the same database."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    Integer,
    any_,
    case,
    cast,
    column,
    false,
    func,
    literal,
    literal_column,
    not_,
    select,
    text,
    true,
    type_coerce,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Text
from tests.backends import Records
from tests.column_models import Kinds
from tests.models import Author, Book, Category, Note, Post

from amphibase import SERVICE, NotSupported
from amphibase.sql.backend import SqlBackend

SPECIAL = [*",().:\"'\\%*+_&=#{}[]!-> \n\té茶nul"]
TEXTS = st.text(st.sampled_from(SPECIAL), max_size=6)
WORDS = st.sampled_from(["", "null", "NULL", "not.null", "*", "%", "a,b", '"', "\\", "(x)", "{a}"])
STRINGS = TEXTS | WORDS
NUMBERS = st.integers(-3, 3)
INTEGERS = ARRAY(Integer)

PATTERNS = st.text(st.sampled_from([*"%_*.a(+^$\\n"]), max_size=5).filter(
    lambda pattern: (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 0
)

LEAVES: list[st.SearchStrategy[Any]] = [
    STRINGS.map(lambda value: Kinds.text == value),
    STRINGS.map(lambda value: Kinds.text != value),
    STRINGS.map(lambda value: Kinds.text < value),
    STRINGS.map(lambda value: Kinds.text.is_distinct_from(value)),
    st.lists(STRINGS, max_size=3).map(Kinds.text.in_),
    st.lists(STRINGS | st.none(), max_size=3).map(Kinds.text.not_in),
    st.tuples(STRINGS, STRINGS).map(lambda bounds: Kinds.text.between(*bounds)),
    STRINGS.map(lambda value: Kinds.text.contains(value, autoescape=True)),
    STRINGS.map(lambda value: ~Kinds.text.startswith(value, autoescape=True)),
    STRINGS.map(lambda value: Kinds.text.iendswith(value, autoescape=True)),
    PATTERNS.map(Kinds.text.like),
    PATTERNS.map(Kinds.text.not_ilike),
    NUMBERS.map(lambda value: Kinds.number >= value),
    NUMBERS.map(lambda value: literal(value) > Kinds.number),
    st.lists(NUMBERS, max_size=3).map(Kinds.number.in_),
    st.lists(NUMBERS, max_size=3).map(
        lambda values: Kinds.number == any_(literal(values, INTEGERS))
    ),
    st.sampled_from([Kinds.yes, ~Kinds.yes, Kinds.yes.is_(True), Kinds.yes.is_not(False)]),
    st.sampled_from([Kinds.text.is_(None), Kinds.number.is_not(None), true(), false()]),
    STRINGS.map(lambda value: Kinds.mapping["k,"].as_string() == value),
    STRINGS.map(lambda value: Kinds.mapping[("a", "b")].as_string() != value),
    NUMBERS.map(lambda value: Kinds.mapping["n"].as_integer() > value),
    st.lists(STRINGS, max_size=2).map(lambda value: Kinds.words == value),
    st.sampled_from(Category).map(lambda value: Kinds.category == value),
]
FILTERS = st.recursive(
    st.one_of(LEAVES),
    lambda inner: (
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1])
        | st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1])
        | inner.map(not_)
    ),
    max_leaves=4,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | STRINGS,
            "number": st.none() | NUMBERS,
            "yes": st.none() | st.booleans(),
            "category": st.none() | st.sampled_from(Category),
            "words": st.none() | st.lists(STRINGS, max_size=2),
            "mapping": st.none()
            | st.fixed_dictionaries({"k,": STRINGS, "a": st.just({"b": "x"}), "n": NUMBERS}),
        }
    ),
    max_size=6,
)


@given(rows=ROWS, filter=FILTERS)
@example([{"text": ""}, {"text": None}, {"text": "a"}], Kinds.text.not_in([""]))
@example([{"text": "a*b"}, {"text": "a-b"}], Kinds.text.contains("*", autoescape=True))
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[*HealthCheck])
async def test_a_filter_finds_the_rows_that_it_finds_in_sql(
    shared_records: Records, sql: SqlBackend, rows: list[dict[str, Any]], filter: Any
) -> None:
    kinds = shared_records.of(Kinds)
    await kinds.delete_where(everything=True)
    await kinds.add_many([Kinds(**row) for row in rows])
    expected = await sql.repository(Kinds, SERVICE).list(filter)
    found = await kinds.list(filter)
    assert [row.id for row in found] == [row.id for row in expected]
    assert await kinds.count(filter) == len(expected)


WORDS_ARRAY = type_coerce(Kinds.words, postgresql.ARRAY(Text))
MAPPING = type_coerce(Kinds.mapping, postgresql.JSONB)
SEARCHES: dict[str, Any] = {
    "contains": WORDS_ARRAY.contains(["a,", "b"]),
    "is contained": WORDS_ARRAY.contained_by(["a,", "b", "c"]),
    "overlaps": WORDS_ARRAY.overlap(["x", 'q"']),
    "has the value": literal("b") == any_(WORDS_ARRAY),
    "has not the value": ~(literal("b") == any_(WORDS_ARRAY)),
    "JSON contains": MAPPING.contains({"a": {"b": "x,"}}),
    "JSON by an operator": MAPPING.op("@>")({"n": 5}),
    "JSON as text": MAPPING["a"]["b"].astext == "x,",
    "JSON as a number": Kinds.mapping["n"].as_float() == 5.0,
    "text search": Kinds.text.match("cats & mice"),
    "text search by configuration": func.to_tsvector("simple", Kinds.text).op("@@")(
        func.plainto_tsquery("simple", "cats")
    ),
    "web search": Kinds.text.op("@@")(func.websearch_to_tsquery('"fat cat" -dog')),
    "a phrase": Kinds.text.op("@@")(func.phraseto_tsquery("fat cat")),
    "a query": Kinds.text.op("@@")(func.to_tsquery("mouse | cat")),
    "a regular expression": Kinds.text.regexp_match("^the (fat|small)"),
    "one without case": ~Kinds.text.regexp_match("THE", flags="i"),
}


@pytest.mark.parametrize("filter", SEARCHES.values(), ids=SEARCHES)
async def test_arrays_json_and_text_are_searched_as_in_sql(
    shared_records: Records, sql: SqlBackend, filter: Any
) -> None:
    kinds = shared_records.of(Kinds)
    await kinds.delete_where(everything=True)
    await kinds.add_many(
        [
            Kinds(text="the fat cat", words=["a,", "b"], mapping={"a": {"b": "x,"}, "n": 5}),
            Kinds(text="The small cats and mice", words=['q"'], mapping={"n": 5.5}),
            Kinds(text="the fat cat of a dog", words=[], mapping={}),
            Kinds(),
        ]
    )
    expected = [row.id for row in await sql.repository(Kinds, SERVICE).list(filter)]
    assert [row.id for row in await kinds.list(filter)] == expected
    assert len(expected) < 4


@pytest.fixture
async def library(shared_records: Records) -> AsyncIterator[Records]:
    """Two authors with a book each, and one without."""
    authors = shared_records.of(Author)
    await authors.delete_where(everything=True)
    stored = await authors.add_many([Author(name=name) for name in ("a,", 'b"', "none")])
    books = [Book(title=each.name, author_id=each.id) for each in stored[:2]]
    await shared_records.of(Book).add_many([*books, Book(title="of nobody")])
    yield shared_records
    await shared_records.of(Book).delete_where(everything=True)


@pytest.mark.parametrize(
    "filter",
    [
        Author.books.any(),
        ~Author.books.any(),
        Author.books.any(Book.title == 'b"') | (Author.name == "none"),
        ~Author.books.any(Book.title.in_(["a,", "x"])) & Author.name.is_not(None),
        Author.books.any(Book.author.has(Author.name == "a,")),
        Author.books.any(~Book.tags.any()),
    ],
)
async def test_relationships_are_filtered_by_as_in_sql(
    library: Records, sql: SqlBackend, filter: Any
) -> None:
    expected = await sql.repository(Author, SERVICE).list(filter)
    assert [row.id for row in await library.of(Author).list(filter)] == [row.id for row in expected]


UNSUPPORTED: dict[str, Any] = {
    "a function": func.lower(Note.title) == "a",
    "arithmetic": Note.stars + 1 == 2,
    "a cast": cast(Note.stars, Text) == "1",
    "text": text("stars = 1"),
    "a literal": literal_column("stars") == 1,
    "a subquery": Note.id.in_(select(Post.id)),
    "a case": case((Note.stars > 1, 1), else_=0) == 1,
    "two columns": Note.stars == Note.id,
    "another table": Post.title == "a",
    "a column of no table": column("stars") == 1,
    "flags": Note.title.regexp_match("a", flags="x"),
    "symmetric": Note.stars.between(3, 1, symmetric=True),
    "an operator": Note.title.op("<->")("a"),
    "two configurations": Note.title.match("cats", postgresql_regconfig="simple"),
    "inside": (Note.stars == 1) | not_(func.length(Note.title) == 1),
}


@pytest.mark.parametrize("filter", UNSUPPORTED.values(), ids=UNSUPPORTED)
async def test_anything_else_is_rejected_by_name_before_a_request(
    shared_records: Records, filter: Any
) -> None:
    notes = shared_records.of(Note)
    for work in (notes.list, notes.count, notes.page, notes.delete_where):
        with pytest.raises(NotSupported, match=r"no filter or order for this: .*(stars|title|IN)"):
            await work(filter)


async def test_a_coerced_type_is_the_columns_own(shared_records: Records) -> None:
    assert await shared_records.of(Kinds).count(type_coerce(Kinds.text, Text) == "no such") == 0


async def test_an_order_by_an_expression_is_rejected_by_name(shared_records: Records) -> None:
    with pytest.raises(NotSupported, match=r"lower\(t_notes.title\)"):
        await shared_records.of(Note).list(order_by=[func.lower(Note.title)])
