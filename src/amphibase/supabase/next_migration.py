"""The SQL that brings a prepared Supabase project to what the models have become."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import cleandoc
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from sqlalchemy import Connection, event, inspect

from amphibase.schema import change_log, policies, triggers
from amphibase.schema.ddl import run
from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.compare_policies import compare_policies
from amphibase.schema.migrations.revision_file import write_revision
from amphibase.supabase.starter import (
    missing_presence_functions,
    presence_sql,
    service_grants,
)

READING = ("SELECT", "SHOW", "WITH", "SAVEPOINT", "RELEASE", "ROLLBACK")
"""How the statements begin that change nothing."""

HEADER = "-- What the models have become since the migrations before. Read it before it is applied."


@dataclass(frozen=True, slots=True)
class NextMigration:
    """A migration of a project.

    Attributes:
        sql: None where the models have nothing new.
        warnings: what has to be read in it, and what it leaves out.
    """

    sql: str | None
    warnings: tuple[str, ...]


def next_migration(connection: Connection, chain: Chain, folder: Path) -> NextMigration:
    """Write what a project lacks, and run it there.

    Tables that the models do not have stay: they may be the project's own.

    Args:
        connection: to a copy of the project, without rows.
        chain: of the application, with the folder as its only revisions.
        folder: an empty one, for files in between.

    Raises:
        ConfigurationError: what differs has to be written by hand.
    """
    existing = set(inspect(connection).get_table_names())
    others = existing - set(chain.metadata.tables)
    chain = replace(chain, hidden=frozenset(others))
    changes = compare_policies(connection, chain)
    changes.after[:0] = [
        statement
        for rules in policies.declared(chain.metadata)
        if rules.table not in existing
        for statement in service_grants(rules)
    ]
    changes.after += triggers.statements(triggers.missing(connection, chain.metadata))
    warnings = [f"The table {name} is in the project alone; it stays" for name in sorted(others)]
    written = write_revision(chain, connection, "next", folder, changes)
    notes = written.warnings if written is not None else ()
    statements: list[str] = []
    if written is not None:
        with _recorded(connection) as statements, Operations.context(chain.context(connection)):
            _load(written.path).upgrade()
    additions = change_log.project_additions(connection, chain.metadata)
    if missing_presence_functions(connection):
        additions.append(presence_sql())
    if not statements and not additions:
        return NextMigration(None, tuple(warnings))
    run(connection, *additions)
    lines = [HEADER, *(f"-- {note}" for note in notes)]
    body = [*(f"{statement};" for statement in statements), *additions]
    reload = "NOTIFY pgrst, 'reload schema';"
    return NextMigration("\n\n".join(["\n".join(lines), *body, reload]) + "\n", (*warnings, *notes))


@contextmanager
def _recorded(connection: Connection) -> Iterator[list[str]]:
    """Collect the statements that the block runs and that change something."""
    statements: list[str] = []

    def record(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        text = statement.strip()
        if text.upper().startswith(READING):
            return
        if not context.execution_options.get("no_parameters"):
            text = text.replace("%%", "%")  # the driver's own escape
        statements.append(cleandoc(text))

    event.listen(connection, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(connection, "before_cursor_execute", record)


def _load(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location("next_migration_revision", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
