"""Names in query strings: of columns with JSON paths, and of relations."""

import re

from amphibase.records.filters.scanner import Scanner
from amphibase.records.filters.tree import FieldPath, JsonStep, Path

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_key(text: str) -> tuple[Path, FieldPath]:
    """Parse the key of a filter: `relation.relation.column->path`. Raises QuerySyntaxError."""
    scanner = Scanner(text, "tree path")
    names = [parse_name(scanner)]
    while scanner.sees("."):
        scanner.position += 1
        names.append(parse_name(scanner))
    scanner.expects("delimiter (.)")
    path = parse_json_path(scanner)
    scanner.end()
    return tuple(names[:-1]), FieldPath(names[-1], path)


def parse_name(scanner: Scanner) -> str:
    """Parse a name. Raises QuerySyntaxError."""
    name = scanner.name()
    if name is None:
        scanner.fail()
    return name


def parse_field(scanner: Scanner) -> FieldPath:
    """Parse a column, with or without a JSON path. Raises QuerySyntaxError."""
    return FieldPath(parse_name(scanner), parse_json_path(scanner))


def parse_json_path(scanner: Scanner) -> tuple[JsonStep, ...]:
    """Parse `->key->>key`, or nothing. Raises QuerySyntaxError."""
    steps: list[JsonStep] = []
    while True:
        as_text = scanner.take("->>")
        if not as_text and not scanner.take("->"):
            return tuple(steps)
        key = scanner.json_key()
        if key is None:
            scanner.fail()
        steps.append(JsonStep(key, as_text))


def format_field(field: FieldPath) -> str:
    """Write a column with its JSON path."""
    return format_name(field.name) + "".join(map(_format_step, field.path))


def format_name(name: str) -> str:
    """Write a name, in quotes unless it is one word."""
    return name if _PLAIN_NAME.fullmatch(name) else quote(name)


def _format_step(step: JsonStep) -> str:
    key = str(step.key) if isinstance(step.key, int) else format_name(step.key)
    return f"{'->>' if step.as_text else '->'}{key}"


def quote(text: str) -> str:
    """Write a name or a value in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
