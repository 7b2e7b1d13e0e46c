"""Scans a text from left to right and, where it cannot go on, reports what it expected there.

Its errors are worded as PostgREST's are: `unexpected "x" expecting …`.
"""

import re
from typing import Final, NoReturn

MAX_NESTING: Final = 60
"""How far parentheses may nest, since they are followed by recursion."""

_END = "end of input"
_NAME_PART = re.compile(r"[\w $]+")
_KEY_PART = re.compile(r"[^(\-:.,>)\"]+")
_INDEX = re.compile(r"-?[0-9]{1,9}(?=->|::|[.,)(]|$)")


class QuerySyntaxError(ValueError):
    """A text that the grammar does not have.

    Attributes:
        message: names the text and the position, as PostgREST does.
        details: what is there, and what was expected; None where the text is too deep.
        summary: the same in one line, for errors that name the parameter themselves.
    """

    def __init__(self, message: str, details: str | None, summary: str) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.summary = summary


class Scanner:
    """A position in a text.

    Args:
        what: names the text in errors, such as "filter".
        before: what stands before the text, as the columns of errors count it.
    """

    def __init__(self, text: str, what: str, before: str = "") -> None:
        self.text = text
        self.position = 0
        self._what = what
        self._before = before
        self._depth = 0
        self._furthest = 0
        self._fitting = 0  # characters from there, of a word that is not there whole
        self._expected: list[str] = []

    def fail(self, *expected: str) -> NoReturn:
        """Reject the text at the furthest position that was understood.

        Raises:
            QuerySyntaxError: always.
        """
        self._expect(*expected)
        at = self._furthest
        unexpected = _END
        if at + self._fitting < len(self.text):
            char = self.text[at + self._fitting]
            unexpected = f"'{char}'" if _END in self._expected else _escaped(char)
        details = f"unexpected {unexpected}"
        summary = f"unexpected {unexpected} at character {at + 1}"
        if self._expected:
            details += f" expecting {_alternatives(self._expected)}"
            summary = f"expected {_alternatives(self._expected)} at character {at + 1}"
        source = _escaped(f"failed to parse {self._what} ({self.text})")
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at) + (len(self._before) if line == 1 else 0)
        raise QuerySyntaxError(f"{source} (line {line}, column {column})", details, summary)

    @property
    def ended(self) -> bool:
        return self.position >= len(self.text)

    def sees(self, literal: str) -> bool:
        """Return whether the literal is next."""
        return self.text.startswith(literal, self.position)

    def take(self, literal: str) -> bool:
        """Go past the literal if it is next."""
        if self.text.startswith(literal, self.position):
            self.position += len(literal)
            return True
        self._expect(f'"{literal}"')
        return False

    def expect(self, literal: str, *instead: str) -> None:
        """Go past the literal.

        Args:
            instead: what else could be there, for the error.

        Raises:
            QuerySyntaxError: the text goes on differently.
        """
        if not self.take(literal):
            self.fail(*instead)

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Go past what matches and return it, None if nothing does."""
        match = pattern.match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def word(self, *words: str) -> str:
        """Go past one of the words and return it.

        Raises:
            QuerySyntaxError: none is next; unexpected is what the first of them has not.
        """
        taken = next((word for word in words if self.sees(word)), None)
        if taken is None:
            while self.sees(words[0][: self._fitting + 1]):
                self._fitting += 1
            self.fail(*(f'"{word}"' for word in words))
        self.position += len(taken)
        return taken

    def spaces(self) -> None:
        """Go past blanks."""
        while self.position < len(self.text) and self.text[self.position] in " \t":
            self.position += 1

    def rest(self) -> str:
        """Return all that is left."""
        rest = self.text[self.position :]
        self.position = len(self.text)
        return rest

    def end(self, *instead: str) -> None:
        """Reject anything more. Raises QuerySyntaxError."""
        if not self.ended:
            self.fail(*instead, _END)

    def enter(self) -> None:
        """Enter parentheses. Raises QuerySyntaxError when there are too many."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            summary = f"parentheses nest deeper than {MAX_NESTING} levels"
            raise QuerySyntaxError(f"failed to parse {self._what}: {summary}", None, summary)

    def leave(self) -> None:
        """Leave parentheses."""
        self._depth -= 1

    def quoted(self) -> str | None:
        """Return the content of "…", in which a backslash escapes a quote or a backslash."""
        if not self.sees('"'):
            return None
        start, self.position = self.position, self.position + 1
        parts: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            self.position += 1
            if char == '"':
                return "".join(parts)
            if char == "\\" and self.position < len(self.text):
                char = self.text[self.position]
                self.position += 1
            parts.append(char)
        self._expect('"\\""')
        self.position = start
        return None

    def name(self, expected: str = "field name (* or [a..z0..9_$])") -> str | None:
        """Return a name: in quotes, or words with dashes between them; None if none is next."""
        quoted = self.quoted()
        if quoted is not None:
            return quoted
        return self._dashed(_NAME_PART, expected)

    def json_key(self) -> str | int | None:
        """Return what follows an arrow: a key, or an index; None if neither is next."""
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
            self._expect(expected)
            return None
        parts = [first.strip()]
        while self.sees("-") and not self.sees("->"):
            start, self.position = self.position, self.position + 1
            following = self.match(part)
            if following is None:
                self._expect(expected)
                self.position = start
                break
            parts.append(following.strip())
        self._expect("letter", "digit", '"-"')
        return "-".join(parts)

    def _expect(self, *expected: str) -> None:
        if self.position > self._furthest:
            self._furthest, self._expected = self.position, []
        if self.position == self._furthest:
            self._expected += [each for each in expected if each not in self._expected]


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _alternatives(expected: list[str]) -> str:
    if len(expected) == 1:
        return expected[0]
    return f"{', '.join(expected[:-1])} or {expected[-1]}"
