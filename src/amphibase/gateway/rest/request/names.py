"""Reads names of columns and types."""

import re

from amphibase.gateway.rest.request.lru import cached
from amphibase.records.filters.names import parse_key, parse_name
from amphibase.records.filters.scanner import Scanner

_WORD = re.compile(r"[\w $]+")

read_key = cached(1024)(parse_key)


@cached(1024)
def read_names(text: str, what: str) -> tuple[str, ...]:
    """Parse names with commas between them. Raises QuerySyntaxError."""
    scanner = Scanner(text, what)
    names = [parse_name(scanner)]
    while take_comma(scanner):
        names.append(parse_name(scanner))
    scanner.end()
    return tuple(names)


def cast(scanner: Scanner) -> str | None:
    """Read `::type`, or nothing. Raises QuerySyntaxError."""
    if not scanner.take_whole("::"):
        return None
    name = scanner.match(_WORD)
    scanner.expects("letter", "digit")
    if name is None:
        scanner.fail()
    return name.strip()


def take_comma(scanner: Scanner) -> bool:
    """Go past a comma with the blanks around it, if it is next. Raises QuerySyntaxError where
    blanks are."""
    start = scanner.position
    scanner.spaces()
    is_next = scanner.take(",")
    if is_next:
        scanner.spaces()
    elif scanner.position > start:
        scanner.fail()
    return is_next
