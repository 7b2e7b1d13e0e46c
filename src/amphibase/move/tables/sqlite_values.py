"""Between what SQLite stores and the text that Postgres writes for the same value.

SQLite knows five kinds of values; what a column means by them is what SQLAlchemy's types, and
Amphibase's, store there (sqlalchemy/dialects/sqlite/base.py, `amphibase.models`). A value that
SQLAlchemy could not read back is rejected rather than stored.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from amphibase.move.tables.array_text import map_array, parse_array, write_array
from amphibase.move.tables.canonical import interval_microseconds
from amphibase.move.tables.sqlite_exact import AS_STORED, Stored, exact_codec
from amphibase.move.tables.types import (
    FLOATS,
    INTEGERS,
    JSON_TYPES,
    MODIFIER,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    affinity,
    parse_type,
)

ToText = Callable[[Stored], str]
ToStored = Callable[[str], Stored]

EPOCH = datetime(1970, 1, 1)
MAX_INTEGER = 2**63
BOOLEANS: dict[Stored, str] = {0: "f", 1: "t"}
LOOKS_NUMERIC = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class SqliteCodec:
    """How a column's values become text, and text its values; NULL is not for it.

    Args:
        to_text: never fails: what it does not understand, the target rejects.
        to_stored: raises ValueError, whose message says why SQLite cannot hold the value.
    """

    to_text: ToText
    to_stored: ToStored

    @property
    def keeps_texts(self) -> bool:
        """Return whether the text of a stored text is itself."""
        return self.to_text is _text


def sqlite_codec(declared: str, type: str) -> SqliteCodec:
    """Return the codec of a column.

    Args:
        declared: the type that the column is declared with.
        type: the Postgres type of the text, as `format_type` writes it; or `AS_STORED`.
    """
    if type == AS_STORED:
        exact = exact_codec(declared)
        return SqliteCodec(exact.to_text, exact.to_stored)
    parsed = parse_type(type)
    if parsed.is_array:
        return _array_codec(parsed.name)
    kind = affinity(declared)
    if kind in ("TEXT", "BLOB"):
        return _scalar_codec(parsed.name, declared, kind)
    codec = _scalar_codec(parsed.name, declared, kind)
    return SqliteCodec(codec.to_text, _kept_as_text(codec.to_stored))


def _scalar_codec(name: str, declared: str, kind: str) -> SqliteCodec:
    if name == "boolean":
        return SqliteCodec(_boolean_text, lambda text: int(text in ("t", "true")))
    if name in INTEGERS:
        return SqliteCodec(_integer_text, _stored_integer)
    if name in FLOATS:
        return SqliteCodec(_float_text, _stored_float)
    if name == "numeric":
        stored = _stored_text if kind in ("TEXT", "BLOB") else _stored_numeric
        return SqliteCodec(_numeric_text(declared), stored)
    if name in (TIMESTAMP, TIMESTAMPTZ):
        return SqliteCodec(_timestamp_text("+00" if name == TIMESTAMPTZ else ""), _stored_timestamp)
    if name == "date":
        return SqliteCodec(_text, _stored_date)
    if name in (TIME, TIMETZ):
        return SqliteCodec(_time_text("+00" if name == TIMETZ else ""), _stored_time)
    if name == "interval":
        return SqliteCodec(_interval_text, _stored_interval)
    if name == "uuid":
        return SqliteCodec(_uuid_text, _stored_uuid(declared, kind))
    if name == "bytea":
        return SqliteCodec(_bytea_text, _stored_bytea)
    if name in JSON_TYPES:
        return SqliteCodec(_text, _stored_text if kind == "TEXT" else _stored_json)
    return SqliteCodec(_text, _stored_text)


def _kept_as_text(to_stored: ToStored) -> ToStored:
    """Reject a text that a column of a numeric affinity would make a number of."""

    def stored(text: str) -> Stored:
        value = to_stored(text)
        if isinstance(value, str) and LOOKS_NUMERIC.fullmatch(value):
            raise ValueError(f"the column is declared so that SQLite makes a number of {value!r}")
        return value

    return stored


def _text(value: Stored) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else str(value)


def _stored_text(text: str) -> Stored:
    return text


def _boolean_text(value: Stored) -> str:
    return BOOLEANS.get(value) or _text(value)


def _integer_text(value: Stored) -> str:
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _text(value)


def _stored_integer(text: str) -> Stored:
    number = int(text)
    if not -MAX_INTEGER <= number < MAX_INTEGER:
        raise ValueError("SQLite's integers have 64 bits")
    return number


def _float_text(value: Stored) -> str:
    if isinstance(value, float):
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value).removesuffix(".0")
    return _text(value)


def _stored_float(text: str) -> Stored:
    number = float(text)
    if math.isnan(number):
        raise ValueError("SQLite stores NaN as NULL")
    return number


def _numeric_text(declared: str) -> ToText:
    """SQLAlchemy reads a float of a NUMERIC(p, s) column with `s` digits after the point."""
    modifier = MODIFIER.search(declared)
    scale = int(modifier[2]) if modifier and modifier[2] else None

    def to_text(value: Stored) -> str:
        if not isinstance(value, float):
            return _text(value)
        if not math.isfinite(value):
            return _float_text(value)
        if scale is not None:
            return f"{value:.{scale}f}"
        return format(Decimal(repr(value)), "f").removesuffix(".0")

    return to_text


def _stored_numeric(text: str) -> Stored:
    number = Decimal(text)
    if number.is_finite():
        if number == number.to_integral_value() and number.copy_abs() < MAX_INTEGER:
            return int(number)
        stored = float(number)
        if Decimal(repr(stored)) == number:
            return stored
    raise ValueError(
        "the column is not declared as text, and SQLite's numbers hold 15 digits and no NaN"
    )


def _timestamp_text(zone: str) -> ToText:
    def to_text(value: Stored) -> str:
        if not isinstance(value, str):
            return _text(value)
        if len(value) == 26 and value[19] == ".":  # as SQLAlchemy writes it
            return value.rstrip("0").rstrip(".") + zone
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            return value
        if parsed.tzinfo is not None:
            parsed = parsed.astimezone(UTC).replace(tzinfo=None)
        return parsed.isoformat(" ", "microseconds").rstrip("0").rstrip(".") + zone

    return to_text


def _stored_timestamp(text: str) -> Stored:
    parsed: datetime = _iso(datetime.fromisoformat, text.removesuffix("+00"))
    return parsed.isoformat(" ", "microseconds")


def _stored_date(text: str) -> Stored:
    _iso(date.fromisoformat, text)
    return text


def _time_text(zone: str) -> ToText:
    def to_text(value: Stored) -> str:
        text = _text(value)
        return (text.rstrip("0").rstrip(".") if "." in text else text) + zone

    return to_text


def _stored_time(text: str) -> Stored:
    parsed: time = _iso(time.fromisoformat, text.removesuffix("+00"))
    return parsed.isoformat("microseconds")


def _iso(parse: Callable[[str], Any], text: str) -> Any:
    try:
        parsed = parse(text)
    except ValueError:
        raise ValueError(f"Python has no such date or time: {text}") from None
    if getattr(parsed, "tzinfo", None) is not None:
        raise ValueError(f"SQLite's times have no zone: {text}")
    return parsed


def _interval_text(value: Stored) -> str:
    try:
        delta = datetime.fromisoformat(_text(value)) - EPOCH
    except ValueError:
        return _text(value)
    seconds = delta.days * 86_400 + delta.seconds
    microseconds = seconds * 1_000_000 + delta.microseconds
    sign = "-" if microseconds < 0 else ""
    minutes, microseconds = divmod(abs(microseconds), 60_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    seconds, microseconds = divmod(microseconds, 1_000_000)
    return f"{sign}{days} days {sign}{hours:02}:{minutes:02}:{seconds:02}.{microseconds:06}"


def _stored_interval(text: str) -> Stored:
    parts = interval_microseconds(text)
    if parts is None or parts[0]:
        raise ValueError(f"Python's intervals have an end, and days for months: {text}")
    try:
        return (EPOCH + timedelta(microseconds=parts[1])).isoformat(" ", "microseconds")
    except OverflowError:
        raise ValueError(f"the interval is too long for SQLite: {text}") from None


def _uuid_text(value: Stored) -> str:
    if isinstance(value, str) and len(value) == 32:  # as SQLAlchemy stores it
        value = value.lower()
        return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"
    try:
        return str(UUID(bytes=value) if isinstance(value, bytes) else UUID(_text(value)))
    except ValueError:
        return _text(value)


def _stored_uuid(declared: str, kind: str) -> ToStored:
    """SQLAlchemy's Uuid is declared as CHAR(32), and has no hyphens."""
    if kind == "BLOB":
        return lambda text: UUID(text).bytes
    if "32" in declared:
        return lambda text: text.replace("-", "")
    return _stored_text


