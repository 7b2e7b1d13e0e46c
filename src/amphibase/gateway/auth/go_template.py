"""The part of Go's templates that email templates of Supabase use
(https://supabase.com/docs/guides/auth/auth-email-templates, https://pkg.go.dev/text/template):
values by their names, `if`, `else`, `end`, comments, and dashes that trim."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

FIELDS = frozenset(
    {
        "ConfirmationURL", "Data", "Email", "NewEmail", "OldEmail", "RedirectTo", "SiteURL",
        "Token", "TokenHash",
    }
)  # fmt: skip
"""The values that Supabase documents."""

MAX_DEPTH = 50

_ACTION = re.compile(r"\{\{(- )?\s*(.*?)\s*( -)?\}\}", re.DOTALL)
_VALUE = re.compile(r"(?:\.[A-Za-z_]\w*)+")
_COMMENT = re.compile(r"/\*.*\*/", re.DOTALL)

Escape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Value:
    path: str


@dataclass(frozen=True, slots=True)
class _Block:
    """What follows an `if` up to its `end`."""

    condition: str
    then: "Parts" = field(default_factory=list)
    otherwise: "Parts" = field(default_factory=list)


Parts = list[str | _Value | _Block]


class GoTemplate:
    """A template.

    Args:
        text: of the template.

    Raises:
        ValueError: it has an action or a value that is not supported; names it.
    """

    def __init__(self, text: str) -> None:
        self._parts: Parts = []
        _parse(text, self._parts)

    def render(self, values: Mapping[str, Any], escape: Escape = str) -> str:
        """Return the text with its values; one that is missing is empty.

        Args:
            escape: how a value is written.
        """
        return "".join(_rendered(self._parts, values, escape))


def _parse(text: str, parts: Parts) -> None:
    open_blocks: list[_Block] = []
    outer: list[Parts] = []
    current, position, trims = parts, 0, False
    for match in _ACTION.finditer(text):
        literal = text[position : match.start()]
        literal = literal.lstrip() if trims else literal
        current.append(literal.rstrip() if match[1] else literal)
        position, trims = match.end(), bool(match[3])
        action = match[2]
        if _VALUE.fullmatch(action):
            current.append(_Value(_checked(action)))
        elif action.startswith("if ") and _VALUE.fullmatch(action[3:].strip()):
            if len(open_blocks) == MAX_DEPTH:
                raise ValueError("has too many {{ if }} within one another")
            block = _Block(_checked(action[3:].strip()))
            current.append(block)
            open_blocks.append(block)
            outer.append(current)
            current = block.then
        elif action == "else" and open_blocks and current is open_blocks[-1].then:
            current = open_blocks[-1].otherwise
        elif action == "end" and open_blocks:
            open_blocks.pop()
            current = outer.pop()
        elif not _COMMENT.fullmatch(action):
            raise ValueError(f"{{{{ {action[:50]} }}}} is not supported in a template")
    if open_blocks:
        raise ValueError("has an {{ if }} without its {{ end }}")
    rest = text[position:]
    if "{{" in rest:
        raise ValueError("has an action without its }}")
    current.append(rest.lstrip() if trims else rest)


def _checked(path: str) -> str:
    name = path.split(".")[1]
    if name not in FIELDS:
        raise ValueError(f"{{{{ .{name} }}}} is not one of {', '.join(sorted(FIELDS))}")
    return path


def _rendered(parts: Parts, values: Mapping[str, Any], escape: Escape) -> Iterator[str]:
    for part in parts:
        match part:
            case str():
                yield part
            case _Value(path):
                yield escape(_text(_found(path, values)))
            case _Block(condition, then, otherwise):
                chosen = then if _found(condition, values) else otherwise
                yield from _rendered(chosen, values, escape)


def _found(path: str, values: Mapping[str, Any]) -> Any:
    found: Any = values
    for name in path.split(".")[1:]:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
