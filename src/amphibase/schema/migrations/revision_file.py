"""Writes revisions of the application: what its models have and the revisions before do not."""

import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alembic.autogenerate import render_python_code
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.util import rev_id
from sqlalchemy import Connection, Enum, false, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.schema import DefaultClause
from sqlalchemy.sql.elements import False_, TextClause, True_
from sqlalchemy.sql.functions import now
from sqlalchemy.types import JSON, TypeDecorator

from amphibase.errors import ConfigurationError
from amphibase.private_names.alembic import render_type
from amphibase.private_names.sqlalchemy import copy_column
from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.compare_tables import Comparison, compare_tables
from amphibase.schema.migrations.definition_operations import DefinitionOperations
from amphibase.schema.migrations.errors import readable_errors
from amphibase.schema.migrations.formatting import comment, format_code, postgres_only
from amphibase.schema.migrations.policy_changes import PolicyChanges
from amphibase.schema.migrations.rename_warnings import rename_warnings

_CAST_LITERAL = r"('(?:[^']|'')*')::[\w ]+(?:\(\d+\))?"
"""A default as Postgres writes it back."""

IMPORTS = {
    "sa": "import sqlalchemy as sa",
    "op": "from alembic import op",
    "postgresql": "from sqlalchemy.dialects import postgresql",
    "sqlite": "from sqlalchemy.dialects import sqlite",
}


@dataclass(frozen=True, slots=True)
class RevisionFile:
    """A revision that was written.

    Args:
        warnings: what has to be read in it, and what it leaves out.
    """

    path: Path
    warnings: tuple[str, ...] = ()


def write_revision(
    chain: Chain,
    scratch: Connection | None,
    message: str,
    folder: Path,
    security: PolicyChanges | None = None,
) -> RevisionFile | None:
    """Write a revision that follows the newest one.

    Args:
        scratch: a database in which the revisions so far have run; None for an empty revision.
        folder: the folder of the file; it is created.
        security: the changes of row level security.

    Returns:
        The file; None where the models have nothing new.

    Raises:
        ConfigurationError: two revisions follow the same one, or what differs has to be written
            by hand.
    """
    if scratch is None:
        return _write(chain, message, folder, _RevisionCode())
    comparison = compare_tables(scratch, chain)
    changes = security or PolicyChanges()
    if not comparison and not changes:
        return None
    body = _body(chain.context(scratch), scratch, comparison, changes)
    if not body.upgrades:
        raise ConfigurationError(" ".join(body.warnings))
    return _write(chain, message, folder, body)


@dataclass(slots=True)
class _RevisionCode:
    """The code of a revision."""

    upgrades: str = ""
    downgrades: str = ""
    imports: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)


def _body(
    context: MigrationContext,
    scratch: Connection,
    comparison: Comparison,
    changes: PolicyChanges,
) -> _RevisionCode:
    body = _RevisionCode()
    operations = comparison.operations
    definitions = DefinitionOperations(scratch, comparison.tables, comparison.actual)
    definitions.add_to(operations, comparison.mismatches)
    body.warnings = [*rename_warnings(operations, scratch.dialect), *definitions.warnings()]
    upgrades = downgrades = ""
    if not operations.is_empty():
        downgrades = _code(operations.reverse(), context, body.imports)
        _fill_new_columns(operations)
        types = list(_enums_of_new_columns(operations))
        upgrades = _code(operations, context, body.imports, types)
    enum_upgrades, enum_downgrades = "", ""
    for change in comparison.enums:
        in_use = any(repr(value) in upgrades or f'"{value}"' in upgrades for value in change.new)
        text_change = change.operations()
        enum_downgrades += postgres_only(
            change.undo_statements(), _code(text_change.reverse(), context, body.imports, indent=8)
        )
        enum_upgrades += postgres_only(
            change.statements(in_use=in_use), _code(text_change, context, body.imports, indent=8)
        )
    body.upgrades = _around(changes.before, enum_upgrades + upgrades, changes.after)
    body.downgrades = _around(changes.undo_before, downgrades + enum_downgrades, changes.undo_after)
    if body.upgrades:
        body.upgrades = "".join(map(comment, body.warnings)) + body.upgrades
    return body


