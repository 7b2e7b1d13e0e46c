"""The query string of a list: filters, logic and order, read into SQLAlchemy expressions.

    ?stars=gt.3&title=ilike.*tea*           both hold
    ?or=(stars.gt.3,and(title.eq.tea,stars.is.null))
    ?order=stars.desc.nullslast,title&limit=20&cursor=…

A value is read as the type of its column and bound; nothing of the query string becomes SQL.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import and_, not_, or_

from amphibase.backend import MAX_LIMIT, Order, Where
from amphibase.records.cursors import MAX_CURSOR_CHARACTERS
from amphibase.records.fields import Field, fields_of, once_a_model
from amphibase.records.input import PlainText

MAX_DEPTH = 8
"""How deep `and` and `or` may be nested."""
MAX_CONDITIONS = 64
MAX_VALUES = 1000
"""How many values `in` may name."""
MAX_PATTERN_CHARACTERS = 1000
DEFAULT_LIMIT = 100

LOGIC: dict[str, Callable[..., Any]] = {"and": and_, "or": or_}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": lambda column, value: column == value,
    "neq": lambda column, value: column != value,
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
}
PATTERNS = ("like", "ilike")
OPERATORS = (*COMPARISONS, *PATTERNS, "in", "is")
DIRECTIONS = ("asc", "desc")
NULLS = ("nullsfirst", "nullslast")

_TEXT = TypeAdapter(PlainText)
_LOGIC_NAME = re.compile(r"(not\.)?(and|or)")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a query string asks of a list."""

    where: Sequence[Where]
    order_by: Order
    limit: int
    cursor: str | None


def read_listing(model: type[Any], parameters: Iterable[tuple[str, str]]) -> Listing:
    """Read the parameters of a query string, decoded and in their order.

    Raises:
        RequestValidationError: names the parameter or column that is wrong.
    """
    columns = visible(model)
    where: list[Where] = []
    once: dict[str, str] = {}
    conditions = _Conditions(columns)
    for name, text in parameters:
        if name in ("order", "limit", "cursor"):
            if name in once:
                refuse(name, "must be given once")
            once[name] = text
        elif _LOGIC_NAME.fullmatch(name):
            where.append(conditions.logic(name, text))
        else:
            where.append(conditions.filter(name, text))
    return Listing(
        where,
        _order(columns, once["order"]) if once.get("order") else (),
        _limit(once["limit"]) if "limit" in once else DEFAULT_LIMIT,
        _cursor(once["cursor"]) if "cursor" in once else None,
    )


def refuse(field: str, message: str, code: str = "invalid_filter") -> NoReturn:
    """Refuse a parameter of the query string."""
    raise RequestValidationError([{"loc": ("query", field), "msg": message, "type": code}])


@dataclass(frozen=True, slots=True)
class Filterable:
    """A column that may be asked for, and how its values are read."""

    field: Field
    values: TypeAdapter[Any]

    @property
    def operators(self) -> Sequence[str]:
        """The operators that mean the same for such a column on every home."""
        if self.field.structured:
            return ("is",)
        if self.field.textual:
            return OPERATORS
        if issubclass(self.field.python_type, bool | bytes | Enum | str):
            return ("eq", "neq", "in", "is")
        return (*COMPARISONS, "in", "is")


@once_a_model
def visible(model: type[Any]) -> dict[str, Filterable]:
    """The columns of a model that may be asked for."""
    return {
        field.key: Filterable(field, TypeAdapter(field.input))
        for field in fields_of(model).values()
        if not field.hidden
    }


class _Conditions:
    """Reads conditions and counts them."""

    def __init__(self, columns: dict[str, Filterable]) -> None:
        self._columns = columns
        self._count = 0

    def filter(self, name: str, text: str) -> Where:
        """`stars` = `not.gt.3`: what is after the operator is the value, as it is."""
        column = self._column(name)
        negated, operator, rest = _operator(name, text)
        if operator == "in":
            values = _Reader(name, rest)
            found = self._in(name, column, values)
            values.end()
        else:
            found = self._compare(name, column, operator, rest)
        return not_(found) if negated else found

    def logic(self, name: str, text: str) -> Where:
        """`or` = `(stars.gt.3,title.eq.tea)`."""
        reader = _Reader(name.removeprefix("not."), text)
        found = self._group(reader, name, depth=1)
        reader.end()
        return found

    def _group(self, reader: "_Reader", name: str, depth: int) -> Where:
        if depth > MAX_DEPTH:
            refuse(reader.field, f"must be nested at most {MAX_DEPTH} deep")
        reader.take("(")
        members = [self._member(reader, depth)]
        while reader.took(","):
            members.append(self._member(reader, depth))
        reader.take(")")
        found: Where = LOGIC[name.removeprefix("not.")](*members)
        return not_(found) if name.startswith("not.") else found

    def _member(self, reader: "_Reader", depth: int) -> Where:
        name = reader.logic_name()
        if name is not None:
            return self._group(reader, name, depth + 1)
        name = reader.until(".")
        if not name:
            reader.lack("a condition")
        column = self._column(name)
        reader.take(".")
        negated = reader.took("not.")
        operator = reader.until(".")
        reader.take(".")
        if operator == "in":
            found = self._in(name, column, reader)
        else:
            found = self._compare(name, column, operator, reader.value())
        return not_(found) if negated else found

    def _column(self, name: str) -> Filterable:
        self._count += 1
        if self._count > MAX_CONDITIONS:
            refuse(name, f"comes after {MAX_CONDITIONS} conditions, which is all there may be")
        column = self._columns.get(name)
        if column is None:
            refuse(name, "there is no such column", "unknown_column")
        return column

    def _in(self, name: str, column: Filterable, reader: "_Reader") -> Where:
        _check_operator(name, column, "in")
        values = [_validated(name, column.values, each) for each in reader.values()]
        if len(values) > MAX_VALUES:
            refuse(name, f"must name at most {MAX_VALUES} values")
        found: Where = column.field.attribute.in_(values)
        return found

    def _compare(self, name: str, column: Filterable, operator: str, text: str) -> Where:
        _check_operator(name, column, operator)
        attribute = column.field.attribute
        if operator == "is":
            return _is(name, column, text)
        if operator in PATTERNS:
            pattern = _pattern(name, text)
            match = attribute.like if operator == "like" else attribute.ilike
            found: Where = match(pattern, escape="\\")
            return found
        compared: Where = COMPARISONS[operator](attribute, _validated(name, column.values, text))
        return compared


