"""Scans a text from left to right and, where it cannot go on, reports what it expected there.

Its errors are worded as PostgREST's are: `unexpected "x" expecting …`.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, NoReturn, TypeVar

T = TypeVar("T")

MAX_NESTING: Final = 60
"""How far parentheses may nest, since they are followed by recursion."""

END: Final = "end of input"
_NAME_PART = re.compile(r"[\w $]+")
_KEY_PART = re.compile(r"[^(\-:.,>)]+")
_INDEX = re.compile(r"-?[0-9]{1,9}(?=->|::|[.,)(]|$)")
_NEGATIVE_NUMBER = re.compile(r"-[0-9]*")
_NAME_START = ("letter", "digit")
_AFTER_INDEX = ("digit", '"->"', '"::"', '"."', '","', END)
_IN_QUOTES = ('"\\\\"', '"\\""')
_CONTROLS = (
    *("NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", *"abtnvfr", "SO", "SI", "DLE", "DC1"),
    *("DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US"),
)
_DELETE = 127


class _Description(NamedTuple):
    message: str
    details: str | None
    summary: str


class QuerySyntaxError(ValueError):
    """A text that the grammar does not have.

    It is described when that is read: where readers are tried in turn, most errors are not, and a
    description is as long as the text.

    Attributes:
        message: names the text and the position, as PostgREST does.
        details: what is there, and what was expected; None where the text is too deep.
        summary: the same in one line, for errors that name the parameter themselves.
    """

    def __init__(self, describe: Callable[[], _Description]) -> None:
        super().__init__()
        self._describe = describe

    def __str__(self) -> str:
        return self.message

    @property
    def message(self) -> str:
        return self._describe().message

    @property
    def details(self) -> str | None:
        return self._describe().details

    @property
    def summary(self) -> str:
        return self._describe().summary


class _Failure(NamedTuple):
    """The furthest position that was understood, and what was expected there.

    Attributes:
        fitting: how many characters there begin a word that was expected.
    """

    position: int = 0
    expected: tuple[str, ...] = ()
    fitting: int = 0


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
        self._failure = _Failure()

    def fail(self, *expected: str) -> NoReturn:
        """Reject the text at the furthest position that was understood.

        Raises:
            QuerySyntaxError: always.
        """
        if expected:
            self.expects(*expected)
        raise QuerySyntaxError(partial(self._describe, self._failure))

    def fail_at_word(self, word: str, *expected: str) -> NoReturn:
        """Reject the text here, where the word begins but does not end.

        Raises:
            QuerySyntaxError: always; unexpected is the first character that the word has not.
        """
        self._merge(_Failure(self.position, expected, self._common_length(word)))
        self.fail()

    def expects(self, *expected: str) -> None:
        """Name what could be here, for an error that no other one further on replaces."""
        if self.position >= self._failure.position:
            self._merge(_Failure(self.position, expected))

    def choose(self, *readers: Callable[["Scanner"], T]) -> T:
        """Return what the first reader returns that does not fail; each begins here.

        Raises:
            QuerySyntaxError: all fail; that of the last, once it has read something, else that of
                the one that came furthest.
        """
        *attempts, last = readers
        start, before = self.position, self._failure
        for attempt in attempts:
            try:
                return attempt(self)
            except QuerySyntaxError:
                self.position = start
        failed, self._failure = self._failure, before
        try:
            return last(self)
        except QuerySyntaxError:
            if self.position == start:
                own, self._failure = self._failure, failed
                self._merge(own)
                self.fail()
            raise

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
        self._merge(_Failure(self.position, (f'"{literal}"',), self._common_length(literal)))
        return False

    def take_whole(self, literal: str) -> bool:
        """Go past the literal if it is next.

        Raises:
            QuerySyntaxError: it begins here, and goes on differently.
        """
        if not self.sees(literal) and self.sees(literal[0]):
            self._failure = _Failure(self.position, (f'"{literal}"',), self._common_length(literal))
            self.position += self._failure.fitting
            self.fail()
        return self.take(literal)

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
            self.fail_at_word(words[0], *(f'"{word}"' for word in words))
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
            self.fail(*instead, END)

    def enter(self) -> None:
        """Enter parentheses. Raises QuerySyntaxError when there are too many."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            summary = f"parentheses nest deeper than {MAX_NESTING} levels"
            too_deep = _Description(f"failed to parse {self._what}: {summary}", None, summary)
            raise QuerySyntaxError(lambda: too_deep)

    def leave(self) -> None:
        """Leave parentheses."""
        self._depth -= 1

    def quoted(self) -> str | None:
        """Return the content of "…", in which a backslash escapes a quote or a backslash; None if
        none is next, or none that ends."""
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
        self.position = start
        return None

    def name(self, expected: str = "field name (* or [a..z0..9_$])") -> str | None:
        """Return a name: in quotes, or words with dashes between them; None if none is next.

        Raises:
            QuerySyntaxError: it does not end.
        """
        if self.sees('"'):
            return self._quoted_name()
        parts = self._words(_NAME_PART, *_NAME_START)
        if not parts:
            self.expects(expected)
            return None
        self.expects(*(_NAME_START if len(parts) == 1 else ()), '"-"')
        return "-".join(parts)

    def json_key(self) -> str | int | None:
        """Return what follows an arrow: a key, or an index; None if neither is next.

        Raises:
            QuerySyntaxError: it does not end.
        """
        index = self.match(_INDEX)
        if index is not None:
            return int(index)
        self.expects('"-"', "digit")
        if number := self.match(_NEGATIVE_NUMBER):
            self.fail(*(_AFTER_INDEX if len(number) > 1 else ["digit"]))
        if self.sees('"'):
            return self._quoted_name()
        parts = self._words(_KEY_PART)
        if not parts:
            self.expects("any non reserved character different from: .,>()")
            return None
        return "-".join(parts)

    def _quoted_name(self) -> str:
        name = self.quoted()
        if name is None:
            self.position = len(self.text)
            self.fail(*_IN_QUOTES)
        return name

    def _words(self, pattern: re.Pattern[str], *start: str) -> list[str]:
        """Read words with dashes between them; `start` is what a word begins with."""
        word = self.match(pattern)
        words: list[str] = []
        while word is not None:
            words.append(word.strip())
            if not self.sees("-") or self.sees("->"):
                break
            self.position += 1
            word = self.match(pattern)
            if word is None:
                self.fail('">"', *start)
        return words

    def _common_length(self, word: str) -> int:
        """Return how many characters of the word are next."""
        length = 0
        while length < len(word) and self.sees(word[: length + 1]):
            length += 1
        return length

    def _merge(self, failure: _Failure) -> None:
        """Take in a failure, unless the known one is further on; unexpected is what the first of
        those at one position has not."""
        known = self._failure
        if failure.position > known.position:
            self._failure = failure
        elif failure.position == known.position:
            new = tuple(each for each in failure.expected if each not in known.expected)
            fitting = known.fitting if known.expected else failure.fitting
            self._failure = _Failure(known.position, known.expected + new, fitting)

    def _describe(self, failure: _Failure) -> _Description:
        at, expected, fitting = failure
        unexpected = summary = END
        if END in expected and at < len(self.text):
            unexpected, summary = _shown(self.text[at], "'"), f"'{self.text[at]}'"
        elif at + fitting < len(self.text):
            char = self.text[at + fitting]
            unexpected, summary = _shown(char, '"'), f'"{char}"'
        details = f"unexpected {unexpected}"
        summary = f"unexpected {summary} at character {at + 1}"
        if expected:
            details += f" expecting {_alternatives(expected)}"
            summary = f"expected {_alternatives(expected)} at character {at + 1}"
        source = f'"failed to parse {self._what} ({self.text})"'
        line = self.text.count("\n", 0, at) + 1
        before = f"{self._before}{self.text[:at]}".rpartition("\n")[2]
        column = len(before.expandtabs(8)) + 1
        return _Description(f"{source} (line {line}, column {column})", details, summary)


def _shown(char: str, quote: str) -> str:
    """Write a character as Haskell, in which PostgREST is written, shows one."""
    code = ord(char)
    if char in (quote, "\\"):
        shown = f"\\{char}"
    elif code < len(_CONTROLS):
        shown = f"\\{_CONTROLS[code]}"
    elif code == _DELETE:
        shown = "\\DEL"
    else:
        shown = char if char.isascii() else f"\\{code}"
    return f"{quote}{shown}{quote}"


def _alternatives(expected: tuple[str, ...]) -> str:
    if len(expected) == 1:
        return expected[0]
    return f"{', '.join(expected[:-1])} or {expected[-1]}"