def _bytea_text(value: Stored) -> str:
    return "\\x" + (value if isinstance(value, bytes) else _text(value).encode()).hex()


def _stored_bytea(text: str) -> Stored:
    return bytes.fromhex(text.removeprefix("\\x"))


def _stored_json(text: str) -> Stored:
    """A column of type JSON has a numeric affinity: SQLite makes a number of a JSON number."""
    return _stored_numeric(text) if LOOKS_NUMERIC.fullmatch(text) else text


def _array_codec(element: str) -> SqliteCodec:
    """Lists are JSON on SQLite; SQLAlchemy's ARRAY does not exist there."""
    codec = _scalar_codec(element, "", "BLOB")
    is_number = element in INTEGERS or element in FLOATS
    is_json = element in JSON_TYPES

    def element_text(value: Any) -> str | None:
        if value is None:
            return None
        if is_json:
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, bool):
            return "t" if value else "f"
        return str(value) if isinstance(value, str) else codec.to_text(value)

    def to_text(value: Stored) -> str:
        try:
            items = json.loads(_text(value))
        except ValueError:
            return _text(value)
        return write_array(items, element_text) if isinstance(items, list) else _text(value)

    def from_text(text: str) -> Any:
        if is_json:
            return json.loads(text)
        if element == "boolean":
            return text == "t"
        return float(text) if element in FLOATS else int(text) if is_number else text

    def to_stored(text: str) -> Stored:
        return json.dumps(map_array(parse_array(text), from_text))

    return SqliteCodec(to_text, to_stored)
