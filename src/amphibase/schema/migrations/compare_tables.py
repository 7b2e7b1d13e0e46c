"""Compares a database with the tables that it should have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import ops
from sqlalchemy import CheckConstraint, Connection, MetaData, Table

from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.definitions import Definitions, Mismatch, mismatches
from amphibase.schema.migrations.definitions_of_database import read_definitions
from amphibase.schema.migrations.definitions_of_models import expected_definitions
from amphibase.schema.migrations.enums import EnumChange, enum_changes
from amphibase.schema.migrations.locations import ChainName
from amphibase.schema.migrations.sqlite_impl import without_reflection_warnings


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a database and the tables it should have differ.

    Args:
        kind: `missing` from the database, `extra` in it, `changed`, switched `off`, or `unknown`
            where it could not be compared.
        subject: what differs: `table notes`, `column notes.stars`.
        table: the table that it is, or is part of.
        detail: of a change, the expected and the actual value; the reason of what is unknown.
    """

    chain: ChainName
    kind: Literal["missing", "extra", "changed", "off", "unknown"]
    subject: str
    table: str
    detail: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "missing":
                return f"{self.subject} is missing from the database"
            case "extra":
                return f"{self.subject} is in the database alone"
            case "off":
                return f"{self.subject} is off"
            case "unknown":
                return f"{self.subject} was not compared wholly: {self.detail}"
        return f"{self.subject}: {self.detail}"

    @property
    def summary(self) -> str:
        """The difference without values, which may be whole functions."""
        return f"{self.subject} has changed" if self.kind == "changed" else str(self)


@dataclass(slots=True)
class Comparison:
    """How a database differs from tables.

    Args:
        operations: what Alembic would do about it.
        mismatches: what Alembic does not compare.
        enums: enums with other values.
        actual: the definitions of the database.
        unreadable: why a table of the models could not be compared wholly, by its name.
        tables: the tables as they should be, by name.
    """

    operations: ops.UpgradeOps
    mismatches: list[Mismatch]
    enums: list[EnumChange]
    actual: Definitions
    unreadable: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not self.operations.is_empty() or bool(self.mismatches or self.enums)


def compare_tables(
    connection: Connection,
    chain: Chain,
    metadata: MetaData | None = None,
    expected: Definitions | None = None,
) -> Comparison:
    """Compare a database with the tables that the chain should have.

    Args:
        metadata: other tables to compare with than the chain's own.
        expected: their definitions, read from the tables where None.
    """
    wanted = chain.metadata if metadata is None else metadata
    tables = [table for table in wanted.sorted_tables if chain.owns(table)]
    actual = read_definitions(connection, chain.schema)
    if expected is None:
        expected = expected_definitions(connection, tables)
    context = chain.context(connection, target_metadata=wanted)
    compared = expected.tables & actual.tables - expected.unreadable.keys()
    operations = _operations(context, wanted, compared)
    by_name = {table.name: table for table in tables}
    enums = enum_changes(connection, tables, actual)
    covered = _Covered(operations, enums, by_name)
    return Comparison(
        operations,
        [item for item in mismatches(expected, actual) if not covered.has(item)],
        enums,
        actual,
        {name: why for name, why in expected.unreadable.items() if name in actual.tables},
        by_name,
    )


def table_differences(
    connection: Connection,
    chain: Chain,
    metadata: MetaData | None = None,
    expected: Definitions | None = None,
) -> list[Difference]:
    """Return how the database differs from the tables that the chain should have.

    Args:
        metadata: other tables to compare with than the chain's own.
        expected: their definitions, read from the tables where None.
    """
    comparison = compare_tables(connection, chain, metadata, expected)
    differences = [
        item
        for operation in _flat(comparison.operations)
        for item in _difference(chain.name, operation)
    ]
    differences += [_of_mismatch(chain.name, mismatch) for mismatch in comparison.mismatches]
    differences += [_of_enum(chain.name, change) for change in comparison.enums]
    # The parts of a table that is missing or extra go without saying.
    tables = {item.table for item in differences if item.subject.startswith("table ")}
    differences = [
        item
        for item in differences
        if item.subject.startswith("table ") or item.table not in tables
    ]
    return differences + [
        Difference(chain.name, "unknown", f"table {name}", name, reason)
        for name, reason in comparison.unreadable.items()
    ]


