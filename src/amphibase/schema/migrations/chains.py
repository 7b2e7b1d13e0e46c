"""The three chains of revisions: which tables each one sees, and how its revisions are run."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from alembic.ddl import DefaultImpl
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, Table, inspect, text
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from amphibase.database.engine import Database
from amphibase.database.errors import translate
from amphibase.errors import ConfigurationError, Retryable
from amphibase.private_names.alembic import downgrade_steps, upgrade_steps
from amphibase.records.adoption import complete_tables
from amphibase.schema import change_log
from amphibase.schema.migrations import roles
from amphibase.schema.migrations.errors import advice, primary_message, readable_errors
from amphibase.schema.migrations.locations import (
    HERE,
    PACKAGED,
    ChainName,
    locate_chains,
    packaged_location,
)
from amphibase.schema.migrations.postgres_impl import TextComparingPostgresqlImpl
from amphibase.schema.migrations.sqlite_impl import CarryingSQLiteImpl, without_reflection_warnings
from amphibase.schema.tables import tables
from amphibase.settings.application import Settings

FILE_NAMES = "%(year)d%(month).2d%(day).2d_%(hour).2d%(minute).2d%(second).2d_%(slug)s"
UNDEFINED_OBJECT = "42704"

_IMPLEMENTATIONS: dict[str, type[DefaultImpl]] = {
    "sqlite": CarryingSQLiteImpl,
    "postgresql": TextComparingPostgresqlImpl,
}


@dataclass(frozen=True, slots=True)
class RevisionOutcome:
    """The outcome of one revision.

    Args:
        status: `applied` it ran; `stamped` what it creates existed already, so that it was only
            recorded; `undone` its downgrade ran.
    """

    chain: ChainName
    revision: str
    message: str
    status: Literal["applied", "stamped", "undone"]


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """The revision of a chain that a database is at.

    Args:
        current: the newest revision that ran, None before the first.
        head: the newest revision there is.
        behind: whether revisions are pending; a database that is ahead of the code is not behind.
    """

    chain: ChainName
    current: str | None
    head: str
    behind: bool


@dataclass(frozen=True)
class Chain:
    """One chain of revisions and the tables that are its own.

    Args:
        metadata: the tables as they should be.
        schema: their schema, None for the default schema.
        hidden: tables of other chains in the same schema.
    """

    name: ChainName
    script: ScriptDirectory
    metadata: MetaData
    version_table: str
    schema: str | None = None
    hidden: frozenset[str] = frozenset()

    def context(self, connection: Connection, **options: Any) -> MigrationContext:
        """Return Alembic's context for the database, limited to this chain."""
        partitions = cache(partial(_partitions, connection))

        def includes_name(name: str | None, kind: str, parents: Any) -> bool:
            if kind == "schema":
                return name == self.schema
            if kind != "table":
                return True
            schema = parents["schema_name"]
            declared = (f"{schema}.{name}" if schema else name) in self.metadata.tables
            return self.owns_name(name or "", schema) and (declared or name not in partitions())

        context = MigrationContext.configure(
            connection,
            opts={
                "target_metadata": self.metadata,
                "version_table": self.version_table,
                "version_table_schema": self.schema,
                "include_schemas": self.schema is not None,
                "include_name": includes_name,
                "include_object": self._includes_object,
                "compare_server_default": True,
                "render_as_batch": True,
                "transactional_ddl": True,
                **options,
            },
        )
        implementation = _IMPLEMENTATIONS[connection.dialect.name]
        context.impl = implementation(context.dialect, connection, False, True, None, context.opts)
        return context

    def owns(self, table: Table) -> bool:
        """Return whether this chain creates and changes the table."""
        return self.owns_name(table.name, table.schema)

    def owns_name(self, name: str, schema: str | None = None) -> bool:
        """Return whether this chain creates and changes the table of that name."""
        if self.name == "application":
            return schema is None and name not in self.hidden
        return any(
            (table.schema, table.name) == (schema, name) for table in self.metadata.tables.values()
        )

    def _includes_object(
        self, item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
    ) -> bool:
        return kind != "table" or self.owns(item)

    def status(self, connection: Connection) -> ChainStatus:
        """Return the revision that the database is at."""
        current = self.context(connection).get_current_heads()
        with readable_errors():
            head = self.script.get_current_head() or "base"
            revisions = {revision.revision for revision in self.script.walk_revisions()}
        behind = head not in current and revisions.issuperset(current)
        return ChainStatus(self.name, ", ".join(current) or None, head, behind)

    def upgrades(self, connection: Connection, revision: str = "head") -> list[RevisionStep]:
        """Return the pending steps up to a revision, for `run`; the schema is created at once."""
        if self.schema and self.schema not in inspect(connection).get_schema_names():
            connection.execute(CreateSchema(self.schema))
        current: Any = self._current(connection)
        with readable_errors():
            return upgrade_steps(self.script, revision, current)

    def downgrades(self, connection: Connection, revision: str) -> list[RevisionStep]:
        """Return the steps back to a revision, for `run`."""
        current: Any = self._current(connection)
        with readable_errors():
            return downgrade_steps(self.script, revision, current)

    def _current(self, connection: Connection) -> tuple[str, ...]:
        current = self.context(connection).get_current_heads()
        for revision in current:
            try:
                self.script.get_revision(revision)
            except CommandError:
                raise ConfigurationError(
                    f"The database is at revision {revision} of the {self.name} chain, which is "
                    "not here: run this with the code that made it"
                ) from None
        return current

    def run(self, connection: Connection, step: RevisionStep) -> None:
        """Run one step; nothing of it stays when it fails."""
        context = self.context(connection, fn=lambda heads, context: [step])
        if connection.dialect.name == "postgresql":
            # Alembic creates the enum types of a new table without a check that they exist, though
            # another table may use them, or a downgrade have left them: mark them as created.
            names = {(None, each["name"]) for each in inspect(connection).get_enums()}  # type: ignore[attr-defined]
            context.impl.memo[f"pg_{ENUM.__visit_name__}"] = names
        context.autocommit_block = _reject_autocommit  # type: ignore[method-assign]
        with (
            connection.begin_nested(),
            Operations.context(context),
            without_reflection_warnings(),
        ):
            context.run_migrations()

    def stamp(self, connection: Connection, step: RevisionStep) -> None:
        """Record a step as done without running it."""
        self.context(connection).stamp(self.script, step.revision.revision)

    def outcome(
        self, step: RevisionStep, status: Literal["applied", "stamped", "undone"]
    ) -> RevisionOutcome:
        """Return the outcome of a step."""
        return RevisionOutcome(self.name, step.revision.revision, step.revision.doc, status)

    def failure(self, connection: Connection, step: RevisionStep, error: DBAPIError) -> Exception:
        """Return the readable error for a step that the database rejected."""
        undefined = getattr(error.orig, "sqlstate", None) == UNDEFINED_OBJECT  # a role, for one
        if undefined and (missing := roles.missing_objects(connection)):
            return roles.missing_error(missing)
        translated = translate(error)
        if isinstance(translated, Retryable):
            return translated
        reason = advice(error)
        if reason is None:
            # Other messages of the database can quote a row.
            reason = translated.detail if translated else primary_message(error)
        return ConfigurationError(
            f"Revision {step.revision.revision} of the {self.name} chain failed, and nothing was "
            f"changed: {reason}"
        )


