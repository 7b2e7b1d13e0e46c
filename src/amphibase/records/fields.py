"""What the columns of a mapped class are to the outside: types with their limits, who sets them and
who may see them."""

import base64
import binascii
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, partial
from inspect import get_annotations
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    NaiveDatetime,
    PlainSerializer,
    PydanticSchemaGenerationError,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic import Field as Limits
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Enum,
    Integer,
    Numeric,
    SmallInteger,
    String,
)
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import Mapped
from sqlalchemy.types import JSON, TypeEngine

from amphibase.access import OWNER_COLUMN
from amphibase.models import SoftDelete, Timestamps, Versioned
from amphibase.records.adoption import require_model
from amphibase.records.column_access import column_access
from amphibase.records.durations import duration_text
from amphibase.records.input import plain

MAX_JSON_DEPTH = 64
"""How deep a JSON value may be nested."""

MAX_DIGITS = 1000
"""How many digits a decimal may have on each side of its point (Postgres: the precision that can be
declared)."""

INTEGER_BITS: tuple[tuple[type[Integer], int], ...] = (
    (SmallInteger, 16),
    (BigInteger, 64),
    (Integer, 32),
)
EPOCH = datetime(1970, 1, 1)
NUMBER = re.compile(r"[-+]?[0-9.]+")
SERVER_SET = (
    (Timestamps, ("created_at", "updated_at")),
    (Versioned, ("version",)),
    (SoftDelete, ("deleted_at",)),
)


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a mapped class.

    Args:
        attribute: the class's attribute, for expressions.
        input: the type that a value must have to be stored; without None.
        output: the type in a response; without None.
        private: clients do not learn that the column exists.
        hidden: clients do not see the column.
        server_set: clients do not set it.
        fixed: clients do not change it once the row is there.
        required: it has no value by default.
    """

    key: str
    attribute: Any
    column: Any
    input: Any
    output: Any
    nullable: bool
    private: bool
    hidden: bool
    server_set: bool
    fixed: bool
    required: bool

    @property
    def structured(self) -> bool:
        """Whether the values are JSON or lists, which cannot be compared alike everywhere."""
        return isinstance(_plain_type(self.column.type), JSON | ARRAY)

    @property
    def textual(self) -> bool:
        """Whether the values are text, which patterns can be matched with."""
        kind = _plain_type(self.column.type)
        return isinstance(kind, String) and not isinstance(kind, Enum)

    @property
    def python_type(self) -> type[Any]:
        """The class of the values, as far as the column knows it."""
        try:
            python_type: type[Any] = self.column.type.python_type
        except NotImplementedError:
            return object
        return python_type


Function = TypeVar("Function", bound=Callable[..., Any])


def cached_by_model(function: Function) -> Function:
    """Cache the results of a function of a mapped class."""
    return typing.cast("Function", cache(function))


@cached_by_model
def fields_of(model: type[Any]) -> dict[str, Field]:
    """Return the columns of a mapped class by the names of its attributes.

    Raises:
        TypeError: it is no mapped class.
    """
    require_model(model)
    fields = {}
    for attribute in inspect_model(model).column_attrs:
        key, column = attribute.key, attribute.columns[0]
        type_ = _annotation(model, key) or _python_type(column.type)
        default = _has_default(model, key, column)
        access = column_access(column)
        private = access.read or _is_private(model, key)
        server_set = private or access.add or _set_by_server(model, key, column, default)
        fields[key] = Field(
            key=key,
            attribute=getattr(model, key),
            column=column,
            input=_buildable(_each(type_, partial(_input, _plain_type(column.type)))),
            output=_buildable(_each(type_, partial(_output, _plain_type(column.type)))),
            nullable=bool(getattr(column, "nullable", True)),
            private=private,
            hidden=private or (issubclass(model, SoftDelete) and key == "deleted_at"),
            server_set=server_set,
            fixed=server_set or access.change or column.primary_key,
            required=not (default or column.nullable),
        )
    return fields


def _is_private(model: type[Any], key: str) -> bool:
    if key.startswith("_"):
        return True
    own = getattr(model, "model_fields", {}).get(key)  # of SQLModel: Field(exclude=True)
    return own is not None and bool(own.exclude)


def _set_by_server(model: type[Any], key: str, column: Any, default: bool) -> bool:
    if not isinstance(column, Column) or column.computed or column.identity:
        return True
    if any(issubclass(model, kind) and key in keys for kind, keys in SERVER_SET):
        return True
    return key == OWNER_COLUMN or (column.primary_key and default)


def _has_default(model: type[Any], key: str, column: Any) -> bool:
    if not isinstance(column, Column):
        return True
    if column.default is not None or column.server_default is not None:
        return True
    if column.table is not None and column is column.table.autoincrement_column:
        return True
    # An SQLModel class has defaults of its own, which its constructor fills in.
    own = getattr(model, "model_fields", {}).get(key)
    return own is not None and own.default_factory is not None


# The class says more than the column: the items of a list, the type behind a decorator.


def _annotation(model: type[Any], key: str) -> Any:
    """Return the annotation of an attribute, without None; None where it is not known."""
    if (own := getattr(model, "model_fields", {}).get(key)) is not None:  # SQLModel
        limits = [limit for limit in own.metadata if isinstance(limit, Hashable)]
        inner = _without_none(own.annotation)
        return Annotated[inner, *limits] if limits else inner
    for base in model.__mro__:
        annotation = get_annotations(base).get(key)
        if annotation is None and key in vars(base):
            function = getattr(vars(base)[key], "fget", None)  # of a declared_attr
            annotation = get_annotations(function).get("return") if callable(function) else None
        if annotation is None:
            continue
        annotation = _resolved(annotation, base)
        if not _is_mapped(annotation):
            return None
        return _without_none(_resolved(typing.get_args(annotation)[0], base))
    return None


def _resolved(annotation: Any, of: type[Any]) -> Any:
    """An annotation that is a text, in whole or in part, as the class's module means it."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        names = vars(sys.modules[of.__module__]) | {of.__name__: of}
        return eval(annotation, names)  # noqa: S307 - what the class itself says
    except Exception:
        return None


