"""Filters in query strings, as PostgREST's grammar has them: parsed to the tree, and written.

author.stars=not.gt.3
or=(stars.gt.3,and(title.eq."a,b",stars.is.null))
"""

import re
from collections.abc import Sequence
from typing import NoReturn

from amphibase.records.filters.names import (
    format_field,
    format_name,
    parse_json_path,
    parse_name,
    quote,
)
from amphibase.records.filters.operators import OPERATORS, TRUTHS, Argument, Truth
from amphibase.records.filters.scanner import Scanner
from amphibase.records.filters.tree import (
    Condition,
    Connective,
    FieldPath,
    Filter,
    Logic,
    Path,
    Quantifier,
    Value,
)

_UNTIL_THE_END = (Argument.VALUE, Argument.PATTERN)

SIMPLE_FILTER = r"(not\.)?({})\.".format(
    "|".join(name for name, each in OPERATORS.items() if each.argument in _UNTIL_THE_END)
)
"""A pattern for the beginning of filters whose value is all that follows."""

RESERVED = frozenset(("select", "columns", "on_conflict", "order", "limit", "offset", "and", "or"))
"""Parameters of a query string that are not filters; columns of these names stand in quotes."""

_SIMPLE = re.compile(SIMPLE_FILTER + "(.*)", re.DOTALL)
_GROUP = re.compile(r"(not\.)?(and|or)\(")
_OPERATOR_NAME = re.compile(r"[a-z]+")
_LANGUAGE = re.compile(r"[\w $]+")
_UNTIL_SEPARATOR = re.compile(r"[^,)]*")
_ARRAY = re.compile(r"\{[^{}]*\}")
_MAX_TRUTH = max(map(len, TRUTHS))
_CONNECTIVES: tuple[Connective, ...] = ("and", "or")
_QUANTIFIERS: tuple[Quantifier, ...] = ("any", "all")
_EXPECTED_NEGATION = "negation operator (not)"
_EXPECTED_CONNECTIVE = "logic operator (and, or)"
_EXPECTED_OPERATOR = "operator (eq, gt, ...)"


def parse_filter(field: FieldPath, text: str, values: list[Value]) -> Filter:
    """Parse a filter's `not.operator.value`.

    Args:
        values: its values are appended to these.

    Raises:
        QuerySyntaxError: the text is not a filter.
    """
    simple = _SIMPLE.fullmatch(text)
    if simple:  # most are, and this is the quicker way
        negation, name, value = simple.groups()
        values.append(value)
        return Filter(field, OPERATORS[name], len(values) - 1, bool(negation))
    scanner = Scanner(text, "filter")
    parsed = _operation(scanner, field, values, nested=False)
    scanner.end()
    return parsed


def parse_logic(operator: Connective, negated: bool, text: str, values: list[Value]) -> Logic:
    """Parse what follows `and=` or `or=`: conditions in parentheses.

    Args:
        values: the values of the conditions are appended to these.

    Raises:
        QuerySyntaxError: the text is not a list of conditions.
    """
    before = f"not.{operator}" if negated else operator
    scanner = Scanner(text, "logic tree", before)
    conditions = _conditions(scanner, values)
    scanner.end()
    return Logic(operator, conditions, negated)


def _conditions(scanner: Scanner, values: list[Value]) -> tuple[Condition, ...]:
    scanner.spaces()
    scanner.expect("(")
    scanner.enter()
    conditions = []
    while True:
        scanner.spaces()
        conditions.append(_condition(scanner, values))
        scanner.spaces()
        if not scanner.take(","):
            break
    scanner.expect(")")
    scanner.spaces()
    scanner.leave()
    return tuple(conditions)


def _condition(scanner: Scanner, values: list[Value]) -> Condition:
    count = len(values)

    def group(scanner: Scanner) -> Condition:
        del values[count:]  # of what is no filter
        negated = _negation(scanner)
        operator = _connective(scanner)
        return Logic(operator, _conditions(scanner, values), negated)

    if _GROUP.match(scanner.text, scanner.position):  # the quicker way
        return group(scanner)
    # A column may have the name of a connective: `and.eq.1`.
    return scanner.choose(lambda scanner: _filter(scanner, values), group)


def _negation(scanner: Scanner) -> bool:
    start = scanner.position
    if scanner.sees("not"):
        scanner.position += len("not")
    if scanner.position > start and scanner.sees("."):
        scanner.position += 1
        return True
    scanner.expects(_EXPECTED_NEGATION)
    scanner.position = start
    return False


def _connective(scanner: Scanner) -> Connective:
    if scanner.sees("and"):
        scanner.position += len("and")
        return "and"
    if not scanner.sees("o"):
        scanner.fail_at_word("and", _EXPECTED_CONNECTIVE)
    scanner.take_whole("or")
    return "or"


def _filter(scanner: Scanner, values: list[Value]) -> Filter:
    name = parse_name(scanner)
    field = FieldPath(name, parse_json_path(scanner))
    scanner.spaces()
    if not scanner.sees("."):
        scanner.fail("delimiter (.)")
    scanner.position += 1
    return _operation(scanner, field, values, nested=True)


