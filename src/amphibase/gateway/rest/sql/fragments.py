"""Fragments of SQL: identifiers, quoted here and nowhere else, and bound parameters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.schema.catalog import Name
from amphibase.records.filters.tree import Position, Value

Bound: TypeAlias = str | bytes | None
"""A value as it is sent: text of no type yet, or bytes."""

_LONGEST_NAME = 63
_TYPES_OF_WORDS = frozenset(
    f"{name}{of}"
    for name, ofs in {
        "bigint": "", "bit": "", "bit varying": "", "boolean": "", "char": "", "character": "",
        "character varying": "", "dec": "", "decimal": "", "double precision": "", "float": "",
        "int": "", "integer": "", "interval": "", "national character": "", "nchar": "",
        "numeric": "", "real": "", "smallint": "", "varchar": "",
        "time": "| with time zone| without time zone",
        "timestamp": "| with time zone| without time zone",
    }.items()
    for of in ofs.split("|")
)  # fmt: skip


def quoted(name: str) -> str:
    """Quote an identifier; what is longer than Postgres's names is cut, as Postgres does."""
    if "\x00" in name:
        raise DatabaseError(400, "22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    name = name.encode()[:_LONGEST_NAME].decode(errors="ignore") or " "
    return '"' + name.replace('"', '""') + '"'


def qualified(name: Name) -> str:
    """Quote a table or a function with its schema."""
    return f"{quoted(name.schema)}.{quoted(name.name)}"


def listed(names: Iterable[str]) -> str:
    """Quote identifiers, with commas between them."""
    return ", ".join(quoted(name) for name in names)


def type_name(cast: str) -> str:
    """Write a type that a request names: one of SQL's own words, else an identifier."""
    words = " ".join(cast.lower().split())
    return words if words in _TYPES_OF_WORDS else quoted(words)


def array(values: Iterable[str]) -> str:
    """Write an array as Postgres reads it."""
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in escaped) + "}"


class StatementParameter(Protocol):
    """Where a bound value comes from."""

    def read(self, values: Sequence[Value], body: Bound) -> Bound: ...


@dataclass(frozen=True, slots=True)
class ValueParameter:
    """One of the request's values."""

    position: Position

    def read(self, values: Sequence[Value], body: Bound) -> Bound:
        return str(values[self.position])


@dataclass(frozen=True, slots=True)
class PatternParameter:
    """A value of `like`, whose wildcard is `*` in URLs."""

    position: Position

    def read(self, values: Sequence[Value], body: Bound) -> Bound:
        return str(values[self.position]).replace("*", "%")


@dataclass(frozen=True, slots=True)
class ListParameter:
    """A list of values, as an array; a list of one empty value is empty."""

    position: Position

    def read(self, values: Sequence[Value], body: Bound) -> Bound:
        value = values[self.position]
        assert isinstance(value, list)
        return "{}" if value in ([], [""]) else array(value)


@dataclass(frozen=True, slots=True)
class ArrayParameter:
    """Several values, as an array."""

    positions: tuple[Position, ...]

    def read(self, values: Sequence[Value], body: Bound) -> Bound:
        return array(str(values[position]) for position in self.positions)


@dataclass(frozen=True, slots=True)
class ConstantParameter:
    """A word of the query that SQL takes as a value, such as a key of JSON."""

    text: str

    def read(self, values: Sequence[Value], body: Bound) -> Bound:
        return self.text


@dataclass(frozen=True, slots=True)
class BodyParameter:
    """The request's body."""

    def read(self, values: Sequence[Value], body: Bound) -> Bound:
        return body


class StatementParameters:
    """The parameters of one statement, numbered as they are first needed."""

    def __init__(self) -> None:
        self._numbers: dict[StatementParameter, int] = {}

    def __call__(self, parameter: StatementParameter) -> str:
        """The placeholder of a parameter."""
        number = self._numbers.setdefault(parameter, len(self._numbers) + 1)
        return f"${number}"

    def all(self) -> tuple[StatementParameter, ...]:
        return tuple(self._numbers)
