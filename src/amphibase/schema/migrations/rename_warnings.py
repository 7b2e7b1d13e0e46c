"""Finds what may be a rename in operations that drop one thing and create another."""

from collections.abc import Iterator

from alembic.operations import ops
from sqlalchemy import Dialect


def rename_warnings(operations: ops.UpgradeOps, dialect: Dialect) -> Iterator[str]:
    """Warn of columns and tables that are dropped where something alike is created.

    A comparison cannot distinguish that from a rename, which alone keeps the values.
    """
    for operation in operations.ops:
        if isinstance(operation, ops.ModifyTableOps):
            yield from _of_columns(operation, dialect)
    dropped = [item for item in operations.ops if isinstance(item, ops.DropTableOp)]
    created = [item for item in operations.ops if isinstance(item, ops.CreateTableOp)]
    for old in dropped:
        for new in created:
            if set(old.to_table().columns.keys()) == set(new.to_table().columns.keys()):
                created.remove(new)
                yield (
                    f"The table {old.table_name} is dropped and {new.table_name} created. If this "
                    f'is a rename, write op.rename_table("{old.table_name}", "{new.table_name}") '
                    "instead, or its rows are lost."
                )
                break


def _of_columns(table: ops.ModifyTableOps, dialect: Dialect) -> Iterator[str]:
    added = [item.column for item in table.ops if isinstance(item, ops.AddColumnOp)]
    for dropped in [item for item in table.ops if isinstance(item, ops.DropColumnOp)]:
        old = dropped.to_column()
        for new in added:
            alike = old.type.compile(dialect) == new.type.compile(dialect)
            if alike and new.name != old.name and new.computed is None:
                added.remove(new)
                yield (
                    f"The column {old.name} of {table.table_name} is dropped and {new.name} added. "
                    f'If this is a rename, write batch_op.alter_column("{old.name}", '
                    f'new_column_name="{new.name}") instead of both, or its values are lost.'
                )
                break
