"""What a value must be to be stored alike on every engine.

SQLite takes values that Postgres refuses, and both say little of what they refuse.
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
MAX_DIGITS_BEHIND = 16_383
"""How long a decimal can be on Postgres (its docs, "Numeric Types")."""

AS_LONG_AS_IT_TAKES = Context(prec=MAX_WHOLE_DIGITS + MAX_DIGITS_BEHIND)

Fault = str | None
Check = Callable[[Any], Fault]
"""What is wrong with a value; None where nothing is."""

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""In text: what Postgres, or UTF-8, has no room for."""

SIMPLE: tuple[tuple[type[Any], tuple[type[Any], ...], str], ...] = (
    (Boolean, (bool,), "true or false was expected"),
    (Date, (date,), "a date was expected"),
    (Time, (time,), "a time of day was expected"),
    (Interval, (timedelta,), "a timedelta was expected"),
    (LargeBinary, (bytes, bytearray, memoryview), "bytes were expected"),
)


def check_of(type_: TypeEngine[Any]) -> Check | None:
    """The check of values of a column's type; None where its own say is enough."""
    list_type = getattr(type_, "_variant_mapping", {}).get("postgresql")
    if isinstance(list_type, ARRAY):
        return partial(_list, check_of(list_type.item_type))
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
            return _moment
        case ExactDecimal():
            return partial(_decimal, None)
        case JSON():
            return _json
        case Float():
            return _number
    for kind, classes, fault in SIMPLE:
        if isinstance(type_, kind):
            return partial(_instance, classes, fault)
    if isinstance(type_, Numeric):
        return partial(_decimal, type_)
    return None


def normal_of(type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """What makes of a value the one that comes back from the database; None where it is that."""
    if isinstance(type_, Float):
        return float
    if isinstance(type_, ExactDecimal):
        return Decimal
    if isinstance(type_, UtcDateTime):
        return partial(datetime.astimezone, tz=UTC)
    if isinstance(type_, Numeric) and type_.asdecimal and type_.scale is not None:
        return partial(_rounded, Decimal(1).scaleb(-type_.scale))
    return None


def acceptance_of(name: str, type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """What makes of a value of a column the one that comes back from the database; None where
    any value is that. It raises InvalidValue for what an engine refuses."""
    check, normal = check_of(type_), normal_of(type_)
    if check is None:
        return None

    def accepted(value: Any) -> Any:
        fault = check(value)
        if fault is not None:
            refuse(name, value, fault)
            return value
        return value if normal is None else normal(value)

    return accepted


def plainness_of(type_: TypeEngine[Any]) -> Callable[[Sequence[Any]], bool] | None:
    """What sees at a glance that some values, of which none is None, all come back from the
    database as they are. Where it does not see it, each has to be looked at."""
    match type_:
        case Enum():
            return None if type_.enum_class is None else partial(_plain, type_.enum_class, None)
        case String():
            return partial(_plain, str, partial(_plain_texts, type_.length))
        case Integer():
            return partial(_plain, int, partial(_plain_integers, _bits(type_)))
        case Uuid() if type_.as_uuid:
            return partial(_plain, UUID, None)
        case UtcDateTime():
            return partial(_plain, datetime, _plain_moments)
    for kind, classes, _ in SIMPLE:
        if isinstance(type_, kind):
            return partial(_plain, classes[0], None)
    return None


def _plain(
    class_: type[Any], agree: Callable[[Sequence[Any]], bool] | None, values: Sequence[Any]
) -> bool:
    return {*map(type, values)} <= {class_} and (agree is None or not values or agree(values))


def _plain_texts(length: int | None, values: Sequence[str]) -> bool:
    return (
        all(map(str.isascii, values))
        and not any(map(contains, values, repeat("\x00")))
        and (length is None or max(map(len, values)) <= length)
    )


def _plain_integers(bits: int, values: Sequence[int]) -> bool:
    return -(1 << bits - 1) <= min(values) and max(values) < 1 << bits - 1


def _plain_moments(values: Sequence[datetime]) -> bool:
    return all(each.tzinfo is UTC for each in values)


def _rounded(step: Decimal, value: Any) -> Decimal:
    # As Postgres rounds: halves away from zero. The default context has room for 28 digits only.
    return Decimal(value).quantize(step, ROUND_HALF_UP, AS_LONG_AS_IT_TAKES)


def check_of_operand(type_: TypeEngine[Any]) -> Check | None:
    """The check of values that are compared with a column of the type: they may be longer."""
    if isinstance(type_, String) and not isinstance(type_, Enum):
        return partial(_text, None)
    if isinstance(type_, Numeric) and not isinstance(type_, Float):
        return partial(_decimal, None)
    return check_of(type_)


def refuse(name: str, value: Any, fault: str) -> None:
    """Raises InvalidValue, unless the value is an SQL expression, which the database judges."""
    if not isinstance(value, ClauseElement) and not hasattr(value, "__clause_element__"):
        raise InvalidValue(f"{name}: {fault}", field=name)


def _bits(type_: Integer) -> int:
    if isinstance(type_, SmallInteger):
        return 16
    return 64 if isinstance(type_, BigInteger) else 32


def _instance(classes: tuple[type[Any], ...], fault: str, value: Any) -> Fault:
    return None if isinstance(value, classes) else fault


def _text(length: int | None, value: Any) -> Fault:
    if not isinstance(value, str):
        return "text was expected"
    if length is not None and len(value) > length:
        return f"at most {length} characters were expected"
    if UNSTORABLE.search(value):
        return "text cannot hold a NUL character or half of a surrogate pair"
    return None


def _number(value: Any) -> Fault:
    if not isinstance(value, float | int):
        return "a number was expected"
    # JSON has neither infinity nor NaN, and SQLite would keep NaN as NULL.
    return None if math.isfinite(value) else "a finite number was expected"


def _integer(bits: int, value: Any) -> Fault:
    if not isinstance(value, int) or isinstance(value, bool):
        return "a whole number was expected"
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        return "the number is out of range"
    return None


def _moment(value: Any) -> Fault:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return "a time with a time zone was expected, for example datetime.now(UTC)"
    try:
        value.astimezone(UTC)
    except OverflowError:
        return "a time between the years 1 and 9999 in UTC was expected"
    return None


def _decimal(type_: Numeric[Any] | None, value: Any) -> Fault:
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
    if -int(exact.as_tuple().exponent) > MAX_DIGITS_BEHIND:
        return f"at most {MAX_DIGITS_BEHIND} digits behind the point were expected"
    return None


def _enum(type_: Enum, value: Any) -> Fault:
    classes = type_.enum_class
    if value in type_.enums if isinstance(value, str) and classes is None else False:
        return None
    if classes is not None and isinstance(value, classes):
        return None
    return f"one of {', '.join(type_.enums)} was expected"


def _list(check: Check | None, value: Any) -> Fault:
    if not isinstance(value, list | tuple):
        return "a list was expected"
    for each in value:
        fault = None if check is None or each is None else check(each)
        if fault is not None:
            return fault
    return None


def _json(value: Any) -> Fault:
    try:
        json_value(value, others=False)
    except ValueError as error:
        return str(error)
    return None