_INDEX_OPERATIONS = (ops.CreateIndexOp, ops.DropIndexOp)


class _Covered:
    """What the operations of Alembic see to already."""

    def __init__(
        self,
        operations: ops.UpgradeOps,
        enums: Sequence[EnumChange],
        tables: Mapping[str, Table],
    ) -> None:
        self.tables = tables
        self.names: set[tuple[str, str]] = set()
        self.columns: set[tuple[str, str]] = set()
        self.types: set[tuple[str, str]] = set()
        self.enums = {(each.table, each.column.name) for enum in enums for each in enum.columns}
        for operation in _flat(operations):
            match operation:
                case ops.AddColumnOp():
                    self.columns.add((operation.table_name, operation.column.name))
                case ops.DropColumnOp():
                    self.columns.add((operation.table_name, operation.column_name))
                case ops.AlterColumnOp() if operation.modify_type is not None:
                    self.types.add((operation.table_name, operation.column_name))
                case ops.AddConstraintOp() | ops.DropConstraintOp():
                    constraint: Any = operation.to_constraint()
                    self.names.add((constraint.table.name, str(constraint.name)))

    def has(self, mismatch: Mismatch) -> bool:
        key = mismatch.table, mismatch.name
        match mismatch.part:
            case "unique":
                return key in self.names or not (mismatch.expected and mismatch.actual)
            case "formula":
                return key in self.columns
            case "collation":
                return key in self.columns | self.types
            case "check":
                return self._comes_with_type(mismatch)
        return False

    def _comes_with_type(self, mismatch: Mismatch) -> bool:
        """Return whether a check comes with the type of a column that is added or changed."""
        for constraint in self.tables[mismatch.table].constraints:
            if isinstance(constraint, CheckConstraint) and constraint.name == mismatch.name:
                columns = {(mismatch.table, column.name) for column in constraint.columns}
                of_type = getattr(constraint, "_type_bound", False)
                return of_type and columns <= self.columns | self.enums
        return False


def _operations(
    context: MigrationContext, metadata: MetaData, compared: set[str]
) -> ops.UpgradeOps:
    """Return the operations of Alembic that would make the database as the tables are.

    Args:
        compared: tables whose indexes are compared by their definitions.
    """
    with without_reflection_warnings():
        script = produce_migrations(context, metadata)
    operations = script.upgrade_ops or ops.UpgradeOps()
    for table in [item for item in operations.ops if isinstance(item, ops.ModifyTableOps)]:
        table.ops = [
            item
            for item in table.ops
            if not _changes_nothing(item)
            and not (isinstance(item, _INDEX_OPERATIONS) and item.table_name in compared)
        ]
        if table.is_empty():
            operations.ops.remove(table)
    return operations


def _changes_nothing(operation: ops.MigrateOperation) -> bool:
    # An empty text as default is read back from SQLite as `''`, which Alembic takes for another.
    if not isinstance(operation, ops.AlterColumnOp) or operation.modify_server_default is False:
        return False
    is_, should_be = operation.existing_server_default, operation.modify_server_default
    if _text(is_) == "" and _text(should_be) == "":
        operation.modify_server_default = False
    return not operation.has_changes()


def _text(default: Any) -> str | None:
    text = getattr(default, "arg", None)
    return None if text is None else str(text).strip("()'")


def _flat(operation: Any) -> Iterator[ops.MigrateOperation]:
    if isinstance(operation, ops.OpContainer):
        for inner in operation.ops:
            yield from _flat(inner)
    elif operation is not None:
        yield operation