def _operation(scanner: Scanner, field: FieldPath, values: list[Value], *, nested: bool) -> Filter:
    negated = scanner.sees("not.") and scanner.take("not.")
    start = scanner.position
    operator = OPERATORS.get(scanner.match(_OPERATOR_NAME) or "")
    if operator is None:
        scanner.position = start
        _reject_operator(scanner, negated=negated)
    quantifier = _quantifier(scanner) if operator.quantifiable else None
    language = None
    if operator.argument is Argument.SEARCH:
        name = _language(scanner)
        if name is not None:
            values.append(name)
            language = len(values) - 1
    _expect(scanner, ".")
    if operator.argument is Argument.TRUTH:
        return Filter(field, operator, negated=negated, truth=_truth(scanner))
    values.append(
        _list(scanner) if operator.argument is Argument.LIST else _value(scanner, nested=nested)
    )
    return Filter(field, operator, len(values) - 1, negated, quantifier, language=language)


def _reject_operator(scanner: Scanner, *, negated: bool) -> NoReturn:
    """Reject a word that is no operator, where the longest operator that it begins with ends."""
    if not negated and scanner.sees("not"):
        scanner.position += len("not")
        scanner.fail("delimiter (.)")
    length = max((len(name) for name in OPERATORS if scanner.sees(name)), default=0)
    scanner.position += length
    if length:
        scanner.fail(_EXPECTED_OPERATOR)
    if negated:
        scanner.fail_at_word("in", _EXPECTED_OPERATOR)
    scanner.fail_at_word("not", '"not"', _EXPECTED_OPERATOR)


def _expect(scanner: Scanner, literal: str) -> None:
    """Go past what follows the name of an operator, which errors name as a whole."""
    if not scanner.sees(literal):
        scanner.fail(_EXPECTED_OPERATOR)
    scanner.position += len(literal)


def _quantifier(scanner: Scanner) -> Quantifier | None:
    if not scanner.sees("("):
        return None
    scanner.position += 1
    quantifier = next((name for name in _QUANTIFIERS if scanner.sees(name)), None)
    if quantifier is None:
        scanner.fail(_EXPECTED_OPERATOR)
    scanner.position += len(quantifier)
    _expect(scanner, ")")
    return quantifier


def _language(scanner: Scanner) -> str | None:
    """Read the text search configuration in parentheses, if there is one."""
    if not scanner.sees("("):
        return None
    scanner.position += 1
    name = scanner.match(_LANGUAGE)
    if name is None:
        scanner.fail(_EXPECTED_OPERATOR)
    _expect(scanner, ")")
    return name


def _truth(scanner: Scanner) -> Truth:
    word = scanner.text[scanner.position : scanner.position + _MAX_TRUTH].lower()
    name = next((name for name in TRUTHS if word.startswith(name)), None)
    if name is None:
        scanner.position += max(
            end for name in TRUTHS for end in range(len(name)) if word.startswith(name[:end])
        )
        scanner.fail("isVal: (null, not_null, true, false, unknown)")
    scanner.position += len(name)
    return TRUTHS[name]


def _list(scanner: Scanner) -> list[str]:
    scanner.spaces()
    scanner.expect("(")
    scanner.spaces()
    if scanner.sees(")"):
        scanner.position += 1
        return []
    scanner.expects('"\\""')
    elements = [_element(scanner)]
    while scanner.take(","):
        elements.append(_element(scanner))
    scanner.expect(")")
    scanner.spaces()
    return elements


def _value(scanner: Scanner, *, nested: bool) -> str:
    if not nested:
        return scanner.rest()
    scanner.expects('"\\""', '"{"')
    array = scanner.match(_ARRAY)
    return array if array is not None else _element(scanner)


def _element(scanner: Scanner) -> str:
    """A value before a comma or a parenthesis, which only quotes let be a part of it."""
    start = scanner.position
    quoted = scanner.quoted()
    if quoted is not None and (scanner.ended or scanner.text[scanner.position] in ",)"):
        return quoted
    scanner.position = start
    return scanner.match(_UNTIL_SEPARATOR) or ""


def format_parameter(
    condition: Condition, values: Sequence[Value], relation: Path = ()
) -> tuple[str, str]:
    """Write a condition as one parameter of a query string.

    Args:
        relation: the embedded relation whose rows are filtered; () is the target itself.

    Returns:
        Name and value of the parameter, not yet percent-encoded.
    """
    before = "".join(f"{_format_relation(name)}." for name in relation)
    if isinstance(condition, Logic):
        negation = "not." if condition.negated else ""
        return f"{before}{negation}{condition.operator}", _format_group(condition, values)
    name = format_field(condition.field)
    key = quote(name) if name in RESERVED else name
    return before + key, _format_operation(condition, values, nested=False)


def _format_relation(name: str) -> str:
    return quote(name) if name == "not" else format_name(name)


def _format_condition(condition: Condition, values: Sequence[Value]) -> str:
    if isinstance(condition, Logic):
        negation = "not." if condition.negated else ""
        return f"{negation}{condition.operator}{_format_group(condition, values)}"
    operation = _format_operation(condition, values, nested=True)
    return f"{format_field(condition.field)}.{operation}"


def _format_group(logic: Logic, values: Sequence[Value]) -> str:
    return f"({','.join(_format_condition(each, values) for each in logic.conditions)})"


def _format_operation(filter: Filter, values: Sequence[Value], *, nested: bool) -> str:
    suffix = filter.quantifier or (None if filter.language is None else values[filter.language])
    operator = f"{filter.operator.name}({suffix})" if suffix else filter.operator.name
    negation = "not." if filter.negated else ""
    return f"{negation}{operator}.{_format_argument(filter, values, nested=nested)}"


def _format_argument(filter: Filter, values: Sequence[Value], *, nested: bool) -> str:
    if filter.truth is not None:
        return filter.truth.name
    assert filter.value is not None
    value = values[filter.value]
    if isinstance(value, list):
        return f"({','.join(map(quote, value))})"
    return quote(str(value)) if nested else str(value)
