"""What Go's `encoding/json` says of a body that it cannot decode, as Supabase Auth passes it on.

The words are those of its `scanner.go` and of `UnmarshalTypeError` in its `decode.go`
(https://pkg.go.dev/encoding/json).
"""

import re
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

UNEXPECTED_END = "unexpected end of JSON input"

_SPACE = re.compile(rb"[ \t\r\n]*")
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_TYPES = {str: "string", bool: "bool", UUID: "uuid.UUID"}
_ESCAPES = {char: f"\\{letter}" for char, letter in zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True)}


class _Invalid(Exception):
    pass


def syntax_error(content: bytes) -> str | None:
    """Return what is wrong with the syntax of a text; None where it is JSON to Go, which takes
    bytes that are not UTF-8."""
    try:
        position = _skip(content, _value(content, 0))
        if position < len(content):
            raise _invalid(content, position, "after top-level value")
    except _Invalid as error:
        return str(error)
    return None


def type_error(value: Any, kind: type[BaseModel], name: str) -> str | None:
    """Return which part of a decoded text has another type than the field that it is for.

    Args:
        kind: the fields; their names have small letters.
        name: of the type in Go.
    """
    if not isinstance(value, dict):
        return f"json: cannot unmarshal {_kind_of(value)} into Go value of type api.{name}"
    for key, each in value.items():
        field = kind.model_fields.get(key.lower())
        if field is None or each is None:
            continue
        for part, wanted in _parts(each, _bare(field.annotation)):
            if wanted is UUID and isinstance(part, str):
                if fault := _uuid_error(part):
                    return fault
            elif not _fits(part, wanted):
                where = f"{name}.{key.lower()} of type {_go_type(wanted)}"
                return f"json: cannot unmarshal {_kind_of(part)} into Go struct field {where}"
    return None


def quoted(text: str, quote: str = '"', *, is_ascii: bool = False) -> str:
    """Return a text as Go's `strconv.Quote` writes it, which escapes what cannot be printed.

    Args:
        is_ascii: whether each byte that is not ASCII is escaped, as by Go's package `time`.
    """
    written = "".join(_escaped(character, quote) for character in text)
    if is_ascii:
        content = written.encode("utf-8", "surrogatepass")
        written = "".join(chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in content)
    return quote + written + quote


def _escaped(character: str, quote: str) -> str:
    if character in (quote, "\\"):
        return f"\\{character}"
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if character == " " or (character.isprintable() and not 0xD800 <= code < 0xE000):
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _invalid(content: bytes, position: int, context: str) -> _Invalid:
    if position >= len(content):
        return _Invalid(UNEXPECTED_END)
    return _broken(content, position, context)


def _broken(content: bytes, position: int, context: str) -> _Invalid:
    """Return the error for a character inside a literal, a number or an escape, which end with a
    space where the text ends."""
    character = chr(content[position]) if position < len(content) else " "
    return _Invalid(f"invalid character {quoted(character, chr(39))} {context}")


def _skip(content: bytes, position: int) -> int:
    space = _SPACE.match(content, position)
    return space.end() if space else position


def _byte(content: bytes, position: int) -> int:
    return content[position] if position < len(content) else -1


def _value(content: bytes, position: int) -> int:
    """Return where a value ends, however deep it is nested."""
    closings: list[int] = []
    while True:
        position = _skip(content, position)
        first = _byte(content, position)
        if first in _CLOSING:
            closing = _CLOSING[first]
            position = _skip(content, position + 1)
            if _byte(content, position) != closing:
                closings.append(closing)
                if closing == ord("}"):
                    position = _key(content, position)
                continue
            position += 1
        else:
            position = _scalar(content, position)
        while closings:
            position = _skip(content, position)
            found = _byte(content, position)
            is_object = closings[-1] == ord("}")
            if found == ord(","):
                position = _skip(content, position + 1)
                if is_object:
                    position = _key(content, position)
                break
            if found != closings[-1]:
                context = "after object key:value pair" if is_object else "after array element"
                raise _invalid(content, position, context)
            closings.pop()
            position += 1
        else:
            return position


