"""Alters tables on SQLite by a copy, as Alembic does, and carries over what its copy would lose.

Alembic reflects a table, creates the changed one under a temporary name, copies the rows, drops the
old table and renames the new one. Reflection does not see collations, AUTOINCREMENT, declared types
that SQLAlchemy does not know, nameless checks, indexes over expressions and triggers.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from alembic.ddl.sqlite import SQLiteImpl
from alembic.operations.batch import ApplyBatchImpl
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Enum,
    ForeignKeyConstraint,
    Index,
    Table,
    text,
)
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.sql.elements import conv
from sqlalchemy.types import UserDefinedType

from amphibase.errors import ConfigurationError
from amphibase.schema.ddl import as_text
from amphibase.schema.migrations.sqlite_ddl import ParsedTable, parse_table
from amphibase.schema.migrations.sqlite_table_copy import TableCopy, quoted_name
from amphibase.schema.postgres_indexes import is_inverted, is_of_postgres

ENUMS = "amphibase_enums"
"""The key of the values of enums in the `info` of a connection."""

PARSED = "amphibase_parsed"
"""The key of a parsed statement in the `info` of a reflected table."""


_WARNINGS = (
    ".*expression-based index",
    "Unnamed CHECK constraint on reflected table",
    "Did not recognize type",
    "Could not instantiate type",
    "Computed default on .* cannot be modified",
)


class DeclaredType(UserDefinedType[Any]):
    """A type by its declaration, for those that SQLAlchemy does not know."""

    cache_ok = True

    def __init__(self, declaration: str) -> None:
        self.declaration = declaration

    def get_col_spec(self, **options: Any) -> str:
        """Return the declaration."""
        return self.declaration


@contextmanager
def without_reflection_warnings() -> Iterator[None]:
    """Silence the warnings about what Alembic does not reflect and this module carries over."""
    logger = logging.getLogger("alembic.ddl.impl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)


class CarryingSQLiteImpl(SQLiteImpl):
    """Alembic's implementation for SQLite, whose copies of tables are complete."""

    _copy: TableCopy | None = None

    def correct_for_autogen_constraints(
        self,
        conn_uniques: Any,
        conn_indexes: Any,
        metadata_unique_constraints: Any,
        metadata_indexes: Any,
    ) -> None:
        """Let indexes over expressions be created, which Alembic leaves out on SQLite."""

    def create_index(self, index: Index, **options: Any) -> None:
        """Create an index, unless it is one that only Postgres has."""
        if not is_of_postgres(index):
            super().create_index(index, **options)

    def drop_index(self, index: Index, **options: Any) -> None:
        """Drop an index, which may be one that only Postgres has."""
        if is_inverted(index):
            options["if_exists"] = True
        super().drop_index(index, **options)

    def create_table(self, table: Table, **options: Any) -> None:
        """Create a table, and remember the enums of its columns."""
        copy = self._copy
        copied = copy is not None and table.name == copy.temporary_name
        self._remember_enums(copy.table if copy and copied else table.name, *table.columns)
        super().create_table(table, **options)

    def add_column(self, table_name: str, column: Column[Any], **options: Any) -> None:
        """Add a column, and remember its enum."""
        self._remember_enums(table_name, column)
        super().add_column(table_name, column, **options)

    def _remember_enums(self, table: str, *columns: Column[Any]) -> None:
        if self.connection is not None:
            enums = created_enums(self.connection)
            for column in columns:
                if isinstance(column.type, Enum):
                    enums[table, column.name] = tuple(column.type.enums)

    def autogen_column_reflect(
        self, inspector: Inspector, table: Table, column_info: Mapping[str, Any]
    ) -> None:
        """Add the collation and the declared type to a reflected column."""
        column: dict[str, Any] = column_info  # type: ignore[assignment]
        super().autogen_column_reflect(inspector, table, column)
        connection = _connection_of(inspector)
        if PARSED not in table.info:
            table.info[PARSED] = _parse(connection, table.name), _declarations(connection, table)
        parsed, declarations = table.info[PARSED]
        _declare(column, declarations.get(column["name"], ""), parsed)  # type: ignore[arg-type]

    def prep_table_for_batch(self, batch_impl: ApplyBatchImpl, table: Table) -> None:
        """Complete the new table, before it is created.

        Raises:
            ConfigurationError: the table has something that a copy would lose.
        """
        super().prep_table_for_batch(batch_impl, table)
        connection = self.connection
        new_table = batch_impl.new_table
        if connection is None or new_table is None:
            return
        _rename_columns(connection, batch_impl)
        parsed = _parse(connection, table.name)
        if parsed.unsupported:
            raise ConfigurationError(
                f"The table {table.name} has {', '.join(parsed.unsupported)}, which is lost where "
                "it is copied to be changed: copy it by SQL of your own, in op.execute(), as "
                '"Making Other Kinds Of Table Schema Changes" of SQLite\'s documentation says'
            )
        _complete(new_table, batch_impl, parsed)
        for name, column in batch_impl.columns.items():
            if column.computed is not None:
                # Its values come from the formula: SQLite does not let them be inserted.
                batch_impl.column_transfers[name].pop("expr", None)
        self._copy = TableCopy.of(connection, batch_impl, parsed)
        batch_impl.indexes.clear()
        batch_impl.new_indexes.clear()

    def rename_table(
        self, old_table_name: str, new_table_name: str, schema: str | None = None
    ) -> None:
        """Rename a table; after the rename that ends a copy, restore what the old table had."""
        copy = self._copy
        connection = self.connection
        if copy is None or connection is None or old_table_name != copy.temporary_name:
            super().rename_table(old_table_name, new_table_name, schema)
            return
        self._copy = None
        # Views and triggers that use the table are complete again only after the rename.
        connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
        try:
            super().rename_table(old_table_name, new_table_name, schema)
        finally:
            connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
        copy.restore(connection, self)


