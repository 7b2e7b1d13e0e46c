"""Durations as Supabase's Auth writes them, which are Go's: `24h`, `1m30s`, `300ms`."""

import re
from datetime import timedelta

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})(ms|us|µs|ns|h|m|s)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
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