def _key(content: bytes, position: int) -> int:
    """Return where the value of a key begins."""
    if _byte(content, position) != ord('"'):
        raise _invalid(content, position, "looking for beginning of object key string")
    position = _skip(content, _string(content, position + 1))
    if _byte(content, position) != ord(":"):
        raise _invalid(content, position, "after object key")
    return position + 1


def _scalar(content: bytes, position: int) -> int:
    first = _byte(content, position)
    if first == ord('"'):
        return _string(content, position + 1)
    if first in _LITERALS:
        return _literal(content, position, _LITERALS[first])
    if first == ord("-") or _is_digit(first):
        return _number(content, position)
    raise _invalid(content, position, "looking for beginning of value")


def _string(content: bytes, position: int) -> int:
    while True:
        character = _byte(content, position)
        if character < 0x20:
            raise _invalid(content, position, "in string literal")
        position += 1
        if character == ord('"'):
            return position
        if character != ord("\\"):
            continue
        escape = _byte(content, position)
        if escape < 0 or escape not in b'bfnrt\\/"u':
            raise _broken(content, position, "in string escape code")
        position += 1
        if escape == ord("u"):
            for _ in range(4):
                digit = _byte(content, position)
                if digit < 0 or digit not in b"0123456789abcdefABCDEF":
                    raise _broken(content, position, r"in \u hexadecimal character escape")
                position += 1


def _literal(content: bytes, position: int, word: bytes) -> int:
    for offset, letter in enumerate(word):
        if _byte(content, position + offset) != letter:
            context = f"in literal {word.decode()} (expecting {quoted(chr(letter), chr(39))})"
            raise _broken(content, position + offset, context)
    return position + len(word)


def _number(content: bytes, position: int) -> int:
    if _byte(content, position) == ord("-"):
        position += 1
    if _byte(content, position) == ord("0"):
        position += 1
    else:
        position = _digits(content, position, "in numeric literal")
    if _byte(content, position) == ord("."):
        position = _digits(content, position + 1, "after decimal point in numeric literal")
    if _byte(content, position) in (ord("e"), ord("E")):
        position += 1
        if _byte(content, position) in (ord("+"), ord("-")):
            position += 1
        position = _digits(content, position, "in exponent of numeric literal")
    return position


def _digits(content: bytes, position: int, context: str) -> int:
    if not _is_digit(_byte(content, position)):
        raise _broken(content, position, context)
    while _is_digit(_byte(content, position)):
        position += 1
    return position


def _is_digit(character: int) -> bool:
    return ord("0") <= character <= ord("9")


def _kind_of(value: Any) -> str:
    match value:
        case str():
            return "string"
        case bool():
            return "bool"
        case dict():
            return "object"
        case list():
            return "array"
    return "number"


def _bare(annotation: Any) -> Any:
    """Return a type without `None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _parts(value: Any, wanted: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a value, or the elements of a list, and the type of each."""
    if get_origin(wanted) is list and isinstance(value, list):
        element = get_args(wanted)[0]
        yield from ((each, element) for each in value if each is not None)
    else:
        yield value, wanted


def _fits(value: Any, wanted: Any) -> bool:
    return isinstance(value, get_origin(wanted) or (dict if _is_model(wanted) else wanted))


def _is_model(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, BaseModel)


def _go_type(wanted: Any) -> str:
    if get_origin(wanted) is list:
        return f"[]{_go_type(get_args(wanted)[0])}"
    return _TYPES.get(wanted, "map[string]interface {}")


def _uuid_error(text: str) -> str | None:
    """Return what https://github.com/gofrs/uuid says of a text that is no id."""
    if len(text) not in (32, 34, 36, 38, 41, 45):
        length = len(text.encode("utf-8", "surrogatepass"))
        return f"uuid: incorrect UUID length {length} in string {quoted(text)}"
    try:
        UUID(text)
    except ValueError:
        return f"uuid: incorrect UUID format in string {quoted(text)}"
    return None
