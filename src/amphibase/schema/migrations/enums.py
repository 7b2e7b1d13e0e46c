"""Changes the values of enum types of Postgres."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Connection, Enum, Table, inspect
from sqlalchemy.schema import DefaultClause

from amphibase.schema.ddl import literal, quoted
from amphibase.schema.migrations.definitions import Definitions
from amphibase.schema.migrations.definitions_of_models import native_enums
from amphibase.schema.migrations.sqlite_impl import created_enums


@dataclass(frozen=True, slots=True)
class EnumColumn:
    """A column of an enum type.

    Args:
        default: its default in the database, as a literal.
    """

    table: str
    column: Column[Any]
    default: str | None

    @property
    def expected_default(self) -> str | None:
        """The default of the model, as a literal."""
        default = self.column.server_default
        if not isinstance(default, DefaultClause):
            return None
        return literal(default.arg) if isinstance(default.arg, str) else str(default.arg)


@dataclass(frozen=True, slots=True)
class EnumChange:
    """An enum whose values in the database are others than those of the models.

    Args:
        columns: the columns of the type.
    """

    name: str
    expected: tuple[str, ...]
    actual: tuple[str, ...]
    columns: tuple["EnumColumn", ...]

    @property
    def new(self) -> list[str]:
        """The values that the database does not have."""
        return [value for value in self.expected if value not in self.actual]

    def statements(self, *, in_use: bool = False) -> list[str]:
        """Return the statements that make the values those of the models, on Postgres.

        Args:
            in_use: whether the same revision uses a new value, which Postgres allows only in a
                type of the same transaction (its docs, "ALTER TYPE").
        """
        common = [value for value in self.expected if value in self.actual]
        if in_use or common != list(self.actual):
            return self._replace(self.expected, [each.expected_default for each in self.columns])
        return [self._add(value) for value in self.new]

    def undo_statements(self) -> list[str]:
        """Return the statements that bring back the values that the database has."""
        return self._replace(self.actual, [each.default for each in self.columns])

    def operations(self) -> ops.UpgradeOps:
        """Return the same change for an engine where an enum is text, and may have a CHECK."""
        changes = ops.UpgradeOps([])
        for each in self.columns:
            if isinstance(each.column.type, Enum):
                alter = ops.AlterColumnOp(
                    each.table,
                    each.column.name,
                    existing_type=_with_values(each.column.type, self.actual),
                    existing_nullable=each.column.nullable,
                    modify_type=_with_values(each.column.type, self.expected),
                )
                changes.ops.append(ops.ModifyTableOps(each.table, [alter]))
        return changes

    def _add(self, value: str) -> str:
        position = self.expected.index(value)
        following = [other for other in self.expected[position:] if other in self.actual]
        before = f" BEFORE {literal(following[0])}" if following else ""
        return f"ALTER TYPE {quoted(self.name)} ADD VALUE IF NOT EXISTS {literal(value)}{before}"

    def _replace(self, values: Sequence[str], defaults: Sequence[str | None]) -> list[str]:
        name, old = quoted(self.name), quoted(f"{self.name}_replaced")
        labels = ", ".join(map(literal, values))
        statements = [
            f"ALTER TYPE {name} RENAME TO {old}",
            f"CREATE TYPE {name} AS ENUM ({labels})",
        ]
        for each, default in zip(self.columns, defaults, strict=True):
            column = quoted(each.column.name)
            brackets = "" if isinstance(each.column.type, Enum) else "[]"
            alter = f"ALTER TABLE {quoted(each.table)} ALTER COLUMN {column}"
            convert = (
                f"{alter} TYPE {name}{brackets}\nUSING {column}::text{brackets}::{name}{brackets}"
            )
            if default is None:
                statements.append(convert)
            else:
                statements += [f"{alter} DROP DEFAULT", convert, f"{alter} SET DEFAULT {default}"]
        return [*statements, f"DROP TYPE {old}"]


def enum_changes(
    connection: Connection, tables: Sequence[Table], actual: Definitions
) -> list[EnumChange]:
    """Compare the values of enums with those of the models.

    On SQLite, where an enum is text, they are known only on a connection on which the revisions
    have run.
    """
    created = created_enums(connection)
    changes = []
    for name, columns in sorted(native_enums(tables).items()):
        expected = tuple(columns[0][2].enums)
        values = actual.enums.get(name)
        for table, column, _ in columns:
            values = values or created.get((table.name, column))
        if values is not None and values != expected:
            existing = tuple(
                EnumColumn(
                    table.name,
                    table.columns[column],
                    _default(connection, table.name, column),
                )
                for table, column, _ in columns
                if table.name in actual.tables
            )
            changes.append(EnumChange(name, expected, values, existing))
    return changes


def _default(connection: Connection, table: str, column: str) -> str | None:
    for reflected in inspect(connection).get_columns(table):
        if reflected["name"] == column and reflected["default"] is not None:
            return re.sub(r"::[^']*$", "", reflected["default"])
    return None


def _with_values(enum: Enum, values: Sequence[str]) -> Enum:
    return Enum(
        *values,
        name=enum.name,
        native_enum=enum.native_enum,
        create_constraint=enum.create_constraint,
    )
