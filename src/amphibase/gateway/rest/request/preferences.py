"""Reads `Prefer` (RFC 7240), and says in `Preference-Applied` what was heeded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Representation = Literal["minimal", "headers-only", "representation"]
Count = Literal["exact", "planned", "estimated"]

_CHOICES = {
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "return": ("minimal", "headers-only", "representation"),
    "count": ("exact", "planned", "estimated"),
    "tx": ("commit", "rollback"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
}
_OFFSET = re.compile(r"[+-]?[0-9]{1,2}(:[0-5][0-9])?")
"""An offset from UTC, which Postgres takes for a time zone: a number counts hours to the east, and
hours with minutes count to the west, as in POSIX. PostgREST has it since version 16."""

_NUMBER = re.compile(r"-?[0-9]{1,18}")

_ORDER = ("resolution", "missing", "return", "count", "tx", "handling", "timezone", "max-affected")


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a request prefers; None where it does not say.

    Attributes:
        invalid: unknown preferences, and values that a preference does not have.
    """

    resolution: Literal["merge-duplicates", "ignore-duplicates"] | None = None
    representation: Representation | None = None
    count: Count | None = None
    end: Literal["commit", "rollback"] | None = None
    missing: Literal["default", "null"] | None = None
    handling: Literal["strict", "lenient"] | None = None
    timezone: str | None = None
    max_affected: int | None = None
    invalid: tuple[str, ...] = ()

    @property
    def is_strict(self) -> bool:
        return self.handling == "strict"

    def applied(self, *names: str) -> str | None:
        """Return the value of `Preference-Applied`, for the preferences of these names."""
        if self is NONE:
            return None
        values = {
            "resolution": self.resolution,
            "return": self.representation,
            "count": self.count,
            "tx": self.end,
            "missing": self.missing,
            "handling": self.handling,
            "timezone": self.timezone,
            "max-affected": self.max_affected if self.is_strict else None,
        }
        applied = [
            f"{name}={values[name]}"
            for name in _ORDER
            if name in names and values[name] is not None
        ]
        return ", ".join(applied) or None


NONE = Preferences()


def read_preferences(
    headers: Sequence[str], timezones: frozenset[str], *, may_override_end: bool
) -> Preferences:
    """Read the `Prefer` headers; of a preference that repeats, the first counts.

    Args:
        timezones: the names that the database knows.
        may_override_end: whether `tx` is heeded; else it is known, and ignored.
    """
    preferences: dict[str, Any] = {}  # each value is one of its choices
    invalid = []
    for preference in (part.strip() for header in headers for part in header.split(",")):
        if not preference:
            continue
        name, _, value = preference.partition("=")
        if _is_known(name, value, timezones):
            preferences.setdefault(name, value)
        else:
            invalid.append(preference)
    if not may_override_end:
        preferences.pop("tx", None)
    most = preferences.get("max-affected", "")
    return Preferences(
        resolution=preferences.get("resolution"),
        representation=preferences.get("return"),
        count=preferences.get("count"),
        end=preferences.get("tx"),
        missing=preferences.get("missing"),
        handling=preferences.get("handling"),
        timezone=preferences.get("timezone"),
        max_affected=int(most) if _NUMBER.fullmatch(most) else None,
        invalid=tuple(invalid),
    )


def _is_known(name: str, value: str, timezones: frozenset[str]) -> bool:
    if name == "timezone":
        return value in timezones or _OFFSET.fullmatch(value) is not None
    if name == "max-affected":
        return True  # what is no number is ignored, as upstream
    return value in _CHOICES.get(name, ())
