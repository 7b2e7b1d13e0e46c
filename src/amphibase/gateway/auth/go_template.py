"""The part of Go's templates that email templates of Supabase use
(https://supabase.com/docs/guides/auth/auth-email-templates, https://pkg.go.dev/text/template):
expressions, `if`, `else if`, `else`, `end`, comments, and dashes that trim."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from amphibase.gateway.auth.go_expression import (
    MAX_DEPTH,
    Expression,
    TemplateError,
    parse_expression,
    to_text,
)

_COMMENT = re.compile(r"/\*.*\*/", re.DOTALL)
_IF = re.compile(r"(else\s+)?if\s+(.*)", re.DOTALL)

Escape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Block:
    """What follows an `if` up to its `end`."""

    condition: Expression
    then: "Parts" = field(default_factory=list)
    otherwise: "Parts" = field(default_factory=list)


Parts = list[str | Expression | _Block]


class GoTemplate:
    """A template.

    Args:
        text: of the template.

    Raises:
        TemplateError: it has an action or a value that is not supported; names it.
    """

    def __init__(self, text: str) -> None:
        self._parts: Parts = []
        _parse(text, self._parts)

    def render(self, values: Mapping[str, Any], escape: Escape = str) -> str:
        """Return the text with its values; one that is missing is empty.

        Args:
            escape: how a value is written.

        Raises:
            TemplateError: Go would not write it either, such as a comparison of text and number.
        """
        return "".join(_rendered(self._parts, values, escape))


def _parse(text: str, parts: Parts) -> None:
    open_blocks: list[tuple[_Block, Parts]] = []
    current, position, trims = parts, 0, False
    while (start := text.find("{{", position)) >= 0:
        end = text.find("}}", start)
        if end < 0:
            raise TemplateError("has an action without its }}")
        literal = text[position:start].lstrip() if trims else text[position:start]
        action = text[start + len("{{") : end]
        if action.startswith("- "):
            literal, action = literal.rstrip(), action.removeprefix("- ")
        current.append(literal)
        position, trims = end + len("}}"), action.endswith(" -")
        action = action.removesuffix(" -").strip()
        in_then = bool(open_blocks) and current is open_blocks[-1][0].then
        if begun := _IF.fullmatch(action):
            if begun[1] and not in_then:
                raise TemplateError(f"{{{{ {action[:50]} }}}} is not supported in a template")
            if len(open_blocks) == MAX_DEPTH:
                raise TemplateError("has too many {{ if }} within one another")
            block = _Block(parse_expression(begun[2]))
            if begun[1]:  # one `end` ends them all
                before, after = open_blocks.pop()
                before.otherwise.append(block)
            else:
                after = current
                current.append(block)
            open_blocks.append((block, after))
            current = block.then
        elif action == "else" and in_then:
            current = open_blocks[-1][0].otherwise
        elif action == "end" and open_blocks:
            _, current = open_blocks.pop()
        elif not _COMMENT.fullmatch(action):
            current.append(parse_expression(action))
    if open_blocks:
        raise TemplateError("has an {{ if }} without its {{ end }}")
    current.append(text[position:].lstrip() if trims else text[position:])


def _rendered(parts: Parts, values: Mapping[str, Any], escape: Escape) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _Block):
            chosen = part.then if part.condition(values) else part.otherwise
            yield from _rendered(chosen, values, escape)
        else:
            yield escape(to_text(part(values)))
