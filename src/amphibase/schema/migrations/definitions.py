"""The parts of tables that Alembic does not compare, and how two sides of them differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Part = Literal["check", "unique", "exclude", "index", "formula", "collation", "option"]


@dataclass(slots=True)
class Definitions:
    """The definitions of tables as the database writes them, and the values of enum types.

    Args:
        parts: the definition of each part, by the table, the kind of the part and its name; that
            of a formula or a collation is its column's.
        tables: all tables that were read.
        enums: the values of each enum type of Postgres.
        unreadable: why a table of the models could not be created to be read, by its name.
    """

    parts: dict[tuple[str, Part, str], str] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def of(self, table: str, part: Part) -> dict[str, str]:
        """Return the definitions of one kind of parts of a table, by name."""
        return {
            name: definition
            for (of_table, kind, name), definition in self.parts.items()
            if (of_table, kind) == (table, part)
        }


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A part of a table that differs, or exists on one side alone.

    Args:
        expected: its definition as it should be, None where there should be no such part.
        actual: its definition in the database, None where it is missing.
    """

    table: str
    part: Part
    name: str
    expected: str | None
    actual: str | None


def mismatches(expected: Definitions, actual: Definitions) -> Iterator[Mismatch]:
    """Compare the tables that both sides have."""
    for table in sorted(expected.tables & actual.tables - expected.unreadable.keys()):
        for part in get_args(Part):
            yield from _mismatches(table, part, expected.of(table, part), actual.of(table, part))


def _mismatches(
    table: str, part: Part, expected: Mapping[str, str], actual: Mapping[str, str]
) -> Iterator[Mismatch]:
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            yield Mismatch(table, part, name, expected.get(name), actual.get(name))
