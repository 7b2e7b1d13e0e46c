"""Reads a text from left to right and, where it cannot go on, says what it expected there.

The words of its errors are those PostgREST's users know: `unexpected "x" expecting …`.
"""

import re
from typing import Final, NoReturn

from amphibase.gateway.rest.errors.base import ParseError

DEEPEST: Final = 60
"""How far parentheses may nest, here and in the planner, which follow them by recursion."""

_END = "end of input"
_NAME_PART = re.compile(r"[\w $]+")
_KEY_PART = re.compile(r"[^(\-:.,>)\"]+")
_INDEX = re.compile(r"-?[0-9]{1,9}(?=->|::|[.,)(]|$)")


class Scanner:
    """A position in a text.

    Args:
        what: names the text in errors, such as "filter".
        before: what stands before the text, as columns of errors count it.
    """

    def __init__(self, text: str, what: str, before: str = "") -> None:
        self.text = text
        self.at = 0
        self._what = what
        self._before = before
        self._depth = 0
        self._furthest = 0
        self._expected: list[str] = []

    def fail(self, *expected: str) -> NoReturn:
        """Refuse the text where it was understood the furthest. Raises ParseError."""
        self._note(*expected)
        at = self._furthest
        unexpected = _END
        if at < len(self.text):
            char = self.text[at]
            unexpected = f"'{char}'" if _END in self._expected else _shown(char)
        details = f"unexpected {unexpected}"
        if self._expected:
            details += f" expecting {_alternatives(self._expected)}"
        source = _shown(f"failed to parse {self._what} ({self.text})")
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at) + (len(self._before) if line == 1 else 0)
        raise ParseError(f"{source} (line {line}, column {column})", details)

    @property
    def ended(self) -> bool:
        return self.at >= len(self.text)

    def sees(self, literal: str) -> bool:
        """Whether the text goes on so."""
        return self.text.startswith(literal, self.at)

    def take(self, literal: str) -> bool:
        """Go past the literal if the text goes on so."""
        if self.text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        self._note(f'"{literal}"')
        return False

    def expect(self, literal: str, *instead: str) -> None:
        """Go past the literal. Raises ParseError, which also names what else could be there."""
        if not self.take(literal):
            self.fail(*instead)

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Go past what matches, and return it."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def spaces(self) -> None:
        """Go past blanks."""
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def rest(self) -> str:
        """All that is left."""
        found = self.text[self.at :]
        self.at = len(self.text)
        return found

    def end(self, *instead: str) -> None:
        """Refuse anything more. Raises ParseError."""
        if not self.ended:
            self.fail(*instead, _END)

    def deeper(self) -> None:
        """Enter parentheses. Raises ParseError when there are too many."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise ParseError(
                f"failed to parse {self._what}: parentheses nest deeper than {DEEPEST} levels"
            )

    def shallower(self) -> None:
        """Leave parentheses."""
        self._depth -= 1

    def quoted(self) -> str | None:
        """The content of "…", in which a backslash stands before a quote or a backslash."""
        if not self.sees('"'):
            return None
        start, self.at = self.at, self.at + 1
        parts: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                return "".join(parts)
            if char == "\\" and self.at < len(self.text):
                char = self.text[self.at]
                self.at += 1
            parts.append(char)
        self._note('"\\""')
        self.at = start
        return None

    def name(self, expected: str = "field name (* or [a..z0..9_$])") -> str | None:
        """A name: in quotes, or words, with dashes between them."""
        quoted = self.quoted()
        if quoted is not None:
            return quoted
        return self._dashed(_NAME_PART, expected)

    def json_key(self) -> str | int | None:
        """What follows an arrow: a key, or an index."""
        index = self.match(_INDEX)
        if index is not None:
            return int(index)
        quoted = self.quoted()
        if quoted is not None:
            return quoted
        return self._dashed(_KEY_PART, "any non reserved character different from: .,>()")

    def _dashed(self, part: re.Pattern[str], expected: str) -> str | None:
        first = self.match(part)
        if first is None:
            self._note(expected)
            return None
        parts = [first.strip()]
        while self.sees("-") and not self.sees("->"):
            start, self.at = self.at, self.at + 1
            following = self.match(part)
            if following is None:
                self._note(expected)
                self.at = start
                break
            parts.append(following.strip())
        self._note("letter", "digit", '"-"')
        return "-".join(parts)

    def _note(self, *expected: str) -> None:
        if self.at > self._furthest:
            self._furthest, self._expected = self.at, []
        if self.at == self._furthest:
            self._expected += [each for each in expected if each not in self._expected]


def _shown(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _alternatives(expected: list[str]) -> str:
    if len(expected) == 1:
        return expected[0]
    return f"{', '.join(expected[:-1])} or {expected[-1]}"
