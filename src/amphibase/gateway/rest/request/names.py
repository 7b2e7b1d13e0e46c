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
    while scanner.take(","):
        names.append(parse_name(scanner))
    scanner.end()
    return tuple(names)


def cast(scanner: Scanner) -> str | None:
    """Read `::type`, or nothing. Raises QuerySyntaxError."""
    if not scanner.take("::"):
        return None
    name = scanner.match(_WORD)
    if name is None:
        scanner.fail("cast type")
    return name.strip()