def _write(chain: Chain, message: str, folder: Path, body: _RevisionCode) -> RevisionFile:
    for name, line in IMPORTS.items():
        if re.search(rf"\b{name}\.", body.upgrades + body.downgrades):
            body.imports.add(line)
    with readable_errors():
        written = chain.script.generate_revision(
            rev_id(),
            message,
            version_path=folder.absolute(),
            docstring=repr(message) if re.search(r'["\\\n]', message) else f'"""{message}"""',
            upgrades=(body.upgrades or "    pass").rstrip(),
            downgrades=(body.downgrades or "    pass").rstrip(),
            imports=sorted(body.imports, key=lambda line: (line.startswith("from"), line)),
        )
    if written is None:
        raise ConfigurationError(f"The revision was written to {folder}, but cannot be read")
    return RevisionFile(Path(written.path), tuple(body.warnings))


def _around(before: list[str], code: str, after: list[str]) -> str:
    if not code:
        return postgres_only(before + after)
    return postgres_only(before) + code + postgres_only(after)


def _code(
    operations: ops.UpgradeOps | ops.DowngradeOps,
    context: MigrationContext,
    imports: set[str],
    types: Sequence[Enum] = (),
    indent: int = 4,
) -> str:
    def render(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
        if kind == "server_default":
            return _portable_default(item)
        if kind != "type":
            return False
        match item:  # Alembic renders these well on Postgres alone
            case JSONB():
                return "postgresql.JSONB()"
            case ARRAY():
                return f"postgresql.ARRAY({render_type(item.item_type, autogenerate)})"
            case JSON() if item.none_as_null:  # a matter of Python, not of the database
                plain = copy(item)
                plain.none_as_null = False
                return render_type(plain, autogenerate)
        if type(item).__module__.startswith("sqlalchemy."):
            return False
        if isinstance(item, TypeDecorator):
            # What a column is in the database, so that history does not hang on the application.
            return render_type(item.impl_instance, autogenerate)
        imports.add(f"import {type(item).__module__}")
        return False

    code = render_python_code(
        operations, render_as_batch=True, render_item=render, migration_context=context
    )
    creations = [f"sa.{item!r}.create(op.get_bind(), checkfirst=True)" for item in types]
    return format_code("\n    ".join([*creations, code]), indent)


def _enums_of_new_columns(operations: ops.UpgradeOps) -> Iterator[Enum]:
    # Alembic creates the types of a new table, but not those of a new column.
    for table in operations.ops:
        if isinstance(table, ops.ModifyTableOps):
            for added in table.ops:
                if isinstance(added, ops.AddColumnOp) and isinstance(added.column.type, Enum):
                    yield added.column.type


def _portable_default(default: Any) -> str | Literal[False]:
    # Left to Alembic, these would be text in the dialect of the current engine: `1` for true.
    match getattr(default, "arg", None):
        case True_():
            return "sa.true()"
        case False_():
            return "sa.false()"
        case now():
            return "sa.func.now()"
        case TextClause() as clause if cast := re.fullmatch(_CAST_LITERAL, clause.text):
            return f"sa.text({cast[1]!r})"
    return False


def _fill_new_columns(operations: ops.UpgradeOps) -> None:
    """Give existing rows the model's default in new columns that do not take NULL.

    The default is for them alone: a second step takes it away again.
    """
    for table in list(operations.ops):
        if not isinstance(table, ops.ModifyTableOps):
            continue
        cleared: list[ops.MigrateOperation] = []
        for added in table.ops:
            if not isinstance(added, ops.AddColumnOp):
                continue
            column = added.column
            if column.nullable or column.server_default is not None:
                continue
            value = getattr(column.default, "arg", None)
            if not isinstance(value, bool | int | float | str):
                continue
            literal = (true() if value else false()) if isinstance(value, bool) else str(value)
            added.column = copy_column(column)
            added.column.server_default = DefaultClause(literal)
            cleared.append(
                ops.AlterColumnOp(
                    table.table_name,
                    column.name,
                    existing_type=column.type,
                    existing_nullable=False,
                    modify_server_default=None,
                )
            )
        if cleared:
            after = operations.ops.index(table) + 1
            operations.ops.insert(after, ops.ModifyTableOps(table.table_name, cleared))
