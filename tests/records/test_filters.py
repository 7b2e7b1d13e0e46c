"""The tree of filters and its form in query strings are one another's inverse."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import column

from amphibase.gateway.rest.request.query_string import read_query
from amphibase.records.filters.operators import OPERATORS, TRUTHS, Argument, Operator
from amphibase.records.filters.query_string import format_parameter, parse_filter, parse_logic
from amphibase.records.filters.tree import (
    Condition,
    Connective,
    FieldPath,
    Filter,
    JsonStep,
    Logic,
    Path,
    Quantifier,
    Value,
)

# Names that the grammar has its own use for, and text of which it is made.
WORDS = st.sampled_from(["a", "order", "select", "or", "and", "not", "is", "eq", "null", "limit"])
TEXTS = st.text(st.sampled_from([*'().,:!->*{}"\\=&%+', *"abnot ", "\n", "é", "\x00"]), max_size=8)
NAMES = WORDS | TEXTS | st.text(max_size=4)
STEPS = st.builds(JsonStep, NAMES | st.integers(-999, 999), st.booleans())
FIELDS = st.builds(FieldPath, NAMES, st.lists(STEPS, max_size=2).map(tuple))
VALUES = TEXTS | st.text()
QUANTIFIERS: st.SearchStrategy[Quantifier | None] = st.sampled_from([None, "any", "all"])
CONNECTIVES: st.SearchStrategy[Connective] = st.sampled_from(["and", "or"])
LANGUAGES = st.none() | st.sampled_from(["english", "simple_1"])


@st.composite
def filters(draw: st.DrawFn, values: list[Value]) -> Filter:
    """A filter of any operator, whose values follow those that are there."""
    operator: Operator = draw(st.sampled_from([*OPERATORS.values()]))
    field, negated = draw(FIELDS), draw(st.booleans())
    if operator.argument is Argument.TRUTH:
        truth = draw(st.sampled_from([*TRUTHS.values()]))
        return Filter(field, operator, negated=negated, truth=truth)
    language = quantifier = None
    if operator.argument is Argument.SEARCH and (name := draw(LANGUAGES)):
        values.append(name)
        language = len(values) - 1
    if operator.quantifiable:
        quantifier = draw(QUANTIFIERS)
    is_list = operator.argument is Argument.LIST
    values.append(draw(st.lists(VALUES, max_size=3)) if is_list else draw(VALUES))
    return Filter(field, operator, len(values) - 1, negated, quantifier, language=language)


@st.composite
def conditions(draw: st.DrawFn, values: list[Value], depth: int = 0) -> Condition:
    if depth == 3 or draw(st.booleans()):
        return draw(filters(values))
    operator = draw(CONNECTIVES)
    count = draw(st.integers(1, 3))
    inside = tuple(draw(conditions(values, depth + 1)) for _ in range(count))
    return Logic(operator, inside, draw(st.booleans()))


@st.composite
def parameters(draw: st.DrawFn) -> tuple[Path, Condition, list[Value]]:
    values: list[Value] = []
    condition = draw(conditions(values))
    return tuple(draw(st.lists(NAMES, max_size=2))), condition, values


@example((("not",), Logic("or", (Filter(FieldPath("a"), OPERATORS["eq"], 0),)), ["1"]))
@example(((), Filter(FieldPath("order"), OPERATORS["eq"], 0), ["1"]))
@given(parameters())
def test_what_is_written_is_parsed_as_it_was(
    parameter: tuple[Path, Condition, list[Value]],
) -> None:
    relation, condition, values = parameter
    text = urlencode([format_parameter(condition, values, relation)])
    query, parsed_values = read_query(text)
    assert query.conditions == ((relation, condition),)
    assert parsed_values == values


TEXT_KEYS = st.sampled_from(["a", "b.a", "a->b->>0", '"a.b"', "not.or", "and", "x.not.and"])
OPERATIONS = st.sampled_from(
    ["eq.1", "not.in.(1,2)", "like(any).{a*,b}", "is.null", "wfts(english).cat", "cs.{1}"]
)
GROUPS = st.lists(OPERATIONS.map("a.{}".format), min_size=1, max_size=3).map(
    lambda members: f"({','.join([*members, f'or({members[0]},not.and({members[0]}))'])})"
)


@given(TEXT_KEYS, OPERATIONS, GROUPS)
def test_what_is_parsed_is_written_with_the_same_meaning(
    key: str, operation: str, group: str
) -> None:
    is_logic = key.rpartition(".")[2] in ("and", "or")
    query, values = read_query(urlencode([(key, group if is_logic else operation)]))
    ((relation, condition),) = query.conditions
    again, values_again = read_query(urlencode([format_parameter(condition, values, relation)]))
    assert (again.conditions, values_again) == (query.conditions, values)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_every_operator_is_parsed_and_has_sql_with_two_sides(operator: Operator) -> None:
    argument = {Argument.LIST: "(1)", Argument.TRUTH: "null"}.get(operator.argument, "1")
    values: list[Value] = []
    parsed = parse_filter(FieldPath("a"), f"{operator.name}.{argument}", values)
    nested = parse_logic("and", False, f"(a.{operator.name}.{argument})", [])
    assert parsed.operator is operator
    assert nested.conditions == (parsed,)
    left, _, right = operator.sql.format("LEFT", "RIGHT").partition("LEFT")[2].partition("RIGHT")
    assert left.strip()
    assert right in ("", ")")


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("eq", 1, "a = 1"),
        ("neq", 1, "a != 1"),
        ("gt", 1, "a > 1"),
        ("gte", 1, "a >= 1"),
        ("lt", 1, "a < 1"),
        ("lte", 1, "a <= 1"),
        ("like", "x%", "a LIKE 'x%'"),
        ("ilike", "x%", "lower(a) LIKE lower('x%')"),
        ("in", [1, 2], "a IN (1, 2)"),
        ("is", None, "a IS NULL"),
    ],
)
def test_portable_operators_mean_the_same_to_sqlalchemy(
    operator: str, value: Any, expected: str
) -> None:
    portable = OPERATORS[operator].portable
    assert portable is not None
    expression = portable.operator(column("a"), value)
    assert str(expression.compile(compile_kwargs={"literal_binds": True})) == expected


def test_the_portable_operators_are_these() -> None:
    portable = {name for name, operator in OPERATORS.items() if operator.portable}
    assert portable == {"eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "in", "is"}
