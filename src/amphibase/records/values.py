"""Checks of values: what every engine stores alike.

SQLite accepts values that Postgres rejects, and neither names the column and the reason.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import partial
from itertools import repeat
from operator import contains
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Time,
    Uuid,
)
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import JSON, TypeEngine

from amphibase.errors import InvalidValue
from amphibase.models import ExactDecimal, UtcDateTime
from amphibase.records.fields import json_value

MAX_WHOLE_DIGITS = 131_072
MAX_FRACTION_DIGITS = 16_383
"""How long a decimal can be on Postgres (its docs, "Numeric Types")."""

UNLIMITED_CONTEXT = Context(prec=MAX_WHOLE_DIGITS + MAX_FRACTION_DIGITS)

Row = tuple[Any, ...]
"""The values of a row, in the order of its columns."""

Rejection = str | None
"""Why a value is rejected; None for one that is not."""

Check = Callable[[Any], Rejection]

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""In text: what Postgres, or UTF-8, has no room for."""

SIMPLE: tuple[tuple[type[Any], tuple[type[Any], ...], str], ...] = (
    (Boolean, (bool,), "true or false was expected"),
    (Date, (date,), "a date was expected"),
    (Time, (time,), "a time of day was expected"),
    (Interval, (timedelta,), "a timedelta was expected"),
    (LargeBinary, (bytes, bytearray, memoryview), "bytes were expected"),
)


def checker(type_: TypeEngine[Any]) -> Check | None:
    """Return the check of values of a column's type; None where the driver's is enough."""
    list_type = getattr(type_, "_variant_mapping", {}).get("postgresql")
    if isinstance(list_type, ARRAY):
        return partial(_list, checker(list_type.item_type))
    match type_:
        case Enum():
            return partial(_enum, type_)
        case String():
            return partial(_text, type_.length)
        case Integer():
            return partial(_integer, _bits(type_))
        case Uuid() if type_.as_uuid:
            return partial(_instance, (UUID,), "a UUID was expected")
        case UtcDateTime():
            return _timestamp
        case ExactDecimal():
            return partial(_decimal, None)
        case JSON():
            return _json
        case Float():
            return _number
    for kind, classes, rejection in SIMPLE:
        if isinstance(type_, kind):
            return partial(_instance, classes, rejection)
    if isinstance(type_, Numeric):
        return partial(_decimal, type_)
    return None


