"""QueryParams strings become data, and what cannot be read says where."""

import string
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.rest.query_strings import A, B, has, read

from amphibase.gateway.rest.errors.base import InvalidRange, ParseError
from amphibase.gateway.rest.request.lru import MAX_CACHED_CHARACTERS
from amphibase.gateway.rest.request.query import (
    OrderingTerm,
    Range,
    SelectField,
    SelectRelation,
)
from amphibase.gateway.rest.request.query_string import MAX_CHARACTERS, read_query
from amphibase.records.filters.tree import FieldPath, Filter, JsonStep, Logic


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a", [SelectField(A)]),
        ("*", [SelectField(FieldPath("*"))]),
        ("x:a", [SelectField(A, alias="x")]),
        ("a::text", [SelectField(A, cast="text")]),
        ("x:a::double precision", [SelectField(A, alias="x", cast="double precision")]),
        ("a->b->>0", [SelectField(FieldPath("a", (JsonStep("b", False), JsonStep(0, True))))]),
        ("a->-1", [SelectField(FieldPath("a", (JsonStep(-1, False),)))]),
        ('"a.b,c"', [SelectField(FieldPath("a.b,c"))]),
        ("a-b c", [SelectField(FieldPath("a-b c"))]),
        ("count()", [SelectField(FieldPath(""), aggregate="count")]),
        ("n:count()::int", [SelectField(FieldPath(""), "n", None, "count", "int")]),
        ("a.sum()", [SelectField(A, aggregate="sum")]),
        ("a::int.avg()::text", [SelectField(A, None, "int", "avg", "text")]),
        ("a(*)", [SelectRelation("a", (SelectField(FieldPath("*")),))]),
        ("a()", [SelectRelation("a", ())]),
        ("count", [SelectField(FieldPath("count"))]),
        ("x:a!inner(b)", [SelectRelation("a", (SelectField(B),), alias="x", join="inner")]),
        ("a!fk!left(b)", [SelectRelation("a", (SelectField(B),), hint="fk", join="left")]),
        ("a!left!fk(b)", [SelectRelation("a", (SelectField(B),), hint="fk", join="left")]),
        ("...a(b)", [SelectRelation("a", (SelectField(B),), spread=True)]),
        (
            "a,b(a,...c(a))",
            [
                SelectField(A),
                SelectRelation(
                    "b",
                    (SelectField(A), SelectRelation("c", (SelectField(A),), spread=True)),
                ),
            ],
        ),
    ],
)
def test_select_names_columns_and_relations(text: str, items: list[object]) -> None:
    assert read(f"select={text}")[0].select == tuple(items)


def test_the_values_of_one_request_are_no_other_requests() -> None:
    _, values = read_query("a=eq.1")
    values[0] = "changed"
    assert read_query("a=eq.1")[1] == ["1"]


def test_an_empty_select_is_as_if_it_were_missing() -> None:
    assert read("select=&a=eq.1") == read("a=eq.1")


@pytest.mark.parametrize("name", ["a", "select", "order", "columns", "on_conflict", "or", "limit"])
def test_a_name_without_an_equals_sign_is_as_if_it_were_missing(name: str) -> None:
    assert read(f"{name}&a=eq.1") == read("a=eq.1")
    assert read(f"a=1&{name}", is_call=True) == read("a=1", is_call=True)


@pytest.mark.parametrize("name", ["select", "order", "columns", "on_conflict"])
def test_the_first_of_a_repeated_parameter_counts(name: str) -> None:
    assert read(f"{name}=a&{name}=b") == read(f"{name}=a")


@pytest.mark.parametrize(
    ("text", "filter", "values"),
    [
        ("a=eq.1", has(A, "eq", 0), ["1"]),
        ("a=eq.", has(A, "eq", 0), [""]),
        ("a=not.eq.x.y", has(A, "eq", 0, negated=True), ["x.y"]),
        ("a=in.(1,2)", has(A, "in", 0), [["1", "2"]]),
        ('a=in.("x,y","q\\"",z)', has(A, "in", 0), [["x,y", 'q"', "z"]]),
        ("a=in.()", has(A, "in", 0), [[]]),
        ('a=in.(x"y)', has(A, "in", 0), [['x"y']]),
        ("a=is.null", has(A, "is", truth="null"), []),
        ("a=is.NOT_NULL", has(A, "is", truth="not_null"), []),
        ("a=not.is.true", has(A, "is", truth="true", negated=True), []),
        ("a=like(any).{x*,y}", has(A, "like", 0, quantifier="any"), ["{x*,y}"]),
        ("a=fts.cat", has(A, "fts", 0), ["cat"]),
        (
            "a=not.wfts(german).cat",
            has(A, "wfts", 1, True, language=0),
            ["german", "cat"],
        ),
        ("a=isdistinct.1", has(A, "isdistinct", 0), ["1"]),
        ("a->>b=eq.1", has(FieldPath("a", (JsonStep("b", True),)), "eq", 0), ["1"]),
    ],
)
def test_a_filter_lifts_its_values_out(text: str, filter: Filter, values: list[object]) -> None:
    query, found = read(text)
    assert query.conditions == (((), filter),)
    assert found == values


