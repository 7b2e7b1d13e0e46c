"""Reads filters: `operator.value`, and trees of `and(…)` and `or(…)`."""

import re
from collections.abc import Callable
from typing import Literal, cast

from amphibase.gateway.rest.request.names import read_field
from amphibase.gateway.rest.request.query import (
    Condition,
    Field,
    Filter,
    Logic,
    Operator,
    Quantifier,
    Truth,
    Value,
)
from amphibase.gateway.rest.request.scanner import Scanner

Unfinished = Callable[[Field], Filter]
"""A filter that waits for its field."""

_OPERATOR = re.compile(r"[a-z]+")
_QUANTIFIED = {"eq", "gte", "gt", "lte", "lt", "like", "ilike", "match", "imatch"}
_SIMPLE = {"neq", "cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj", "isdistinct"}
_TEXT_SEARCH = {"fts", "plfts", "phfts", "wfts"}
_TRUTHS: tuple[Truth, ...] = ("null", "not_null", "true", "false", "unknown")
_LONGEST_TRUTH = max(map(len, _TRUTHS))
_ANY_OPERATOR = "operator (eq, gt, ...)"
SIMPLE = tuple(sorted(_QUANTIFIED | _SIMPLE))
"""The operators whose value is all that follows."""

_SIMPLE_FILTER = re.compile(rf"(not\.)?({'|'.join(SIMPLE)})\.(.*)", re.DOTALL)
_LANGUAGE = re.compile(r"\w+")
_UNTIL_END = re.compile(r"[^,)]*")
_ARRAY = re.compile(r"\{[^{}]*\}")


def read_condition(text: str, values: list[Value]) -> Unfinished:
    """A filter's `not.operator.value`; its values are added to `values`. Raises ParseError."""
    simple = _SIMPLE_FILTER.fullmatch(text)
    if simple:  # most are, and this is the quicker way
        negation, name, value = simple.groups()
        values.append(value)
        return _unfinished(name, bool(negation), value=len(values) - 1)
    scanner = Scanner(text, "filter")
    found = _operation(scanner, values, nested=False)
    scanner.end()
    return found


def read_logic(
    text: str, operator: Literal["and", "or"], negated: bool, values: list[Value]
) -> Logic:
    """What follows `and=` or `or=`: conditions in parentheses. Raises ParseError."""
    before = f"not.{operator}" if negated else operator
    scanner = Scanner(text, "logic tree", before)
    conditions = _conditions(scanner, values)
    scanner.end()
    return Logic(operator, conditions, negated)


def _conditions(scanner: Scanner, values: list[Value]) -> tuple[Condition, ...]:
    scanner.expect("(")
    scanner.deeper()
    found = []
    while True:
        scanner.spaces()
        found.append(_condition(scanner, values))
        scanner.spaces()
        if not scanner.take(","):
            break
    scanner.expect(")")
    scanner.spaces()
    scanner.shallower()
    return tuple(found)


def _condition(scanner: Scanner, values: list[Value]) -> Condition:
    start = scanner.at
    negated = scanner.sees("not.") and scanner.take("not.")
    operators: tuple[Literal["and", "or"], ...] = ("and", "or")
    for operator in operators:
        before = scanner.at
        if scanner.take(operator):
            scanner.spaces()
            if scanner.sees("("):
                return Logic(operator, _conditions(scanner, values), negated)
        scanner.at = before
    scanner.at = start
    field = read_field(scanner)
    if not scanner.sees("."):
        scanner.fail("delimiter (.)")
    scanner.at += 1
    return _operation(scanner, values, nested=True)(field)


def _operation(scanner: Scanner, values: list[Value], *, nested: bool) -> Unfinished:
    negated = scanner.sees("not.") and scanner.take("not.")
    start = scanner.at
    name = scanner.match(_OPERATOR) or ""
    quantifier = language = None
    if name in _QUANTIFIED:
        quantifier = _quantifier(scanner)
    elif name in _TEXT_SEARCH:
        language = _language(scanner, values)
    elif name not in _SIMPLE and name not in ("in", "is"):
        scanner.at = start
        scanner.fail(*([_ANY_OPERATOR] if negated else ['"not"', _ANY_OPERATOR]))
    scanner.expect(".")
    if name == "is":
        return _unfinished("is", negated, truth=_truth(scanner))
    values.append(_list(scanner) if name == "in" else _value(scanner, nested))
    return _unfinished(
        name, negated, value=len(values) - 1, quantifier=quantifier, language=language
    )


def _unfinished(
    operator: str,
    negated: bool,
    *,
    value: int | None = None,
    quantifier: Quantifier | None = None,
    truth: Truth | None = None,
    language: int | None = None,
) -> Unfinished:
    name = cast(Operator, operator)
    return lambda field: Filter(field, name, value, negated, quantifier, truth, language)


def _quantifier(scanner: Scanner) -> Quantifier | None:
    if scanner.take("(any)"):
        return "any"
    if scanner.take("(all)"):
        return "all"
    return None


def _language(scanner: Scanner, values: list[Value]) -> int | None:
    """The position of the text search configuration in parentheses, if there is one."""
    if not scanner.take("("):
        return None
    found = scanner.match(_LANGUAGE)
    if found is None:
        scanner.fail("letter or digit")
    scanner.expect(")")
    values.append(found)
    return len(values) - 1


def _truth(scanner: Scanner) -> Truth:
    word = scanner.text[scanner.at : scanner.at + _LONGEST_TRUTH].lower()
    found = next((truth for truth in _TRUTHS if word.startswith(truth)), None)
    if found is None:
        scanner.fail("isVal: (null, not_null, true, false, unknown)")
    scanner.at += len(found)
    return found


def _list(scanner: Scanner) -> list[str]:
    scanner.spaces()
    scanner.expect("(")
    scanner.spaces()
    found = [_element(scanner)]
    while scanner.take(","):
        found.append(_element(scanner))
    scanner.expect(")")
    scanner.spaces()
    return found


def _value(scanner: Scanner, nested: bool) -> str:
    if not nested:
        return scanner.rest()
    array = scanner.match(_ARRAY)
    return array if array is not None else _element(scanner)


def _element(scanner: Scanner) -> str:
    """A value before a comma or a parenthesis, which only quotes let be a part of it."""
    start = scanner.at
    quoted = scanner.quoted()
    if quoted is not None and (scanner.ended or scanner.text[scanner.at] in ",)"):
        return quoted
    scanner.at = start
    return scanner.match(_UNTIL_END) or ""
