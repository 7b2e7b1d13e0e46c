"""Durations as Supabase's Auth writes them, which are Go's: `24h`, `1m30s`, `300ms`."""

import re
from datetime import timedelta

from amphibase.gateway.auth.go_json import quoted

_UNITS = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ns": 1e-9,
}
_PART = re.compile(r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})(ms|us|µs|μs|ns|h|m|s)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_NUMBER = re.compile(r"[0-9]*\.?[0-9]*")
_UNIT = re.compile(r"[^.0-9]*")
MAX_SECONDS = 2**63 / 1e9
"""What 63 bits of nanoseconds hold: 292 years."""


def parse_duration(text: str) -> timedelta:
    """Read a duration of zero or more. Raises ValueError, for people to read."""
    if text == "0":
        return timedelta(0)
    if not _WHOLE.fullmatch(text):
        raise ValueError("must be a duration such as 24h, 1m30s or 500ms")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > MAX_SECONDS:
        raise ValueError("must be a duration of less than 292 years")
    return timedelta(seconds=seconds)


def parse_signed_duration(text: str) -> timedelta:
    """Read a duration that may be negative. Raises ValueError, in the words of Go."""
    length = text[1:] if text[:1] in ("+", "-") else text
    try:
        return parse_duration(length) * (-1 if text.startswith("-") else 1)
    except ValueError:
        raise ValueError(_fault(length, quoted(text, is_ascii=True))) from None


def _fault(length: str, written: str) -> str:
    """Return what Go's `time.ParseDuration` says of a text that is none."""
    while length:
        number = _NUMBER.match(length)
        if number is None or number[0] in ("", "."):
            break
        unit = _UNIT.match(length, number.end())
        if unit is None or not unit[0]:
            return f"time: missing unit in duration {written}"
        if unit[0] not in _UNITS:
            return f"time: unknown unit {quoted(unit[0], is_ascii=True)} in duration {written}"
        length = length[unit.end() :]
    return f"time: invalid duration {written}"