def _operator(name: str, text: str) -> tuple[bool, str, str]:
    negated = text.startswith("not.")
    operator, point, rest = text.removeprefix("not.").partition(".")
    if not point:
        refuse(name, f"must be an operator and a value, such as eq.… ({', '.join(OPERATORS)})")
    return negated, operator, rest


def _check_operator(name: str, column: Filterable, operator: str) -> None:
    if operator not in column.operators:
        refuse(name, f"can be asked for with {', '.join(column.operators)}", "unknown_operator")


def _is(name: str, column: Filterable, text: str) -> Where:
    attribute = column.field.attribute
    found: Where
    if text == "null":
        found = attribute.is_(None)
    elif text == "not_null":
        found = attribute.is_not(None)
    elif text in ("true", "false") and column.field.python_type is bool:
        found = attribute.is_(text == "true")
    else:
        refuse(name, "is takes null or not_null, and for truth values true or false")
    return found


def _validated(name: str, adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        raise RequestValidationError(
            [
                {"loc": ("query", name), "msg": found["msg"], "type": found["type"]}
                for found in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _pattern(name: str, text: str) -> str:
    """The pattern as LIKE reads it, with a backslash before what stands for itself."""
    _validated(name, _TEXT, text)
    if len(text) > MAX_PATTERN_CHARACTERS:
        refuse(name, f"the pattern must have at most {MAX_PATTERN_CHARACTERS} characters")
    found = re.sub(r"\\.|\*", lambda part: "%" if part[0] == "*" else part[0], text, flags=re.S)
    if re.fullmatch(r"(?:\\.|[^\\])*", found, re.S) is None:
        refuse(name, "the pattern must not end with a backslash that escapes nothing")
    return found


def _order(columns: dict[str, Filterable], text: str) -> Order:
    named: dict[str, Any] = {}
    for part in text.split(","):
        name, *words = part.split(".")
        column = columns.get(name)
        if column is None:
            refuse("order", f"there is no such column: {name[:100]}", "unknown_column")
        if column.field.structured:
            refuse("order", f"{name} has no order")
        if name in named:
            refuse("order", f"{name} is named twice")
        attribute = column.field.attribute
        direction = words.pop(0) if words and words[0] in DIRECTIONS else "asc"
        expression = attribute.desc() if direction == "desc" else attribute.asc()
        if words and words[0] in NULLS:
            first = words.pop(0) == "nullsfirst"
            expression = expression.nulls_first() if first else expression.nulls_last()
        if words:
            refuse("order", f"{name} takes asc or desc, then nullsfirst or nullslast")
        named[name] = expression
    return tuple(named.values())


def _limit(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,10}", text) is None or not 1 <= int(text) <= MAX_LIMIT:
        refuse("limit", f"must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _cursor(text: str) -> str:
    if not text or len(text) > MAX_CURSOR_CHARACTERS:
        refuse("cursor", f"must have 1 to {MAX_CURSOR_CHARACTERS} characters")
    return text


class _Reader:
    """Reads a text in parentheses, from left to right."""

    def __init__(self, field: str, text: str) -> None:
        self.field = field
        self._text = text
        self._at = 0

    def took(self, expected: str) -> bool:
        """Whether this comes next; then go past it."""
        if not self._text.startswith(expected, self._at):
            return False
        self._at += len(expected)
        return True

    def take(self, expected: str) -> None:
        if not self.took(expected):
            self.lack(repr(expected))

    def end(self) -> None:
        if self._at != len(self._text):
            self.lack("the end")

    def lack(self, expected: str) -> NoReturn:
        """Refuse the text for what does not come next."""
        refuse(self.field, f"expected {expected} at character {self._at + 1}")

    def until(self, stops: str) -> str:
        """What comes before any of these characters, parentheses or a comma."""
        found = re.compile(f"[^{re.escape(stops)}(),]*").match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return found[0]

    def logic_name(self) -> str | None:
        """`and`, `or`, `not.and` or `not.or`, if a group begins here."""
        found = re.compile(r"((?:not\.)?(?:and|or))(?=\()").match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[1]

    def value(self) -> str:
        """A value: in double quotes, or up to a comma or the closing parenthesis."""
        if not self.took('"'):
            return self.until("")
        found = re.compile(r'((?:[^"\\]|\\.)*)"', re.S).match(self._text, self._at)
        if found is None:
            refuse(self.field, "a quotation mark is not closed")
        self._at = found.end()
        return re.sub(r"\\(.)", r"\1", found[1], flags=re.S)

    def values(self) -> list[str]:
        """Values in parentheses."""
        self.take("(")
        if self.took(")"):
            return []
        found = [self.value()]
        while self.took(","):
            found.append(self.value())
        self.take(")")
        return found
