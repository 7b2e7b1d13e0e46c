"""Reads names: of columns with JSON paths, of relations, and lists of them."""

import re

from amphibase.gateway.rest.request.lru import kept
from amphibase.gateway.rest.request.query import Field, Path, Step
from amphibase.gateway.rest.request.scanner import Scanner

_WORD = re.compile(r"[\w $]+")


@kept(1024)
def read_key(text: str) -> tuple[Path, Field]:
    """The key of a filter: `relation.relation.column->path`. Raises ParseError."""
    scanner = Scanner(text, "tree path")
    names = [need_name(scanner)]
    while scanner.take("."):
        names.append(need_name(scanner))
    path = json_path(scanner)
    scanner.end()
    return tuple(names[:-1]), Field(names[-1], path)


@kept(1024)
def read_names(text: str, what: str) -> tuple[str, ...]:
    """Names with commas between them. Raises ParseError."""
    scanner = Scanner(text, what)
    names = [need_name(scanner)]
    while scanner.take(","):
        names.append(need_name(scanner))
    scanner.end()
    return tuple(names)


def need_name(scanner: Scanner) -> str:
    """A name. Raises ParseError."""
    name = scanner.name()
    if name is None:
        scanner.fail()
    return name


def read_field(scanner: Scanner) -> Field:
    """A column, with a JSON path perhaps. Raises ParseError."""
    return Field(need_name(scanner), json_path(scanner))


def json_path(scanner: Scanner) -> tuple[Step, ...]:
    """`->key->>key`, or nothing. Raises ParseError."""
    steps: list[Step] = []
    while True:
        as_text = scanner.take("->>")
        if not as_text and not scanner.take("->"):
            return tuple(steps)
        key = scanner.json_key()
        if key is None:
            scanner.fail()
        steps.append(Step(key, as_text))


def cast(scanner: Scanner) -> str | None:
    """`::type`, or nothing. Raises ParseError."""
    if not scanner.take("::"):
        return None
    name = scanner.match(_WORD)
    if name is None:
        scanner.fail("cast type")
    return name.strip()