def build_chains(database: Database, settings: Settings, metadata: MetaData) -> list[Chain]:
    """Build the chains whose part of the data is in the database, in the order in which they run.

    Args:
        metadata: the application's models.

    Raises:
        ConfigurationError: a model names a schema, or a revision cannot be read.
    """
    own_tables = tables(database.dialect)
    packaged = {"auth": own_tables.auth, "storage": own_tables.storage}
    chains: list[Chain] = []
    for location in locate_chains(database, settings):
        version_table, schema = location.version_table, location.schema
        if location.name != "application":
            chains.append(packaged_chain(database, location.name))
            continue
        _reject_schemas(metadata)
        complete_tables(metadata)
        hidden: set[str] = set()
        if database.dialect == "sqlite":  # no schemas: their tables are beside the application's
            hidden = {f"{name}_amphibase_version" for name in packaged}
            hidden.add(change_log.TABLE)
            hidden |= {table.name for own in packaged.values() for table in own.tables.values()}
        script = _read(settings.migrations_dir)
        chains.append(
            Chain(location.name, script, metadata, version_table, schema, frozenset(hidden))
        )
    return chains


def packaged_chain(database: Database, name: Literal["auth", "storage"]) -> Chain:
    """Build a chain that comes with the package, whatever else is in the database."""
    own_tables = tables(database.dialect)
    location = packaged_location(database, name)
    return Chain(
        name,
        ScriptDirectory(HERE, version_locations=location.folders),
        own_tables.auth if name == "auth" else own_tables.storage,
        location.version_table,
        location.schema,
    )


def chain_named(chains: Sequence[Chain], name: str) -> Chain:
    """Return the chain of that name.

    Raises:
        ConfigurationError: no such chain runs on this database.
    """
    for chain in chains:
        if chain.name == name:
            return chain
    names = ", ".join(chain.name for chain in chains) or "none"
    raise ConfigurationError(f"No chain {name!r} runs on this database; those that do: {names}")


def _read(folder: Path) -> ScriptDirectory:
    script = ScriptDirectory(
        HERE,
        version_locations=[PACKAGED, folder.absolute()],
        file_template=FILE_NAMES,
        messaging_opts={"quiet": True},
    )
    try:
        with warnings.catch_warnings():
            # Of a revision that is missing or duplicate, Alembic only warns, and fails later.
            warnings.filterwarnings("error", "Revision .* present", UserWarning)
            script.get_heads()
    except (RevisionError, UserWarning, AttributeError) as error:
        raise ConfigurationError(f"The revisions in {folder} cannot be read: {error}") from error
    return script


def _reject_schemas(metadata: MetaData) -> None:
    # Tables of `auth` and `storage` may stand in the models for foreign keys to refer to.
    for table in metadata.tables.values():
        if table.schema not in (None, "auth", "storage"):
            raise ConfigurationError(
                f"The model of {table.fullname} names a schema; the application's tables live in "
                "the default one, on every backend"
            )


def _partitions(connection: Connection) -> frozenset[str]:
    """Return the names of the partitions on the search path, which belong to their table.

    The inspector lists them as tables, so that Alembic would drop them with their rows.
    """
    if connection.dialect.name != "postgresql":
        return frozenset()
    query = text(
        "SELECT relname FROM pg_catalog.pg_class"
        " WHERE relispartition AND pg_catalog.pg_table_is_visible(oid)"
    )
    return frozenset(connection.scalars(query))


def _reject_autocommit() -> NoReturn:
    raise ConfigurationError(
        "A revision asks for an autocommit_block(), but an upgrade is one transaction: write it "
        "without (CREATE INDEX without CONCURRENTLY)"
    )
