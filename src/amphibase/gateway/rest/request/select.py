"""Reads `select=` and `order=`."""

import re
from dataclasses import replace
from typing import cast

from amphibase.gateway.rest.request import names
from amphibase.gateway.rest.request.lru import cached
from amphibase.gateway.rest.request.query import (
    Aggregate,
    Join,
    OrderingTerm,
    SelectField,
    SelectItem,
    SelectRelation,
)
from amphibase.records.filters.names import parse_field, parse_name
from amphibase.records.filters.scanner import END, QuerySyntaxError, Scanner
from amphibase.records.filters.tree import FieldPath

_AGGREGATES = ("sum", "avg", "count", "max", "min")
_PLAIN_COLUMN = re.compile(r"\w+(?=[,)])")
_DIRECTIONS = ("asc", "desc")
_NULLS = ("nullsfirst", "nullslast")


@cached(1024)
def read_select(text: str) -> tuple[SelectItem, ...]:
    """Parse columns and relations, which nest. Raises QuerySyntaxError."""
    scanner = Scanner(text, "select parameter")
    items = _items(scanner)
    scanner.end()
    return items


@cached(1024)
def read_order(text: str) -> tuple[OrderingTerm, ...]:
    """Parse terms with commas between them. Raises QuerySyntaxError."""
    scanner = Scanner(text, "order")
    terms = [_term(scanner)]
    while scanner.take(","):
        terms.append(_term(scanner))
    scanner.end()
    return tuple(terms)


def _items(scanner: Scanner) -> tuple[SelectItem, ...]:
    start = scanner.position
    try:
        items = [_item(scanner)]
    except QuerySyntaxError:
        if scanner.position > start:
            raise
        return ()
    while names.take_comma(scanner):
        items.append(_item(scanner))
    return tuple(items)


def _item(scanner: Scanner) -> SelectItem:
    if name := scanner.match(_PLAIN_COLUMN):  # most are, and this is the quicker way
        return SelectField(FieldPath(name))
    item = scanner.choose(_spread, _relation, _field)
    if isinstance(item, SelectField):
        return item
    scanner.expect("(")
    scanner.enter()
    select = _items(scanner)
    scanner.expect(")")
    scanner.leave()
    return replace(item, select=select)


def _spread(scanner: Scanner) -> SelectItem:
    scanner.spaces()
    if not scanner.sees("..."):
        scanner.fail('"..."')
    scanner.position += len("...")
    return _before_parenthesis(scanner, parse_name(scanner), None, spread=True)


def _relation(scanner: Scanner) -> SelectItem:
    scanner.spaces()
    alias = _alias(scanner)
    name = parse_name(scanner)
    if name == "count":
        scanner.fail()  # the aggregate, not a relation
    return _before_parenthesis(scanner, name, alias, spread=False)


def _before_parenthesis(
    scanner: Scanner, name: str, alias: str | None, *, spread: bool
) -> SelectRelation:
    """Read what may stand between the name of a relation and its parentheses."""
    hint: str | None = None
    join: Join | None = None
    for _ in range(2):
        if not scanner.take("!"):
            break
        word = parse_name(scanner)
        if word in ("inner", "left"):
            join = join or cast(Join, word)
        else:
            hint = hint or word
    if not scanner.sees("("):
        scanner.fail('"("')
    return SelectRelation(name, (), alias, hint, join, spread)


def _alias(scanner: Scanner) -> str | None:
    start = scanner.position
    name = scanner.name()
    if name is not None and scanner.sees(":") and not scanner.sees("::"):
        scanner.position += 1
        scanner.expects('":"')
        return name
    scanner.position = start
    return None


def _field(scanner: Scanner) -> SelectItem:
    scanner.spaces()
    field = scanner.choose(_all, _count, _column)
    scanner.spaces()
    return field


def _all(scanner: Scanner) -> SelectField:
    scanner.expect("*")
    _end_of_field(scanner)
    return SelectField(FieldPath("*"))


def _count(scanner: Scanner) -> SelectField:
    alias = _alias(scanner)
    scanner.expect("count()")
    aggregate_cast = names.cast(scanner)
    _end_of_field(scanner)
    return SelectField(FieldPath(""), alias, None, "count", aggregate_cast)


def _column(scanner: Scanner) -> SelectField:
    alias = _alias(scanner)
    scanner.spaces()
    field = parse_field(scanner)
    scanner.spaces()
    cast_to = names.cast(scanner)
    aggregate: Aggregate | None = None
    if scanner.take("."):
        aggregate = cast(Aggregate, scanner.word(*_AGGREGATES))
        if not scanner.take_whole("()"):
            scanner.fail()
    aggregate_cast = names.cast(scanner)
    _end_of_field(scanner)
    return SelectField(field, alias, cast_to, aggregate, aggregate_cast)


def _end_of_field(scanner: Scanner) -> None:
    if scanner.sees(")") or scanner.sees(","):
        return
    scanner.expects('")"', '","')
    scanner.end()
    scanner.expects(END)


def _term(scanner: Scanner) -> OrderingTerm:
    scanner.spaces()
    term = scanner.choose(_relation_term, _column_term)
    scanner.spaces()
    return term


def _relation_term(scanner: Scanner) -> OrderingTerm:
    relation = parse_name(scanner)
    scanner.expect("(")
    scanner.spaces()
    field = parse_field(scanner)
    scanner.spaces()
    scanner.expect(")")
    return OrderingTerm(field, *_direction(scanner), relation)


def _column_term(scanner: Scanner) -> OrderingTerm:
    field = parse_field(scanner)
    scanner.spaces()
    return OrderingTerm(field, *_direction(scanner))


def _direction(scanner: Scanner) -> tuple[bool | None, bool | None]:
    """Return whether it is descending, and whether nulls come first; None where nothing says so."""
    descending = nulls_first = None
    word = _after_dot(scanner, *_DIRECTIONS, *_NULLS)
    if word in _DIRECTIONS:
        descending = word == "desc"
        word = _after_dot(scanner, *_NULLS)
    if word is not None:
        nulls_first = word == "nullsfirst"
    if not scanner.sees(","):
        scanner.end(*(['","'] if word else ["delimiter (.)", '","']))
    return descending, nulls_first


def _after_dot(scanner: Scanner, *words: str) -> str | None:
    if not scanner.sees("."):
        return None
    scanner.position += 1
    return scanner.word(*words)