def normalizer(type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what turns a valid value into the one that the database returns; None where they are
    equal."""
    if isinstance(type_, Float):
        return float
    if isinstance(type_, ExactDecimal):
        return Decimal
    if isinstance(type_, UtcDateTime):
        return partial(datetime.astimezone, tz=UTC)
    if isinstance(type_, Numeric) and type_.asdecimal and type_.scale is not None:
        return partial(_rounded, Decimal(1).scaleb(-type_.scale))
    return None


def coercer(name: str, type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what turns a value of a column into the one that the database returns; None where
    every value is stored as it is. It raises InvalidValue for what an engine rejects."""
    check, normalize = checker(type_), normalizer(type_)
    if check is None:
        return None

    def coerce(value: Any) -> Any:
        rejection = check(value)
        if rejection is not None:
            reject(name, value, rejection)
            return value
        return value if normalize is None else normalize(value)

    return coerce


def fast_check(type_: TypeEngine[Any]) -> Callable[[Sequence[Any]], bool] | None:
    """Return a check of many values at once, none of them None: true where all are stored as they
    are; where false, the coercer has to look at each."""
    match type_:
        case Enum():
            return None if type_.enum_class is None else partial(_fast, type_.enum_class, None)
        case String():
            return partial(_fast, str, partial(_fast_texts, type_.length))
        case Integer():
            return partial(_fast, int, partial(_fast_integers, _bits(type_)))
        case Uuid() if type_.as_uuid:
            return partial(_fast, UUID, None)
        case UtcDateTime():
            return partial(_fast, datetime, _fast_timestamps)
    for kind, classes, _ in SIMPLE:
        if isinstance(type_, kind):
            return partial(_fast, classes[0], None)
    return None


def _fast(
    class_: type[Any], agree: Callable[[Sequence[Any]], bool] | None, values: Sequence[Any]
) -> bool:
    return {*map(type, values)} <= {class_} and (agree is None or not values or agree(values))


def _fast_texts(length: int | None, values: Sequence[str]) -> bool:
    return (
        all(map(str.isascii, values))
        and not any(map(contains, values, repeat("\x00")))
        and (length is None or max(map(len, values)) <= length)
    )


def _fast_integers(bits: int, values: Sequence[int]) -> bool:
    return -(1 << bits - 1) <= min(values) and max(values) < 1 << bits - 1


def _fast_timestamps(values: Sequence[datetime]) -> bool:
    return all(each.tzinfo is UTC for each in values)


def _rounded(step: Decimal, value: Any) -> Decimal:
    # As Postgres rounds: halves away from zero. The default context has room for 28 digits only.
    return Decimal(value).quantize(step, ROUND_HALF_UP, UNLIMITED_CONTEXT)


def operand_checker(type_: TypeEngine[Any]) -> Check | None:
    """Return the check of values that a column of the type is compared with: they may be longer."""
    if isinstance(type_, String) and not isinstance(type_, Enum):
        return partial(_text, None)
    if isinstance(type_, Numeric) and not isinstance(type_, Float):
        return partial(_decimal, None)
    return checker(type_)


def are_expressions(class_: type[Any]) -> bool:
    """Return whether the instances of a class are SQL expressions."""
    return issubclass(class_, ClauseElement) or hasattr(class_, "__clause_element__")


def reject(name: str, value: Any, rejection: str) -> None:
    """Raise InvalidValue, unless the value is an SQL expression, which the database checks."""
    if not are_expressions(type(value)):
        raise InvalidValue(f"{name}: {rejection}", field=name)


def _bits(type_: Integer) -> int:
    if isinstance(type_, SmallInteger):
        return 16
    return 64 if isinstance(type_, BigInteger) else 32


def _instance(classes: tuple[type[Any], ...], rejection: str, value: Any) -> Rejection:
    return None if isinstance(value, classes) else rejection


def _text(length: int | None, value: Any) -> Rejection:
    if not isinstance(value, str):
        return "text was expected"
    if length is not None and len(value) > length:
        return f"at most {length} characters were expected"
    if UNSTORABLE.search(value):
        return "text cannot hold a NUL character or half of a surrogate pair"
    return None


def _number(value: Any) -> Rejection:
    if not isinstance(value, float | int):
        return "a number was expected"
    # JSON has neither infinity nor NaN, and SQLite would keep NaN as NULL.
    return None if math.isfinite(value) else "a finite number was expected"


def _integer(bits: int, value: Any) -> Rejection:
    if not isinstance(value, int) or isinstance(value, bool):
        return "a whole number was expected"
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        return "the number is out of range"
    return None


def _timestamp(value: Any) -> Rejection:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return "a time with a time zone was expected, for example datetime.now(UTC)"
    try:
        value.astimezone(UTC)
    except OverflowError:
        return "a time between the years 1 and 9999 in UTC was expected"
    return None


def _decimal(type_: Numeric[Any] | None, value: Any) -> Rejection:
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float):
        return "a number was expected"
    exact = Decimal(value)
    if not exact.is_finite():
        return "a finite number was expected"
    whole = MAX_WHOLE_DIGITS
    if type_ is not None and type_.precision is not None:
        whole = type_.precision - (type_.scale or 0)
        if exact.adjusted() < whole:
            exact = _rounded(Decimal(1).scaleb(-(type_.scale or 0)), exact)
    if exact and exact.adjusted() >= whole:
        return f"at most {whole} digits before the point were expected"
    if -int(exact.as_tuple().exponent) > MAX_FRACTION_DIGITS:
        return f"at most {MAX_FRACTION_DIGITS} digits behind the point were expected"
    return None


def _enum(type_: Enum, value: Any) -> Rejection:
    classes = type_.enum_class
    if value in type_.enums if isinstance(value, str) and classes is None else False:
        return None
    if classes is not None and isinstance(value, classes):
        return None
    return f"one of {', '.join(type_.enums)} was expected"


def _list(check: Check | None, value: Any) -> Rejection:
    if not isinstance(value, list | tuple):
        return "a list was expected"
    for each in value:
        rejection = None if check is None or each is None else check(each)
        if rejection is not None:
            return rejection
    return None


def _json(value: Any) -> Rejection:
    try:
        json_value(value, others=False)
    except ValueError as error:
        return str(error)
    return None
