"""A dialect of SQLAlchemy whose driver is JSON, as PostgREST reads and writes it.

It has what each type makes of a value on its way to the database and back, so that types of the
application's own (`TypeDecorator`) apply here as they do on a connection. Postgres writes JSON by
`to_json`: text for everything but numbers, booleans, arrays and JSON itself
(https://www.postgresql.org/docs/17/functions-json.html).
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import Format
from sqlalchemy import types
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.types import TypeEngine

from amphibase.errors import NotSupported
from amphibase.models import UtcDateTime

Processor = Callable[[Any], Any]

_INTERVAL = re.compile(
    r"(?:([-+]?\d+) years? ?)?(?:([-+]?\d+) mons? ?)?(?:([-+]?\d+) days? ?)?"
    r"(?:([-+]?)(\d+):(\d+):(\d+)(?:\.(\d{1,6}))?)?"
)
"""How Postgres writes intervals (`IntervalStyle` postgres)."""


class _JsonType:
    """What a type makes of values; None where JSON holds them as they are."""

    to_json: Processor | None = None
    from_json: Processor | None = None

    def bind_processor(self, dialect: Any) -> Processor | None:
        return _unless_none(self.to_json)

    def result_processor(self, dialect: Any, coltype: Any) -> Processor | None:
        return _unless_none(self.from_json)


def _unless_none(process: Processor | None) -> Processor | None:
    if process is None:
        return None
    return lambda value: None if value is None else process(value)


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("\\x"))


def _interval(value: timedelta) -> str:
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


def _from_interval(text: str) -> timedelta:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ValueError(f"not an interval: {text}")
    years, months, days = (int(group or 0) for group in match.group(1, 2, 3))
    hours, minutes, seconds = (int(group or 0) for group in match.group(5, 6, 7))
    microseconds = int((match[8] or "").ljust(6, "0"))
    clock = timedelta(0, seconds, microseconds, 0, minutes, hours)
    # As psycopg reckons years and months, which have no fixed length.
    return timedelta(365 * years + 30 * months + days) + (-clock if match[4] == "-" else clock)


class _Json(_JsonType, types.JSON):
    pass


class _Date(_JsonType, types.Date):
    to_json = staticmethod(date.isoformat)
    from_json = staticmethod(date.fromisoformat)


class _DateTime(_JsonType, types.DateTime):
    to_json = staticmethod(datetime.isoformat)
    from_json = staticmethod(datetime.fromisoformat)


class _Time(_JsonType, types.Time):
    to_json = staticmethod(time.isoformat)
    from_json = staticmethod(time.fromisoformat)


class _Interval(_JsonType, postgresql.INTERVAL):
    to_json = staticmethod(_interval)
    from_json = staticmethod(_from_interval)

    @classmethod
    def adapt_emulated_to_native(  # type: ignore[override]  # its two bases disagree
        cls, impl: Any, **kw: Any
    ) -> "_Interval":
        return cls(precision=impl.second_precision)


class _Uuid(_JsonType, types.Uuid[Any]):
    to_json = staticmethod(str)

    def result_processor(self, dialect: Any, coltype: Any) -> Processor | None:
        return _unless_none(UUID) if self.as_uuid else None


class _Bytes(_JsonType, types.LargeBinary):
    to_json = staticmethod(lambda value: f"\\x{bytes(value).hex()}")
    from_json = staticmethod(_from_hex)


class _Float(_JsonType, types.Float[Any]):
    """Comes as text (`is_read_as_text`): JSON has no infinity, and its -0 is an integer."""

    from_json = staticmethod(float)


class _Numeric(_JsonType, types.Numeric[Any]):
    """Comes as text (`is_read_as_text`), since a parser would make a float of it."""

    to_json = staticmethod(lambda value: format(Decimal(value), "f"))

    def result_processor(self, dialect: Any, coltype: Any) -> Processor | None:
        return _unless_none(Decimal if self.asdecimal else float)


class _Array(types.ARRAY[Any]):
    def bind_processor(self, dialect: Any) -> Processor | None:
        return self._of_items(self.item_type.dialect_impl(dialect).bind_processor(dialect))

    def result_processor(self, dialect: Any, coltype: Any) -> Processor | None:
        process = self.item_type.dialect_impl(dialect).result_processor(dialect, None)
        if process is not None and is_read_as_text(self.item_type):
            return _unless_none(partial(_numbers, process))
        return self._of_items(process)

    def _of_items(self, process: Processor | None) -> Processor | None:
        if process is None:
            return None
        return lambda value: None if value is None else _nested(process, value)


def _nested(process: Processor, items: Any) -> list[Any]:
    return [
        _nested(process, item) if isinstance(item, list | tuple) else process(item)
        for item in items
    ]


_TO_JSON = str.maketrans("{}", "[]")


def _numbers(process: Processor, text: str) -> list[Any]:
    """Read an array of numbers as Postgres writes it: `{1.5,NULL}`."""
    array = text.translate(_TO_JSON).replace("NULL", "null")
    numbers: list[Any] = json.loads(
        array, parse_float=process, parse_int=process, parse_constant=process
    )
    return numbers


class JsonDialect(PGDialect):
    """Postgres behind JSON."""

    supports_statement_cache = True
    colspecs = {  # noqa: RUF012 - SQLAlchemy's own declaration
        **PGDialect.colspecs,
        types.JSON: _Json,
        postgresql.JSON: _Json,
        postgresql.JSONB: _Json,
        types.Date: _Date,
        types.DateTime: _DateTime,
        types.Time: _Time,
        types.Interval: _Interval,
        postgresql.INTERVAL: _Interval,
        types.Uuid: _Uuid,
        types.LargeBinary: _Bytes,
        postgresql.BYTEA: _Bytes,
        types.Float: _Float,
        types.Numeric: _Numeric,
        types.ARRAY: _Array,
        postgresql.ARRAY: _Array,
    }


_DIALECT = JsonDialect()  # type: ignore[no-untyped-call]

_PLAIN = (
    types.Boolean, types.Integer, types.String, types.Enum, types.Uuid, types.Float, types.Numeric,
    types.Date, types.DateTime, types.Time, types.Interval, postgresql.INTERVAL,
    types.LargeBinary, types.JSON, postgresql.TSVECTOR,
)  # fmt: skip


@lru_cache(maxsize=4096)
def to_json(type_: TypeEngine[Any]) -> Processor | None:
    """Return what makes JSON of a type's values; None where they are JSON."""
    process: Processor | None = type_.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return process


