"""The order, limit and cursor of a list in its query string, and what no query string does."""

import string
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, StaticPool, create_engine, select
from sqlalchemy.dialects import postgresql, sqlite
from tests.column_models import Kinds
from tests.records.listings import read, rejected

from amphibase import Base
from amphibase.column_types import DECIMAL_COLLATION, compare_decimals
from amphibase.records.filters.expressions import (
    filterable_columns,
)
from amphibase.records.filters.operators import OPERATORS
from amphibase.records.listing import read_listing


class TestOrder:
    def order(self, query: str) -> list[str]:
        return [str(each).removeprefix("t_kinds.") for each in read(query).order_by]

    @pytest.mark.parametrize(
        ("query", "order"),
        [
            ("", []),
            ("order=", []),
            ("order=number", ["number ASC"]),
            ("order=number.desc,text", ["number DESC", "text ASC"]),
            ("order=number.desc.nullslast", ["number DESC NULLS LAST"]),
            ("order=number.nullsfirst", ["number ASC NULLS FIRST"]),
        ],
    )
    def test_names_columns(self, query: str, order: list[str]) -> None:
        assert self.order(query) == order

    @pytest.mark.parametrize(
        "order",
        [
            "nope",
            "number,",
            ",",
            "number.down",
            "number.desc.desc",
            "number.nullslast.desc",
            "number,number.desc",
            "mapping",
            "words",
            "number desc",
        ],
    )
    def test_rejects_what_is_none(self, order: str) -> None:
        assert rejected(f"order={order}")[0] == "order"


class TestLimitAndCursor:
    def test_are_read(self) -> None:
        listing = read("limit=7&cursor=abc")
        assert (listing.limit, listing.cursor) == (7, "abc")
        listing = read("")
        assert (listing.limit, listing.cursor) == (100, None)
        assert read("limit=1000").limit == 1000

    @pytest.mark.parametrize("limit", ["0", "-1", "1001", "10" * 6, "x", "", "1.5", "١", "+1"])
    def test_reject_what_is_out_of_range(self, limit: str) -> None:
        with pytest.raises(RequestValidationError) as caught:
            read_listing(Kinds, [("limit", limit)])
        assert caught.value.errors()[0]["loc"] == ("query", "limit")

    @pytest.mark.parametrize("cursor", ["", "x" * 4097])
    def test_reject_what_is_no_cursor(self, cursor: str) -> None:
        assert rejected(f"cursor={cursor}")[0] == "cursor"

    @pytest.mark.parametrize("name", ["order", "limit", "cursor"])
    def test_are_given_once(self, name: str) -> None:
        assert rejected(f"{name}=1&{name}=1") == (name, "must be given once")


PUNCTUATION = st.sampled_from(["(", ")", ",", ".", '"', "\\", "*", "%", "\x00", "not.", "="])
COLUMNS = [*filterable_columns(Kinds)]
WORDS = st.sampled_from(
    [
        *COLUMNS,
        "and",
        "or",
        "order",
        "limit",
        "cursor",
        *OPERATORS,
        "asc",
        "desc",
        "null",
    ]
)
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.uuids().map(str),
    st.text(max_size=5),
)
TEXTS = st.lists(st.one_of(PUNCTUATION, WORDS, VALUES), max_size=12).map("".join)
CONDITIONS = st.tuples(st.sampled_from(COLUMNS), st.sampled_from([*OPERATORS]), VALUES)
GROUPS: st.SearchStrategy[str] = st.recursive(
    CONDITIONS.map(".".join),
    lambda inner: st.tuples(
        st.sampled_from(["and", "or", "not.and"]), st.lists(inner, min_size=1, max_size=4)
    ).map(lambda group: f"{group[0]}({','.join(group[1])})"),
    max_leaves=8,
)
PARAMETERS = st.one_of(
    st.tuples(st.one_of(WORDS, TEXTS), TEXTS),
    CONDITIONS.map(lambda condition: (condition[0], f"{condition[1]}.{condition[2]}")),
    GROUPS.map(lambda group: ("or", f"({group})")),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """A SQLite database in memory with the table that is asked for."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as opened:
        driver: Any = opened.connection.driver_connection
        driver.create_collation(DECIMAL_COLLATION, compare_decimals)
        Base.metadata.tables["t_kinds"].create(opened)
        yield opened
    engine.dispose()


@settings(max_examples=500, deadline=None)
@given(st.lists(PARAMETERS, max_size=4))
def test_no_query_string_raises_anything_else(
    connection: Connection, parameters: list[tuple[str, str]]
) -> None:
    try:
        listing = read_listing(Kinds, parameters)
    except RequestValidationError:
        return
    statement = select(Kinds).where(*listing.where).order_by(*listing.order_by)
    dialects: list[Any] = [sqlite.dialect, postgresql.dialect]
    for dialect in dialects:
        text = str(statement.compile(dialect=dialect()))
        # Whatever was sent is bound: SQL is made of what SQLAlchemy and the model know.
        assert set(text) <= set(string.ascii_letters + string.digits + " \n_.,()=<>!?%:[]'\\|$~")
    connection.execute(statement)
