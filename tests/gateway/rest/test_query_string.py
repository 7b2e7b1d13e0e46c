"""QueryParams strings become data, and what cannot be read says where."""

import re
import string
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphibase.gateway.rest.errors.base import InvalidRange, ParseError
from amphibase.gateway.rest.request.lru import MAX_CACHED_CHARACTERS
from amphibase.gateway.rest.request.query import (
    OrderingTerm,
    QueryParams,
    Range,
    SelectField,
    SelectRelation,
)
from amphibase.gateway.rest.request.query_string import MAX_CHARACTERS, read_query
from amphibase.records.filters.names import parse_name
from amphibase.records.filters.operators import OPERATORS, TRUTHS
from amphibase.records.filters.scanner import END, Scanner
from amphibase.records.filters.tree import FieldPath, Filter, JsonStep, Logic

A, B = FieldPath("a"), FieldPath("b")


def has(field: FieldPath, operator: str, *more: Any, truth: str = "", **named: Any) -> Filter:
    """A filter, by the names of its operator and of what `is` compares with."""
    if truth:
        named["truth"] = TRUTHS[truth]
    return Filter(field, OPERATORS[operator], *more, **named)


def read(text: str, *, is_call: bool = False) -> tuple[QueryParams, list[object]]:
    query, values = read_query(quote(text, safe="=&"), is_call=is_call)
    return query, [*values]


class Undescribed(str):
    """The name of a text of which no error may be described."""

    def __format__(self, spec: str) -> str:
        pytest.fail("an error was described that nobody reads")


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


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("limit=-1&on_conflict=(&a=b&select=(&columns=(&or=(&order=(", "order"),
        ("limit=-1&on_conflict=(&a=b&select=(&columns=(&or=(", "logic tree"),
        ("limit=-1&on_conflict=(&a=b&select=(&columns=(", "columns parameter"),
        ("limit=-1&on_conflict=(&a=b&select=(", "select parameter"),
        ("limit=-1&on_conflict=(&a=b&c=d", "filter (b)"),
        ("limit=-1&on_conflict=(", "on_conflict parameter"),
    ],
)
def test_of_several_errors_the_one_that_postgrest_meets_first_is_reported(
    text: str, what: str
) -> None:
    with pytest.raises(ParseError, match=re.escape(f"failed to parse {what}")):
        read(text)


def test_requests_that_differ_in_values_alone_share_a_query() -> None:
    assert read("a=eq.1&b=in.(1,2)&offset=3")[0] == read("a=eq.9&b=in.(7)&offset=8")[0]
    assert read("a=eq.1")[0] != read("a=gt.1")[0]


