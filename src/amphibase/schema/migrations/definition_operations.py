"""Turns what differs between definitions into operations of Alembic."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops
from sqlalchemy import (
    CheckConstraint,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.sql.elements import TextClause, conv

from amphibase.schema.ddl import DIALECT, as_text
from amphibase.schema.migrations.definitions import Definitions, Mismatch
from amphibase.schema.migrations.sqlite_ddl import parse_index
from amphibase.schema.migrations.sqlite_impl import without_reflection_warnings

_CAST = r"::(?:character varying|timestamp with(?:out)? time zone|\w+)(?:\[\])?"


@dataclass(slots=True)
class TableOperations:
    """The operations for one table, in the order in which they run.

    Args:
        drop_indexes: apart from the rest, for the copy of a table on SQLite cannot drop an index
            over an expression.
    """

    drop_indexes: list[ops.MigrateOperation] = field(default_factory=list)
    drop_constraints: list[ops.MigrateOperation] = field(default_factory=list)
    columns: list[ops.MigrateOperation] = field(default_factory=list)
    create_constraints: list[ops.MigrateOperation] = field(default_factory=list)
    create_indexes: list[ops.MigrateOperation] = field(default_factory=list)


class DefinitionOperations:
    """Writes operations that make definitions as expected.

    Args:
        actual: a database whose tables have the actual definitions.
        tables: the tables as they should be, by name.
        unwritable: what no operation can change.
    """

    def __init__(
        self, connection: Connection, tables: dict[str, Table], actual: Definitions
    ) -> None:
        self.connection = connection
        self.tables = tables
        self.actual = actual
        self.unwritable: list[Mismatch] = []
        self._dialect = connection.dialect.name
        self._reflected: dict[str, Table] = {}

    def add_to(self, operations: ops.UpgradeOps, mismatches: Iterable[Mismatch]) -> None:
        """Add the operations for what differs to those that Alembic found."""
        by_table: dict[str, TableOperations] = {}
        for mismatch in mismatches:
            self._add(by_table.setdefault(mismatch.table, TableOperations()), mismatch)
        for name, own in by_table.items():
            existing = [
                operation
                for operation in operations.ops
                if isinstance(operation, ops.ModifyTableOps) and operation.table_name == name
            ]
            changes = existing[0] if existing else ops.ModifyTableOps(name, [])
            changes.ops = [
                *own.drop_constraints,
                *changes.ops,
                *own.columns,
                *own.create_constraints,
            ]
            at = operations.ops.index(changes) if existing else len(operations.ops)
            groups = [
                ops.ModifyTableOps(name, own.drop_indexes),
                changes,
                ops.ModifyTableOps(name, own.create_indexes),
            ]
            operations.ops[at : at + len(existing[:1])] = [
                group for group in groups if not group.is_empty()
            ]

    def warnings(self) -> list[str]:
        """Say what no operation was written for."""
        return [
            f"Not written, do it by hand: {item.part} {item.name} of {item.table} should be "
            f"{item.expected or 'dropped'}, is {item.actual or 'missing'}."
            for item in self.unwritable
        ]

    def _add(self, own: TableOperations, mismatch: Mismatch) -> None:
        table = self.tables[mismatch.table]
        match mismatch.part:
            case "check":
                self._change_check(own, table, mismatch)
            case "unique" if mismatch.expected and mismatch.actual:
                self._change_unique(own, table, mismatch)
            case "index":
                self._change_index(own, table, mismatch.name)
            case "formula":
                self._change_formula(own, table, mismatch.name)
            case "collation":
                self._change_collation(own, table, mismatch)
            case _:
                self.unwritable.append(mismatch)

    def _change_check(self, own: TableOperations, table: Table, mismatch: Mismatch) -> None:
        if mismatch.name.startswith("("):  # without a name it can be neither dropped nor created
            self.unwritable.append(mismatch)
            return
        name = conv(mismatch.name)
        if mismatch.actual is not None:
            condition = text(as_text(portable_condition(mismatch.actual)))
            create = ops.CreateCheckConstraintOp(name, table.name, condition)
            own.drop_constraints.append(
                ops.DropConstraintOp(name, table.name, "check", _reverse=create)
            )
        if mismatch.expected is not None:
            condition = text(as_text(self._condition(table, mismatch)))
            own.create_constraints.append(ops.CreateCheckConstraintOp(name, table.name, condition))

    def _condition(self, table: Table, mismatch: Mismatch) -> str:
        # The dialect of the connection would double percent signs, as its driver wants them.
        on_postgres = self.connection.dialect.name == "postgresql"
        dialect = DIALECT if on_postgres else self.connection.dialect
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint) and constraint.name == mismatch.name:
                return str(
                    constraint.sqltext.compile(
                        dialect=dialect, compile_kwargs={"literal_binds": True}
                    )
                ).replace(f"{table.name}.", "")
        return portable_condition(mismatch.expected or "")

    def _change_unique(self, own: TableOperations, table: Table, mismatch: Mismatch) -> None:
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint) and constraint.name == mismatch.name:
                create = ops.CreateUniqueConstraintOp(
                    conv(mismatch.name),
                    table.name,
                    [column.name for column in constraint.columns],
                    **_deferrable(mismatch.actual or ""),
                )
                own.drop_constraints.append(
                    ops.DropConstraintOp(conv(mismatch.name), table.name, "unique", _reverse=create)
                )
                own.create_constraints.append(
                    ops.CreateUniqueConstraintOp.from_constraint(constraint)
                )

    def _change_index(self, own: TableOperations, table: Table, name: str) -> None:
        old = self._old_index(table.name, name)
        new = next((index for index in table.indexes if index.name == name), None)
        if old is not None:
            own.drop_indexes.append(ops.DropIndexOp.from_index(old))
        if new is not None:
            own.create_indexes.append(ops.CreateIndexOp.from_index(new))

    def _change_formula(self, own: TableOperations, table: Table, name: str) -> None:
        """Drop the column and add it again, with the indexes over it."""
        old = self._old_table(table.name).columns[name]
        new = table.columns[name]
        own.columns.append(ops.DropColumnOp.from_column_and_tablename(None, table.name, old))
        own.columns.append(ops.AddColumnOp.from_column_and_tablename(None, table.name, new))
        for index in table.indexes:
            if index.name and new in index.columns.values():
                self._change_index(own, table, index.name)

    def _change_collation(self, own: TableOperations, table: Table, mismatch: Mismatch) -> None:
        column = table.columns[mismatch.name]
        existing = self._old_table(table.name).columns[mismatch.name].type
        if isinstance(existing, String):
            # Collations are the engine's own: the other one takes its default.
            collated = String(existing.length, collation=mismatch.actual)
            existing = String(existing.length).with_variant(collated, self._dialect)
        own.columns.append(
            ops.AlterColumnOp(
                table.name,
                column.name,
                existing_type=existing,
                existing_nullable=column.nullable,
                modify_type=column.type,
            )
        )

    def _old_index(self, table: str, name: str) -> Index | None:
        definition = self.actual.of(table, "index").get(name)
        if definition is None:
            return None
        if self._dialect == "sqlite":
            return _sqlite_index(Table(table, MetaData()), name, definition)
        for index in self._old_table(table).indexes:
            if index.name == name:
                return _portable_index(index)
        return None

    def _old_table(self, name: str) -> Table:
        if name not in self._reflected:
            with without_reflection_warnings():
                self._reflected[name] = Table(name, MetaData(), autoload_with=self.connection)
        return self._reflected[name]


def portable_condition(definition: str) -> str:
    """Return the condition of a CHECK as Postgres or SQLite write it, in SQL that both know.

    Postgres adds casts to what people write, and turns IN into ANY.
    """
    condition = re.sub(r"^CHECK \((.*)\)(?: NOT VALID)?$", r"\1", definition, flags=re.DOTALL)
    condition = _without_casts(condition)
    condition = re.sub(r"= ANY \(\(ARRAY\[([^]]*)\]\)\)", r"IN (\1)", condition)
    return re.sub(r"= ANY \(ARRAY\[([^]]*)\]\)", r"IN (\1)", condition)


def _portable_index(index: Index) -> Index:
    expressions = [
        text(as_text(_without_casts(expression.text)))
        if isinstance(expression, TextClause)
        else expression
        for expression in index.expressions
    ]
    options = dict(index.kwargs)
    condition = options.get("postgresql_where")
    if condition is not None:
        condition = text(as_text(portable_condition(str(condition))))
        options |= {"postgresql_where": condition, "sqlite_where": condition}
    return Index(index.name, *expressions, unique=index.unique, _table=index.table, **options)


def _without_casts(expression: str) -> str:
    return re.sub(_CAST, "", expression)


def _deferrable(definition: str) -> dict[str, Any]:
    if "DEFERRABLE" not in definition:
        return {}
    deferred = "INITIALLY DEFERRED" in definition
    return {"deferrable": True, "initially": "DEFERRED" if deferred else None}


def _sqlite_index(table: Table, name: str, definition: str) -> Index:
    parsed = parse_index(f"CREATE {definition}")
    options: dict[str, Any] = {}
    if parsed.condition:
        condition = text(as_text(parsed.condition))
        options = {"sqlite_where": condition, "postgresql_where": condition}
    columns = [text(as_text(column)) for column in parsed.columns]
    return Index(name, *columns, unique=parsed.unique, _table=table, **options)