@lru_cache(maxsize=4096)
def from_json(type_: TypeEngine[Any]) -> Processor | None:
    """Return what makes a type's values of JSON; None where they are JSON."""
    process: Processor | None = type_.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
    return process


@lru_cache(maxsize=4096)
def plain_from_json(type_: TypeEngine[Any]) -> Processor | None:
    """Return what makes a value of JSON that is not null, at less cost than `from_json`.

    Returns:
        None where the type also has something to say of null, or has no quicker way.
    """
    if isinstance(type_, UtcDateTime):
        return _utc
    stored = type_.dialect_impl(_DIALECT)
    if isinstance(stored, _Uuid) and stored.as_uuid:
        return _uuid
    return stored.from_json if isinstance(stored, _JsonType) else None


def is_written_as_it_is(type_: TypeEngine[Any]) -> bool:
    """Return whether the writer of JSON knows the type's values itself."""
    stored = type_.dialect_impl(_DIALECT)
    return isinstance(type_, UtcDateTime) or isinstance(stored, _Uuid | _Date)


_UUID_OID = psycopg.postgres.types["uuid"].oid
_UUID_LOADER: Any = psycopg.adapters.get_loader(_UUID_OID, Format.TEXT)
_load_uuid: Callable[[bytes], UUID] = _UUID_LOADER(_UUID_OID).load


def _uuid(text: str) -> UUID:
    # The driver's way takes a sixth of the time of the class's own.
    return _load_uuid(text.encode())


def _utc(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def stored_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type of the database behind decorators and variants."""
    impl: Any = type_.dialect_impl(_DIALECT)
    while (inner := getattr(impl, "impl_instance", None)) is not None:
        impl = inner.dialect_impl(_DIALECT)
    return impl  # type: ignore[no-any-return]


def is_read_as_text(type_: TypeEngine[Any]) -> bool:
    """Return whether a column is selected as text: its numbers are not those of JSON parsers."""
    stored = stored_type(type_)
    if isinstance(stored, types.ARRAY):
        stored = stored_type(stored.item_type)
    return isinstance(stored, types.Numeric | types.Float)


def check_supported(name: str, type_: TypeEngine[Any]) -> None:
    """Check that a column's values are JSON that keeps all of them.

    Raises:
        NotSupported: names the column.
    """
    stored = stored_type(type_)
    item = stored.item_type if isinstance(stored, types.ARRAY) else stored
    if not isinstance(stored_type(item), _PLAIN):
        raise NotSupported(
            f"{name}: values of the type {type_!r} do not pass through the Data API; exclude the "
            "column from the model, or read it by `supabase()` or over SUPABASE_DB_URL"
        )