@pytest.mark.parametrize(
    ("text", "message", "details"),
    [
        (
            "a=foo.1",
            '"failed to parse filter (foo.1)" (line 1, column 1)',
            'unexpected "f" expecting "not" or operator (eq, gt, ...)',
        ),
        (
            "a=eq().1",
            '"failed to parse filter (eq().1)" (line 1, column 4)',
            'unexpected ")" expecting operator (eq, gt, ...)',
        ),
        (
            "a=fts().1",
            '"failed to parse filter (fts().1)" (line 1, column 5)',
            'unexpected ")" expecting operator (eq, gt, ...)',
        ),
        (
            "a=is().1",
            '"failed to parse filter (is().1)" (line 1, column 3)',
            'unexpected "(" expecting operator (eq, gt, ...)',
        ),
        (
            "a=eqx.1",
            '"failed to parse filter (eqx.1)" (line 1, column 3)',
            'unexpected "x" expecting operator (eq, gt, ...)',
        ),
        (
            "a=eq",
            '"failed to parse filter (eq)" (line 1, column 3)',
            "unexpected end of input expecting operator (eq, gt, ...)",
        ),
        (
            "a=not",
            '"failed to parse filter (not)" (line 1, column 4)',
            "unexpected end of input expecting delimiter (.)",
        ),
        (
            "a=is.nul",
            '"failed to parse filter (is.nul)" (line 1, column 7)',
            "unexpected end of input expecting isVal: (null, not_null, true, false, unknown)",
        ),
        (
            "a=is.x",
            '"failed to parse filter (is.x)" (line 1, column 4)',
            'unexpected "x" expecting isVal: (null, not_null, true, false, unknown)',
        ),
        (
            "select=a(b",
            '"failed to parse select parameter (a(b)" (line 1, column 4)',
            "unexpected end of input expecting "
            'letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input',
        ),
        (
            "or=(a.eq.1",
            '"failed to parse logic tree ((a.eq.1)" (line 1, column 10)',
            'unexpected end of input expecting "," or ")"',
        ),
        (
            "or=(tags @> 1)",
            '"failed to parse logic tree ((tags @> 1))" (line 1, column 9)',
            'unexpected "@" expecting letter, digit, "-", "->>", "->" or delimiter (.)',
        ),
        (
            "or=()",
            '"failed to parse logic tree (())" (line 1, column 4)',
            'unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator (not) or '
            "logic operator (and, or)",
        ),
        (
            "or=(a.eq.1,not.xor(b.eq.2,c.eq.3))",
            '"failed to parse logic tree ((a.eq.1,not.xor(b.eq.2,c.eq.3)))" (line 1, column 15)',
            'unexpected "x" expecting logic operator (and, or)',
        ),
        (
            "order=id.ac",
            '"failed to parse order (id.ac)" (line 1, column 4)',
            'unexpected "c" expecting "asc", "desc", "nullsfirst" or "nullslast"',
        ),
        (
            "order=id.smth34",
            '"failed to parse order (id.smth34)" (line 1, column 4)',
            'unexpected "s" expecting "asc", "desc", "nullsfirst" or "nullslast"',
        ),
        (
            "order=id.a",
            '"failed to parse order (id.a)" (line 1, column 4)',
            'unexpected end of input expecting "asc", "desc", "nullsfirst" or "nullslast"',
        ),
        (
            "order=id.asc.nlsfst",
            '"failed to parse order (id.asc.nlsfst)" (line 1, column 8)',
            'unexpected "l" expecting "nullsfirst" or "nullslast"',
        ),
        (
            "order=id.descc",
            '"failed to parse order (id.descc)" (line 1, column 8)',
            "unexpected 'c' expecting delimiter (.), \",\" or end of input",
        ),
        (
            "order=a.asc.nullslastx",
            '"failed to parse order (a.asc.nullslastx)" (line 1, column 16)',
            "unexpected 'x' expecting \",\" or end of input",
        ),
    ],
)
def test_what_cannot_be_read_says_where_and_what_was_expected(
    text: str, message: str, details: str
) -> None:
    with pytest.raises(ParseError) as caught:
        read(text)
    assert (caught.value.message, caught.value.details) == (message, details)


NAME = "field name (* or [a..z0..9_$])"
KEY = "any non reserved character different from: .,>()"
ITEM = f'"...", {NAME}, "*"'
AFTER_NAME = 'letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input'


@pytest.mark.parametrize(
    ("text", "column", "unexpected", "expected"),
    [
        ("select=id,", 4, END, f'{ITEM} or "count()"'),
        ("select=id!", 3, "'!'", AFTER_NAME),
        ("select=clients!fk.x", 8, "'!'", AFTER_NAME),
        ("select=clients!inner(id", 17, END, AFTER_NAME),
        ("select=clients(id", 11, END, AFTER_NAME),
        ("select=clients(,)", 9, '","', f'{ITEM}, "count()" or ")"'),
        ("select=clients(id,)", 12, '")"', f'{ITEM} or "count()"'),
        ("select=clients(id) x", 13, '"x"', '","'),
        ("select=clients(...a)", 13, '")"', 'letter, digit, "-", "!" or "("'),
        ("select=a:", 3, END, f'":" or {NAME}'),
        ("select=a:b:c", 4, '"c"', '"::"'),
        ("select=a:(id)", 3, '"("', f'":" or {NAME}'),
        ("select=id::", 5, END, "letter or digit"),
        ("select=id.", 4, END, '"sum", "avg", "count", "max" or "min"'),
        ("select=id.summ()", 7, '"m"', '"()"'),
        ("select=id.foo()", 4, '"f"', '"sum", "avg", "count", "max" or "min"'),
        ("select=count(id)", 6, "'('", AFTER_NAME),
        ("select=count()x", 6, "'('", AFTER_NAME),
        ("select=a-", 3, END, '">", letter or digit'),
        ("select=id->", 5, END, f'"-", digit or {KEY}'),
        ("select=id->-", 6, END, "digit"),
        ("select=id->-1a", 7, "'a'", 'digit, "->", "::", ".", "," or end of input'),
        ("select=id->a>b", 6, "'>'", '"->>", "->", "::", ".", ")", "," or end of input'),
        ('select="id', 4, END, '"\\\\" or "\\""'),
        ('select="id"-x', 5, "'-'", '"->>", "->", "::", ".", ")", "," or end of input'),
        ("select=id;", 3, "';'", AFTER_NAME),
        ("order=id.asc x", 7, "' '", 'delimiter (.), "," or end of input'),
        (
            "order=clients(id",
            8,
            "'('",
            'letter, digit, "-", "->>", "->", delimiter (.), "," or end of input',
        ),
        (
            "order=clients(id).x",
            8,
            "'('",
            'letter, digit, "-", "->>", "->", delimiter (.), "," or end of input',
        ),
        ("order=,id", 1, '","', NAME),
        ("order=", 1, END, NAME),
        ("columns=", 1, END, NAME),
        ("on_conflict=", 1, END, NAME),
        ("a=noop.1", 1, '"o"', '"not" or operator (eq, gt, ...)'),
        ("a=not.ix", 5, '"x"', "operator (eq, gt, ...)"),
        ("a=in.(", 5, END, '"\\"", "," or ")"'),
        ("a=in.(1", 6, END, '"," or ")"'),
        ('a=in.("a', 7, END, '"," or ")"'),
        ("a->=eq.1", 4, END, f'"-", digit or {KEY}'),
        ("a..b=eq.1", 3, '"."', NAME),
        ("columns=a, ", 4, END, NAME),
        ("on_conflict=a,", 3, END, NAME),
        ("or=(and)", 7, '")"', '"("'),
        ("or=(o", 4, END, '"or"'),
        (
            "or=(not",
            7,
            END,
            'letter, digit, "-", "->>", "->", delimiter (.) or negation operator (not)',
        ),
        ("or=(not.a.eq.1)", 8, '"."', "logic operator (and, or)"),
        ("or=(a.eq.", 9, END, '"\\"", "{", "," or ")"'),
        ("or=(a->>b)", 9, '")"', '"->>", "->" or delimiter (.)'),
    ],
)
def test_what_cannot_be_read_is_reported_as_by_the_grammar_of_postgrest(
    text: str, column: int, unexpected: str, expected: str
) -> None:
    with pytest.raises(ParseError) as caught:
        read(text)
    assert str(caught.value.message).endswith(f"(line 1, column {column})")
    assert caught.value.details == f"unexpected {unexpected} expecting {expected}"