def _difference(chain: ChainName, operation: ops.MigrateOperation) -> Iterator[Difference]:
    match operation:
        case ops.CreateTableOp():
            yield _missing(chain, f"table {operation.table_name}", operation.table_name)
        case ops.DropTableOp():
            yield _extra(chain, f"table {operation.table_name}", operation.table_name)
        case ops.AddColumnOp():
            name = f"column {operation.table_name}.{operation.column.name}"
            yield _missing(chain, name, operation.table_name)
        case ops.DropColumnOp():
            name = f"column {operation.table_name}.{operation.column_name}"
            yield _extra(chain, name, operation.table_name)
        case ops.AlterColumnOp():
            yield from _changes(chain, operation)
        case ops.CreateIndexOp():
            name = f"index {operation.index_name} of {operation.table_name}"
            yield _missing(chain, name, operation.table_name)
        case ops.DropIndexOp():
            name = f"index {operation.index_name} of {operation.table_name}"
            yield _extra(chain, name, str(operation.table_name))
        case ops.AddConstraintOp():
            constraint: Any = operation.to_constraint()
            yield _missing(chain, _constraint(constraint), constraint.table.name)
        case ops.DropConstraintOp():
            constraint = operation.to_constraint()
            yield _extra(chain, _constraint(constraint), operation.table_name)


def _missing(chain: ChainName, subject: str, table: str) -> Difference:
    return Difference(chain, "missing", subject, table)


def _extra(chain: ChainName, subject: str, table: str) -> Difference:
    return Difference(chain, "extra", subject, table)


def _constraint(constraint: Any) -> str:
    columns = ", ".join(column.name for column in constraint.columns)
    kind = type(constraint).__name__.removesuffix("Constraint")
    words = {"ForeignKey": "foreign key", "Unique": "unique constraint"}.get(kind, kind.lower())
    return f"{words} of {constraint.table.name} ({columns})"


def _changes(chain: ChainName, operation: ops.AlterColumnOp) -> Iterator[Difference]:
    name = f"column {operation.table_name}.{operation.column_name}"
    details = []
    if operation.modify_type is not None:
        details.append(f"its type should be {operation.modify_type}, is {operation.existing_type}")
    if operation.modify_nullable is not None:
        details.append("it should take NULL" if operation.modify_nullable else "it takes NULL")
    if operation.modify_server_default is not False:
        details.append("its default in the database is another")
    for detail in details:
        yield Difference(chain, "changed", name, operation.table_name, detail)


_PARTS = {
    "check": "check {name} of {table}",
    "unique": "unique constraint {name} of {table}",
    "exclude": "exclude constraint {name} of {table}",
    "index": "index {name} of {table}",
    "formula": "column {table}.{name}",
    "collation": "column {table}.{name}",
    "option": "table {table}",
}


def _of_mismatch(chain: ChainName, mismatch: Mismatch) -> Difference:
    subject = _PARTS[mismatch.part].format(name=mismatch.name, table=mismatch.table)
    expected, actual = mismatch.expected, mismatch.actual
    match mismatch.part:
        case "formula":
            detail = f"its formula should be {expected or 'none'}, is {actual or 'none'}"
        case "collation":
            detail = f"its collation should be {expected or 'default'}, is {actual or 'default'}"
        case "option":
            detail = f"it should {'' if expected else 'not '}be {mismatch.name}"
        case _ if actual is None:
            return _missing(chain, subject, mismatch.table)
        case _ if expected is None:
            return _extra(chain, subject, mismatch.table)
        case _:
            detail = f"it should be {expected}, is {actual}"
    return Difference(chain, "changed", subject, mismatch.table, detail)


def _of_enum(chain: ChainName, change: EnumChange) -> Difference:
    expected, actual = ", ".join(change.expected), ", ".join(change.actual)
    table = change.columns[0].table if change.columns else ""
    detail = f"its values should be {expected}, are {actual}"
    return Difference(chain, "changed", f"type {change.name}", table, detail)
