"""What cannot be read of a query string: which error is reported, and where."""

import re

import pytest
from tests.gateway.rest.query_strings import read

from amphibase.gateway.rest.errors.base import InvalidRange, ParseError
from amphibase.records.filters.names import parse_name
from amphibase.records.filters.scanner import END, Scanner

NAME = "field name (* or [a..z0..9_$])"
KEY = "any non reserved character different from: .,>()"
ITEM = f'"...", {NAME}, "*"'
AFTER_NAME = 'letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input'


class Undescribed(str):
    """The name of a text of which no error may be described."""

    def __format__(self, spec: str) -> str:
        pytest.fail("an error was described that nobody reads")


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


@pytest.mark.parametrize("name", ["limit", "x.limit"])
def test_a_limit_below_zero_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRange):
        read(f"{name}=-1")


@pytest.mark.parametrize("text", ["select=" + "a(" * 10_000, "or=" + "(and" * 10_000])
def test_parentheses_may_not_nest_without_end(text: str) -> None:
    with pytest.raises(ParseError):
        read(text)


def test_readers_that_are_tried_in_vain_describe_no_error_as_long_as_the_text() -> None:
    scanner = Scanner("*", Undescribed("select parameter"))

    scanner.choose(parse_name, lambda _: scanner.take("*") and "*")

    assert scanner.ended