@pytest.mark.parametrize(
    ("text", "place", "unexpected"),
    [
        ('ts::"x"', '(ts::"x")" (line 1, column 5)', r'"\""'),
        ("id\nname", '(id\nname)" (line 1, column 3)', r"'\n'"),
        ("id,a\u2192", '(id,a\u2192)" (line 1, column 5)', r"'\8594'"),
        ("a\t\tb)", '(a\t\tb))" (line 1, column 17)', "'b'"),
        ("a\x7f", '(a\x7f)" (line 1, column 2)', r"'\DEL'"),
    ],
)
def test_only_the_character_is_escaped_as_by_haskell(
    text: str, place: str, unexpected: str
) -> None:
    with pytest.raises(ParseError) as caught:
        read(f"select={text}")
    assert caught.value.message == f'"failed to parse select parameter {place}'
    assert str(caught.value.details).startswith(f"unexpected {unexpected} ")


def test_blanks_and_repeated_casts_and_joins_are_read_as_by_postgrest() -> None:
    assert read("select=r!inner!left(a) ,b")[0].select == (
        SelectRelation("r", (SelectField(A),), join="inner"),
        SelectField(B),
    )
    assert read("select=a::int::text")[0].select == (
        SelectField(A, cast="int", aggregate_cast="text"),
    )
    assert read("a=fts(my config).x")[1] == ["my config", "x"]


@pytest.mark.parametrize("name", ["limit", "x.limit"])
def test_a_limit_below_zero_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRange):
        read(f"{name}=-1")


def test_an_offset_below_zero_is_the_beginning() -> None:
    assert read("offset=-1") == read("offset=0")


@pytest.mark.parametrize("text", ["select=" + "a(" * 10_000, "or=" + "(and" * 10_000])
def test_parentheses_may_not_nest_without_end(text: str) -> None:
    with pytest.raises(ParseError):
        read(text)


@pytest.mark.parametrize(
    "text",
    ["%6Cimit=eq.5", "x%2Eoff%73et=eq.5", "select=a&sel%65ct=eq.b", "on%5Fconflict=eq.a"],
)
def test_a_name_of_the_grammar_is_no_filter_however_it_is_encoded(text: str) -> None:
    try:
        query, values = read(text)
    except ParseError:
        return
    assert not query.conditions
    assert not values


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


def test_readers_that_are_tried_in_vain_describe_no_error_as_long_as_the_text() -> None:
    scanner = Scanner("*", Undescribed("select parameter"))

    scanner.choose(parse_name, lambda _: scanner.take("*") and "*")

    assert scanner.ended


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