def test_a_filter_of_a_relation_has_its_path() -> None:
    assert read("x.y.a=eq.1")[0].conditions == ((("x", "y"), has(A, "eq", 0)),)


def test_logic_nests_and_negates() -> None:
    query, values = read("x.not.or=(a.eq.1, not.and(b.in.(2,3),a.is.null),b.cs.{4,5})")
    inner = Logic(
        "and",
        (has(B, "in", 1), has(A, "is", truth="null")),
        negated=True,
    )
    tree = Logic("or", (has(A, "eq", 0), inner, has(B, "cs", 2)), negated=True)
    assert query.conditions == ((("x",), tree),)
    assert values == ["1", ["2", "3"], "{4,5}"]


def test_order_and_ranges_belong_to_their_relation() -> None:
    query, values = read("order=a.desc.nullslast,r(b)&x.order=b&limit=3&x.offset=7")
    terms = (OrderingTerm(A, descending=True, nulls_first=False), OrderingTerm(B, relation="r"))
    assert query.orders == (((), terms), (("x",), (OrderingTerm(B),)))
    assert query.ranges == (((), Range(limit=3)), (("x",), Range(offset=0)))
    assert values == [7]


def test_what_is_no_filter_is_an_argument_of_a_function_called_by_get() -> None:
    query, values = read("a=1&b=eq.2&a=3&c=fts(x.y", is_call=True)
    assert query.arguments == (("a", 0), ("a", 2), ("c", 3))
    assert values == ["1", "2", "3", "fts(x.y"]
    query, _ = read('"Fiz Buz"=1&a.b=2', is_call=True)
    assert [name for name, _ in query.arguments] == ["Fiz Buz", "b"]


def test_requests_that_differ_in_values_alone_share_a_query() -> None:
    assert read("a=eq.1&b=in.(1,2)&offset=3")[0] == read("a=eq.9&b=in.(7)&offset=8")[0]
    assert read("a=eq.1")[0] != read("a=gt.1")[0]


def test_blanks_and_repeated_casts_and_joins_are_read_as_by_postgrest() -> None:
    assert read("select=r!inner!left(a) ,b")[0].select == (
        SelectRelation("r", (SelectField(A),), join="inner"),
        SelectField(B),
    )
    assert read("select=a::int::text")[0].select == (
        SelectField(A, cast="int", aggregate_cast="text"),
    )
    assert read("a=fts(my config).x")[1] == ["my config", "x"]


def test_an_offset_below_zero_is_the_beginning() -> None:
    assert read("offset=-1") == read("offset=0")


@pytest.mark.parametrize(
    ("encoded", "plain"),
    [
        ("%6Cimit=5", "limit=5"),
        ("x%2Eoff%73et=5", "x.offset=5"),
        ("select=a&sel%65ct=b", "select=a&select=b"),
        ("on%5Fconflict=a", "on_conflict=a"),
        ("%6Frder=a", "order=a"),
    ],
)
def test_a_name_of_the_grammar_is_no_filter_however_it_is_encoded(encoded: str, plain: str) -> None:
    query, values = read_query(encoded)
    expected, its_values = read_query(plain)
    assert (query, [*values]) == (expected, [*its_values])
    assert query != read_query("")[0]
    assert not query.conditions


def test_an_index_of_any_length_is_read() -> None:
    digits = "1" * 5000
    assert read(f"select=a->{digits}")[0].select == (
        SelectField(FieldPath("a", (JsonStep(digits, as_text=False),))),
    )
    assert read("select=a->12")[0].select == (
        SelectField(FieldPath("a", (JsonStep(12, as_text=False),))),
    )


def test_a_query_string_may_not_be_long_but_its_values_may() -> None:
    with pytest.raises(ParseError, match="characters"):
        read(f"select={'a,' * MAX_CHARACTERS}a")
    value = "x" * 2 * MAX_CHARACTERS
    assert read(f"a=eq.{value}")[1] == [value]


def test_what_is_long_is_not_kept() -> None:
    long, short = f"select={'abc,' * MAX_CACHED_CHARACTERS}a", "select=abc,a"
    assert read_query(long)[0] is not read_query(long)[0]
    assert read_query(short)[0] is read_query(short)[0]


KEYS = st.sampled_from(
    ["select", "order", "or", "not.and", "columns", "on_conflict", "limit", "x.offset", "a", "x.a"]
)
TEXTS = st.text(alphabet=st.sampled_from([*'()".,:!->*{}\\', *"abcnot", "\0", "é", " "]))


@given(st.lists(st.tuples(KEYS, TEXTS | st.text()), max_size=4), st.booleans())
def test_any_input_is_read_or_rejected_in_our_words(
    parameters: list[tuple[str, str]], is_call: bool
) -> None:
    try:
        query, values = read_query(urlencode(parameters), is_call=is_call)
    except (ParseError, InvalidRange):
        return
    assert {query: values}[query] == values
    assert all(isinstance(value, str | int | list) for value in values)


@given(st.text(alphabet=string.printable), st.text())
def test_a_quoted_value_comes_back_whole(name: str, value: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    query, values = read_query(urlencode({"or": f"({quoted(name)}.eq.{quoted(value)})"}))
    assert query.conditions == (((), Logic("or", (has(FieldPath(name), "eq", 0),))),)
    assert values == [value]
