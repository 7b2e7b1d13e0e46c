"""The text of a stored value between two SQLite databases, by which it arrives as it was.

SQLite keeps values of any kind in a column of any type (https://www.sqlite.org/datatype3.html). A
value of the kind that its column's type prefers is written plainly; of any other, its text says
which.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from amphibase.move.tables.types import affinity

AS_STORED = "as stored"
"""In the place of a Postgres type: the values of this column are texts of this module."""

Stored = int | float | str | bytes

MARK = "\ufdd0"
"""Begins a text that says of which kind its value is; a character that Unicode gives nobody."""

NATIVE: dict[str, frozenset[type]] = {
    "TEXT": frozenset({str}),
    "BLOB": frozenset({bytes}),
    "INTEGER": frozenset({int, float}),
    "NUMERIC": frozenset({int, float}),
    "REAL": frozenset({int, float}),
}

WRITE: dict[type, Callable[..., str]] = {int: str, float: repr, str: str, bytes: bytes.hex}
READ: dict[str, Callable[[str], Stored]] = {
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes.fromhex,
}


@dataclass(frozen=True, slots=True)
class ExactCodec:
    """Both ways for the columns of an affinity.

    Args:
        native: the kinds of values whose texts are plain.
    """

    native: frozenset[type]

    def to_text(self, value: Stored) -> str:
        """Return the text of a value."""
        kind = type(value)
        text = WRITE[kind](value)
        if kind in self.native and _is_plain(value):
            return text
        return f"{MARK}{kind.__name__} {text}"

    def to_stored(self, text: str) -> Stored:
        """Return the value of a text."""
        if text.startswith(MARK):
            kind, value = text[1:].split(" ", 1)
            return READ[kind](value)
        if str in self.native:
            return text
        if bytes in self.native:
            return bytes.fromhex(text)
        return int(text) if text.lstrip("-").isdecimal() else float(text)


def exact_codec(declared: str) -> ExactCodec:
    """Return what writes the values of a column that is declared alike on both sides."""
    return ExactCodec(NATIVE[affinity(declared)])


def _is_plain(value: Stored) -> bool:
    if isinstance(value, str):
        return not value.startswith(MARK)
    return not isinstance(value, float) or math.isfinite(value)
