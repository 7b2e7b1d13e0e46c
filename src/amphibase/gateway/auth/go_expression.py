"""The expressions of Go's templates that email templates use
(https://pkg.go.dev/text/template#hdr-Functions): values by their names, constants, parentheses, and
the functions and, eq, index, ne, not and or."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

FIELDS = frozenset(
    {
        "ConfirmationURL", "Data", "Email", "FactorType", "NewEmail", "OldEmail", "OldPhone",
        "Phone", "Provider", "RedirectTo", "SendingTo", "SiteURL", "Token", "TokenHash",
    }
)  # fmt: skip
"""The values that Supabase documents."""

MAX_DEPTH = 50

Values = Mapping[str, Any]
Expression = Callable[[Values], Any]

_TOKEN = re.compile(
    r"""(?P<path>(?:\.[A-Za-z_]\w*)+)|(?P<quoted>"(?:[^"\\\n]|\\.)*")|`(?P<raw>[^`]*)`"""
    r"|(?P<float>-?\d+\.\d+)|(?P<integer>-?\d{1,18})|(?P<name>[a-z]+)|(?P<bracket>[()])"
)


class TemplateError(ValueError):
    """A template is not supported, or cannot be written with the values of an email."""


class _Integer(int):
    """A constant without a point, which Go compares with no number of JSON: those are float64."""


def parse_expression(text: str) -> Expression:
    """Return the function that evaluates an expression.

    Raises:
        TemplateError: it is not supported; the message quotes it, or names the value.
    """
    return _Parser(text).parse()


def to_text(value: Any) -> str:
    """Write a value as Go does (https://pkg.go.dev/fmt)."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _Integer() | str():
            return str(value)
        case int() | float():
            return _number_to_text(float(value))
        case Mapping():
            return f"map[{' '.join(f'{key}:{_nested(value[key])}' for key in sorted(value))}]"
        case Sequence():
            return f"[{' '.join(map(_nested, value))}]"
    return str(value)


def _nested(value: Any) -> str:
    return "<nil>" if value is None else to_text(value)


def _number_to_text(value: float) -> str:
    """Write the fewest digits, with an exponent from a million on and below a ten thousandth."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    candidates = (f"{value:.{digits}e}" for digits in range(17))
    return next(text for text in candidates if float(text) == value)


class _Parser:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position) or self._reject()
            assert match.lastgroup is not None
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = end = match.end()
            while text[position : position + 1].isspace():
                position += 1
            if not (position > end or text[end : end + 1] in ("", ")") or match[0] == "("):
                self._reject()
        self._tokens.reverse()

    def parse(self) -> Expression:
        expression = self._call_or_operand(0)
        return self._reject() if self._tokens else expression

    def _call_or_operand(self, depth: int) -> Expression:
        kind, word = self._tokens[-1] if self._tokens else self._reject()
        if kind != "name" or word in _CONSTANTS:
            return self._operand(depth)
        self._tokens.pop()
        function, fewest, most = _FUNCTIONS.get(word) or self._reject()
        arguments: list[Expression] = []
        while self._tokens and self._tokens[-1] != ("bracket", ")"):
            arguments.append(self._operand(depth))
        if not fewest <= len(arguments) <= most:
            self._reject()
        return lambda values: function(values, arguments)

    def _operand(self, depth: int) -> Expression:
        kind, word = self._tokens.pop()
        if kind == "path":
            return _path(word)
        if (kind, word) == ("bracket", "(") and self._tokens and depth < MAX_DEPTH:
            expression = self._call_or_operand(depth + 1)
            if not self._tokens or self._tokens.pop() != ("bracket", ")"):
                self._reject()
            return expression
        constant = self._constant(kind, word)
        return lambda values: constant

    def _constant(self, kind: str, word: str) -> Any:
        match kind:
            case "name" if word in _CONSTANTS:
                return _CONSTANTS[word]
            case "raw":
                return word
            case "float":
                return float(word)
            case "integer":
                return _Integer(word)
            case "quoted":
                try:
                    return json.loads(word)
                except ValueError:
                    pass
        return self._reject()

    def _reject(self) -> NoReturn:
        raise TemplateError(f"{{{{ {self._text[:50]} }}}} is not supported in a template")


def _path(path: str) -> Expression:
    first, *others = path.split(".")[1:]
    if first not in FIELDS:
        raise TemplateError(f"{{{{ .{first} }}}} is not one of {', '.join(sorted(FIELDS))}")

    def evaluate(values: Values) -> Any:
        value = values.get(first)
        for name in others:
            if value is None:  # a key that is missing has no keys either
                return None
            if not isinstance(value, Mapping):
                raise TemplateError(f"{{{{ {path} }}}}: what is before .{name} is not an object")
            value = value.get(name)
        return value

    return evaluate


def _and(values: Values, arguments: Sequence[Expression]) -> Any:
    for argument in arguments:
        if not (value := argument(values)):
            break
    return value


def _or(values: Values, arguments: Sequence[Expression]) -> Any:
    for argument in arguments:
        if value := argument(values):
            break
    return value


def _not(values: Values, arguments: Sequence[Expression]) -> bool:
    return not arguments[0](values)


def _eq(values: Values, arguments: Sequence[Expression]) -> bool:
    first, *others = (argument(values) for argument in arguments)
    return any(_equal(first, other) for other in others)


def _ne(values: Values, arguments: Sequence[Expression]) -> bool:
    return not _eq(values, arguments)


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    kinds = _kind(one), _kind(other)
    if kinds[0] != kinds[1] or "object" in kinds:
        hint = "; write a number as 30.0" if "an integer" in kinds else ""
        raise TemplateError(f"{kinds[0]} and {kinds[1]} cannot be compared{hint}")
    return bool(one == other)


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "text"
        case _Integer():
            return "an integer"
        case int() | float():
            return "a number"
    return "object"


def _index(values: Values, arguments: Sequence[Expression]) -> Any:
    value, *keys = (argument(values) for argument in arguments)
    for key in keys:
        if isinstance(value, Mapping) and isinstance(key, str):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, _Integer) and 0 <= key < len(value):
            value = value[key]
        else:
            raise TemplateError(f"index has nothing at {key!r}")
    return value


_CONSTANTS = {"true": True, "false": False}
_MANY = 50
_FUNCTIONS: Mapping[str, tuple[Callable[[Values, Sequence[Expression]], Any], int, int]] = {
    "and": (_and, 1, _MANY),
    "eq": (_eq, 2, _MANY),
    "index": (_index, 2, _MANY),
    "ne": (_ne, 2, 2),
    "not": (_not, 1, 1),
    "or": (_or, 1, _MANY),
}
"""Each function, and how many arguments it takes."""