def created_enums(connection: Connection) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the values of the enums that revisions created on a connection.

    SQLite itself does not know them: there an enum is text.

    Returns:
        The values by table and column.
    """
    enums: dict[tuple[str, str], tuple[str, ...]] = connection.info.setdefault(ENUMS, {})
    return enums


def _connection_of(inspector: Inspector) -> Connection:
    bind = inspector.bind
    if not isinstance(bind, Connection):
        raise TypeError("A table is reflected on a connection")
    return bind


def _parse(connection: Connection, table: str) -> ParsedTable:
    sql = connection.exec_driver_sql(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)", (table,)
    ).scalar()
    return parse_table(sql) if sql else ParsedTable()


def _declarations(connection: Connection, table: Table) -> dict[str, str]:
    rows = connection.exec_driver_sql("SELECT name, type FROM pragma_table_xinfo(?)", (table.name,))
    # SQLite counts the words before the formula of a generated column as its type.
    return {name: re.sub(r"(?i)\s*\bgenerated always$", "", kind) for name, kind in rows}


def _declare(column: ReflectedColumn, declaration: str, parsed: ParsedTable) -> None:
    """Give a reflected column the collation and the declaration that it has."""
    collation = parsed.collations.get(column["name"])
    kind: Any = column["type"]
    if collation and hasattr(kind, "collation"):
        kind.collation = collation
    elif collation or kind.compile().upper() != declaration.upper():
        if "affinity" in declaration:
            return
        suffix = f" COLLATE {quoted_name(collation)}" if collation else ""
        column["type"] = DeclaredType(declaration + suffix)


def _rename_columns(connection: Connection, batch_impl: ApplyBatchImpl) -> None:
    """Rename columns on the old table, for SQLite then rewrites what refers to them."""
    table = batch_impl.table
    for key, column in batch_impl.columns.items():
        if key != column.name:
            connection.exec_driver_sql(
                f"ALTER TABLE {quoted_name(table.name)} RENAME COLUMN {quoted_name(key)} "
                f"TO {quoted_name(column.name)}"
            )
            table.c[key].name = column.name


def _complete(new_table: Table, batch_impl: ApplyBatchImpl, parsed: ParsedTable) -> None:
    options = new_table.dialect_options["sqlite"]
    options["autoincrement"] = options["autoincrement"] or parsed.autoincrement
    options["strict"] = parsed.strict
    options["with_rowid"] = not parsed.without_rowid
    for name, formula in parsed.formulas.items():
        column = new_table.c.get(name)
        if column is None or column.computed is None:
            continue
        if "expr" in batch_impl.column_transfers[name]:  # a new column has a formula of its own
            column.computed.sqltext = text(as_text(formula.expression))
    _complete_checks(new_table, batch_impl, parsed)
    _complete_foreign_keys(new_table, batch_impl)


def _complete_checks(new_table: Table, batch_impl: ApplyBatchImpl, parsed: ParsedTable) -> None:
    """Replace the reflected checks that the revision keeps by those of the statement."""
    reflected = {
        check.name for check in batch_impl.table.constraints if isinstance(check, CheckConstraint)
    }
    preserved = {
        name
        for name, constraint in batch_impl.named_constraints.items()
        if constraint.table is batch_impl.table
    }
    for constraint in list(new_table.constraints):
        if isinstance(constraint, CheckConstraint) and constraint.name in reflected & preserved:
            new_table.constraints.remove(constraint)
    for check in parsed.checks:
        if check.name is None or check.name in preserved or check.name not in reflected:
            name = conv(check.name) if check.name else None
            constraint = CheckConstraint(text(as_text(check.expression)), name=name)
            new_table.append_constraint(constraint)


def _complete_foreign_keys(new_table: Table, batch_impl: ApplyBatchImpl) -> None:
    """Add the actions of foreign keys beside a column, which reflection does not see."""
    connection = batch_impl.impl.connection
    if connection is None:
        return
    rows = connection.exec_driver_sql(
        'SELECT id, "from", "table", on_update, on_delete FROM pragma_foreign_key_list(?)',
        (batch_impl.table.name,),
    ).all()
    for constraint in new_table.constraints:
        if not isinstance(constraint, ForeignKeyConstraint):
            continue
        for key in {row.id for row in rows}:
            group = [row for row in rows if row.id == key]
            target = constraint.elements[0].target_fullname.rpartition(".")[0]
            if target == group[0].table and {row[1] for row in group} == set(
                constraint.column_keys
            ):
                _set_actions(constraint, group[0].on_update, group[0].on_delete)


def _set_actions(constraint: ForeignKeyConstraint, on_update: str, on_delete: str) -> None:
    if constraint.onupdate is None and on_update != "NO ACTION":
        constraint.onupdate = on_update
    if constraint.ondelete is None and on_delete != "NO ACTION":
        constraint.ondelete = on_delete