def _is_mapped(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapped)


def _without_none(annotation: Any) -> Any:
    while hasattr(annotation, "__value__"):  # `type Name = …`
        annotation = annotation.__value__
    if typing.get_origin(annotation) is Annotated:
        inner, *limits = typing.get_args(annotation)
        return Annotated[_without_none(inner), *limits]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = tuple(each for each in typing.get_args(annotation) if each is not type(None))
        return typing.Union[rest]  # noqa: UP007 - of a tuple
    return annotation


def _python_type(column_type: Any) -> Any:
    """What a column says of its values, where the class says nothing."""
    kind = _plain_type(column_type)
    if isinstance(kind, Enum) and kind.enum_class is None:
        return Literal[tuple(kind.enums)]
    if isinstance(kind, JSON):
        return Any
    if isinstance(kind, ARRAY):
        return list[_python_type(kind.item_type)]  # type: ignore[misc]
    try:
        return column_type.python_type
    except NotImplementedError:
        return Any


def _plain_type(column_type: Any) -> TypeEngine[Any]:
    """The type behind decorators."""
    while (inner := getattr(column_type, "impl_instance", None)) is not None:
        column_type = inner
    return typing.cast("TypeEngine[Any]", column_type)


def _each(annotation: Any, change: Callable[[Any], Any]) -> Any:
    """The annotation with its leaves changed; lists are gone into."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner, *limits = typing.get_args(annotation)
        return Annotated[_each(inner, change), *limits]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[  # noqa: UP007 - of a tuple
            tuple(_each(each, change) for each in typing.get_args(annotation))
        ]
    if origin is list:
        (item,) = typing.get_args(annotation)
        return list[_each(item, change)]  # type: ignore[misc]
    return change(annotation)


def _buildable(annotation: Any) -> Any:
    """The annotation if pydantic knows it, else Any."""
    try:
        TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return Annotated[Any, AfterValidator(json_value)]
    return annotation


def _input(kind: TypeEngine[Any], leaf: Any) -> Any:
    if leaf is str:
        length = kind.length if isinstance(kind, String) else None
        return Annotated[str, StringConstraints(max_length=length), AfterValidator(plain)]
    if leaf is int:
        bits = next((bits for each, bits in INTEGER_BITS if isinstance(kind, each)), 64)
        return Annotated[int, Limits(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]
    if leaf is float:
        return Annotated[float, Limits(allow_inf_nan=False)]
    if leaf is Decimal:
        limits: list[Any] = [AfterValidator(_digits)]
        if isinstance(kind, Numeric) and kind.precision is not None:
            limits.append(Limits(max_digits=kind.precision, decimal_places=kind.scale or 0))
        return Annotated[Decimal, *limits]
    if leaf is datetime:
        if not getattr(kind, "timezone", True):
            return Annotated[NaiveDatetime, BeforeValidator(_separated)]
        return Annotated[AwareDatetime, BeforeValidator(_separated), AfterValidator(_in_utc)]
    if leaf is time:
        return time if getattr(kind, "timezone", False) else Annotated[time, AfterValidator(_naive)]
    if leaf is timedelta:
        return Annotated[timedelta, AfterValidator(_storable)]
    if leaf is bytes:
        return Annotated[bytes, BeforeValidator(_from_base64), BASE64_SCHEMA]
    if leaf is date:
        return Annotated[date, BeforeValidator(_separated)]
    if leaf in (bool, UUID):
        return leaf
    if leaf is Any or isinstance(kind, JSON):
        return Annotated[leaf, AfterValidator(json_value)]
    return leaf


def _output(kind: TypeEngine[Any], leaf: Any) -> Any:
    if leaf is bytes:
        return Annotated[bytes, PlainSerializer(_to_base64, when_used="json"), BASE64_SCHEMA]
    if leaf is timedelta:
        return Annotated[timedelta, PlainSerializer(duration_text, when_used="json"), DURATION]
    if leaf is str and isinstance(kind, String) and kind.length:
        return Annotated[str, Limits(json_schema_extra={"maxLength": kind.length})]
    return leaf


BASE64_SCHEMA = WithJsonSchema({"type": "string", "contentEncoding": "base64"})
DURATION = WithJsonSchema({"type": "string", "format": "duration"})


def _to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _from_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None


def _digits(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -MAX_DIGITS and value.adjusted() < MAX_DIGITS:
        return value
    raise ValueError(f"must have at most {MAX_DIGITS} digits on each side of the point")


def _separated(value: Any) -> Any:
    # pydantic (2.14) reads a text of digits as seconds or milliseconds since 1970: 20260101, which
    # is a date in ISO 8601 and to Postgres, as one in August 1970.
    if isinstance(value, str) and NUMBER.fullmatch(value):
        raise ValueError("must be written with hyphens and colons, as in 2026-01-31T10:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999 in UTC") from None
    return value


def _naive(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("must not have a time zone")
    return value


def _storable(value: timedelta) -> timedelta:
    try:
        EPOCH + value
    except OverflowError:
        raise ValueError("must be within about 1969 years back and 8029 years on") from None
    return value


def json_value(value: Any, *, others: bool = True) -> Any:
    """Return the value, if it is JSON that every database takes.

    Args:
        others: lets through what is no JSON, for a type of the application's to turn into it.

    Raises:
        ValueError: it is not; says why.
    """
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"must be nested at most {MAX_JSON_DEPTH} deep")
        match item:
            case None | bool() | int():
                pass
            case str():
                plain(item)
            case float():
                if not math.isfinite(item):
                    raise ValueError("must not contain infinite numbers or NaN")
            case list() | tuple():
                waiting += [(each, depth + 1) for each in item]
            case dict():
                if not (others or all(isinstance(key, str) for key in item)):
                    raise ValueError("must have text as the keys of its objects")
                waiting += [(each, depth + 1) for pair in item.items() for each in pair]
            case _ if not others:
                raise ValueError(f"must be JSON, which a {type(item).__name__} is not")
    return value
