"""Compares a database with the tables that it should have."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import ops
from sqlalchemy import Connection, MetaData

from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.locations import ChainName
from amphibase.schema.migrations.sqlite_impl import without_reflection_warnings


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a database and the tables it should have differ.

    Args:
        kind: `missing` from the database, `extra` in it, `changed`, or switched `off`.
        subject: what differs: `table notes`, `column notes.stars`.
        table: the table that it is, or is part of.
        detail: of a change, the expected and the actual value.
    """

    chain: ChainName
    kind: Literal["missing", "extra", "changed", "off"]
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
        return f"{self.subject}: {self.detail}"


def table_differences(
    connection: Connection, chain: Chain, metadata: MetaData | None = None
) -> list[Difference]:
    """Return how the database differs from the tables that the chain should have.

    Args:
        metadata: other tables to compare with than the chain's own.
    """
    wanted = chain.metadata if metadata is None else metadata
    operations = upgrade_operations(chain.context(connection, target_metadata=wanted), wanted)
    found = [item for each in _flat(operations) for item in _difference(chain.name, each)]
    # The parts of a table that is missing or extra go without saying.
    whole = {item.table for item in found if item.subject.startswith("table ")}
    return [item for item in found if item.subject.startswith("table ") or item.table not in whole]


def upgrade_operations(context: MigrationContext, metadata: MetaData) -> ops.UpgradeOps:
    """Return the operations of Alembic that would make the database as the tables are."""
    with without_reflection_warnings():
        script = produce_migrations(context, metadata)
    found = script.upgrade_ops or ops.UpgradeOps()
    for table in [each for each in found.ops if isinstance(each, ops.ModifyTableOps)]:
        table.ops = [each for each in table.ops if not _changes_nothing(each)]
        if table.is_empty():
            found.ops.remove(table)
    return found


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
