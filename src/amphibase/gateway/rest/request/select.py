"""Reads `select=` and `order=`."""

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
from amphibase.records.filters.names import parse_field, parse_json_path, parse_name
from amphibase.records.filters.scanner import Scanner
from amphibase.records.filters.tree import FieldPath

_AGGREGATES = ("count", "sum", "avg", "min", "max")


@cached(1024)
def read_select(text: str) -> tuple[SelectItem, ...]:
    """Parse columns and relations, which nest. Raises QuerySyntaxError."""
    scanner = Scanner(text, "select parameter")
    items = _items(scanner)
    scanner.end('")"', '","')
    return items


@cached(1024)
def read_order(text: str) -> tuple[OrderingTerm, ...]:
    """Parse terms with commas between them. Raises QuerySyntaxError."""
    scanner = Scanner(text, "order")
    terms = [_term(scanner)]
    while scanner.take(","):
        terms.append(_term(scanner))
    scanner.end('","')
    return tuple(terms)


_DIRECTIONS = ("asc", "desc")
_NULLS = ("nullsfirst", "nullslast")


def _items(scanner: Scanner) -> tuple[SelectItem, ...]:
    scanner.spaces()
    if scanner.ended or scanner.sees(")"):
        return ()
    items = [_item(scanner)]
    while scanner.take(","):
        scanner.spaces()
        items.append(_item(scanner))
    return tuple(items)


def _item(scanner: Scanner) -> SelectItem:
    if scanner.take("..."):
        relation = _relation(scanner, None, spread=True)
        return relation if relation is not None else scanner.fail('"("')
    if scanner.take("*"):
        return SelectField(FieldPath("*"))
    alias = _alias(scanner)
    start = scanner.position
    relation = _relation(scanner, alias, spread=False)
    if relation is not None:
        return relation
    scanner.position = start
    return _field(scanner, alias)


def _alias(scanner: Scanner) -> str | None:
    start = scanner.position
    name = scanner.name()
    if name is not None and scanner.sees(":") and not scanner.sees("::"):
        scanner.position += 1
        return name
    scanner.position = start
    return None


def _relation(scanner: Scanner, alias: str | None, *, spread: bool) -> SelectRelation | None:
    """A relation, if that is what stands here: a name and parentheses."""
    name = scanner.name()
    if name is None:
        return None
    hint: str | None = None
    join: Join | None = None
    while scanner.take("!"):
        word = parse_name(scanner)
        if word in ("inner", "left") and join is None:
            join = cast(Join, word)
        elif hint is None:
            hint = word
        else:
            scanner.fail('"("')
    if not scanner.take("("):
        if hint is not None or join is not None or spread:
            scanner.fail()
        return None
    if name == "count" and scanner.sees(")") and not spread:
        return None  # the aggregate, not a relation
    scanner.enter()
    select = _items(scanner)
    scanner.expect(")", '","', "end of input")
    scanner.leave()
    return SelectRelation(name, select, alias, hint, join, spread)


def _field(scanner: Scanner, alias: str | None) -> SelectField:
    if scanner.take("count()"):
        return SelectField(FieldPath(""), alias, None, "count", names.cast(scanner))
    field = FieldPath(parse_name(scanner), parse_json_path(scanner))
    cast_to = names.cast(scanner)
    aggregate: Aggregate | None = None
    aggregate_cast = None
    if scanner.take("."):
        for name in _AGGREGATES:
            if scanner.take(f"{name}()"):
                aggregate = cast(Aggregate, name)
                aggregate_cast = names.cast(scanner)
                break
        else:
            scanner.fail()
    return SelectField(field, alias, cast_to, aggregate, aggregate_cast)


def _term(scanner: Scanner) -> OrderingTerm:
    scanner.spaces()
    start = scanner.position
    relation = scanner.name()
    if relation is not None and scanner.sees("("):
        scanner.position += 1
        field = parse_field(scanner)
        scanner.expect(")")
    else:
        relation, scanner.position = None, start
        field = parse_field(scanner)
    descending = nulls_first = None
    word = _after_dot(scanner, *_DIRECTIONS, *_NULLS)
    if word in _DIRECTIONS:
        descending = word == "desc"
        word = _after_dot(scanner, *_NULLS)
    if word is not None:
        nulls_first = word == "nullsfirst"
    scanner.spaces()
    if not scanner.sees(","):
        scanner.end(*(['","'] if word else ["delimiter (.)", '","']))
    return OrderingTerm(field, descending, nulls_first, relation)


def _after_dot(scanner: Scanner, *words: str) -> str | None:
    if not scanner.sees("."):
        return None
    scanner.position += 1
    return scanner.word(*words)
