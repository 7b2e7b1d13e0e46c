"""One text for values that are the same, although two databases write them in different ways."""

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from amphibase.move.tables.array_text import map_array, parse_array
from amphibase.move.tables.types import (
    FLOATS,
    JSON_TYPES,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    is_padded,
    parse_type,
)

Canonicalize = Callable[[str], str]

INTERVAL = re.compile(
    r"(?:(?P<years>[+-]?\d+) years? ?)?(?:(?P<months>[+-]?\d+) mons? ?)?"
    r"(?:(?P<days>[+-]?\d+) days? ?)?"
    r"(?:(?P<sign>[+-])?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<part>\d+))?)?"
)
DAY_US = 86_400_000_000


def canonicalizer(type: str) -> Canonicalize | None:
    """Return what writes equal values of a Postgres type alike; None where texts are so already.

    It is for values of which one side is no Postgres, or of another type: the scale of a number,
    the order of an object's names, the zone of a timestamp in UTC do not count.
    """
    parsed = parse_type(type)
    scalar = _scalar(parsed.name)
    if scalar is None or not parsed.is_array:
        return scalar

    def canonical_array(text: str) -> str:
        try:
            return repr(map_array(parse_array(text), scalar))
        except ValueError:
            return text

    return canonical_array


def _scalar(name: str) -> Canonicalize | None:
    if name in FLOATS:
        return _float
    if name == "numeric":
        return _numeric
    if name in JSON_TYPES:
        return _json
    if name == "interval":
        return _interval
    if is_padded(name):
        return _without_blanks
    if name in (TIMESTAMP, TIMESTAMPTZ, TIMETZ):
        return _without_utc
    return None


def _float(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text


def _numeric(text: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite():
        return str(number)
    # Its digits and its exponent, never its zeros: 1e300000000 has as many as it says.
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    if not stripped:
        return "0"
    return f"{'-' if sign else ''}{stripped}e{exponent + len(text) - len(stripped)}"


class _Number(str):
    """A number of a JSON text, in its own digits."""

    __slots__ = ()


def _json(text: str) -> str:
    try:
        return _flat(json.loads(text, parse_int=_Number, parse_float=_Number))
    except (ValueError, RecursionError):
        return text


def _flat(value: Any) -> str:
    match value:
        case dict():
            parts = [f"{json.dumps(key)}:{_flat(value[key])}" for key in sorted(value)]
            return "{" + ",".join(parts) + "}"
        case list():
            return "[" + ",".join(map(_flat, value)) + "]"
        case _Number():
            return _numeric(value)
        case _:
            return json.dumps(value)


def _interval(text: str) -> str:
    microseconds = interval_microseconds(text)
    return text if microseconds is None else f"{microseconds[0]} {microseconds[1]}"


def interval_microseconds(text: str) -> tuple[int, int] | None:
    """Return the months of an interval and its microseconds, days being 24 hours.

    Returns:
        None where it is without end.
    """
    match = INTERVAL.fullmatch(text)
    if match is None or not text:
        return None
    part = match.groupdict()
    months = int(part["years"] or 0) * 12 + int(part["months"] or 0)
    seconds = (
        int(part["hours"] or 0) * 3600 + int(part["minutes"] or 0) * 60 + int(part["seconds"] or 0)
    )
    time = seconds * 1_000_000 + int((part["part"] or "").ljust(6, "0"))
    return months, int(part["days"] or 0) * DAY_US + (-time if part["sign"] == "-" else time)


def _without_blanks(text: str) -> str:
    return text.rstrip(" ")


def _without_utc(text: str) -> str:
    return text.removesuffix("+00")
