"""The three chains of revisions: which tables each one sees, and how its revisions are run."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, create_engine, inspect
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from amphibase.database.errors import translate
from amphibase.errors import ConfigurationError, Retryable
from amphibase.schema.migrations import roles
from amphibase.schema.tables import tables
from amphibase.settings import Settings

ChainName = Literal["auth", "storage", "application"]

HERE = Path(__file__).parent
STOCK = HERE / "application"
FILE_NAMES = "%(year)d%(month).2d%(day).2d_%(hour).2d%(minute).2d%(second).2d_%(slug)s"
UNDEFINED_OBJECT = "42704"


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one revision.

    Args:
        status: `applied` it ran; `adopted` what it makes was there already, so that it was only
            noted; `undone` its downgrade ran.
    """

    chain: ChainName
    revision: str
    message: str
    status: Literal["applied", "adopted", "undone"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a database stands on a chain.

    Args:
        current: the newest revision that ran, None before the first.
        head: the newest revision there is.
        behind: whether revisions wait; a database that is ahead of the code is not behind.
    """

    chain: ChainName
    current: str | None
    head: str
    behind: bool


@dataclass(frozen=True)
class Chain:
    """One chain of revisions and the tables that are its own.

    Args:
        metadata: what the tables should be.
        schema: where they are, None for the default schema.
        hidden: tables of other chains in the same schema.
    """

    name: ChainName
    script: ScriptDirectory
    metadata: MetaData
    version_table: str
    schema: str | None = None
    hidden: frozenset[str] = frozenset()

    def context(self, connection: Connection, **options: Any) -> MigrationContext:
        """Alembic's view of the database, limited to this chain."""
        return MigrationContext.configure(
            connection,
            opts={
                "target_metadata": self.metadata,
                "version_table": self.version_table,
                "version_table_schema": self.schema,
                "include_schemas": self.schema is not None,
                "include_name": self._includes_name,
                "include_object": self._includes_object,
                "compare_server_default": True,
                "render_as_batch": True,
                "transactional_ddl": True,
                **options,
            },
        )

    def owns(self, schema: str | None, table: str) -> bool:
        """Whether a table is this chain's to make and to change."""
        if self.name == "application":
            return schema is None and table not in self.hidden
        return any(
            (known.schema, known.name) == (schema, table) for known in self.metadata.tables.values()
        )

    def _includes_name(self, name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == self.schema
        return kind != "table" or self.owns(parents["schema_name"], name or "")

    def _includes_object(
        self, item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
    ) -> bool:
        return kind != "table" or self.owns(item.schema, name or "")

    def position(self, connection: Connection) -> Position:
        """Where the database stands."""
        current = self.context(connection).get_current_heads()
        with readable_errors():
            head = self.script.get_current_head() or "base"
            known = {revision.revision for revision in self.script.walk_revisions()}
        behind = head not in current and known.issuperset(current)
        return Position(self.name, ", ".join(current) or None, head, behind)

    def upgrades(self, connection: Connection, revision: str = "head") -> list[RevisionStep]:
        """The steps that wait until a revision, for `run`; the schema is made at once."""
        if self.schema and self.schema not in inspect(connection).get_schema_names():
            connection.execute(CreateSchema(self.schema))
        current: Any = self._current(connection)
        with readable_errors():
            return self.script._upgrade_revs(revision, current)

    def downgrades(self, connection: Connection, revision: str) -> list[RevisionStep]:
        """The steps back to a revision, for `run`."""
        current: Any = self._current(connection)
        with readable_errors():
            return self.script._downgrade_revs(revision, current)

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
            # Alembic makes the enum types of a new table without asking whether they exist, though
            # another table may use them, or a downgrade have left them: say that they are made.
            names = {(None, each["name"]) for each in inspect(connection).get_enums()}  # type: ignore[attr-defined]
            context.impl.memo[f"pg_{ENUM.__visit_name__}"] = names
        context.autocommit_block = _refuse_autocommit  # type: ignore[method-assign]
        with connection.begin_nested(), Operations.context(context):
            context.run_migrations()

    def note(self, connection: Connection, step: RevisionStep) -> None:
        """Note a step as done without running it."""
        self.context(connection).stamp(self.script, step.revision.revision)

    def outcome(
        self, step: RevisionStep, status: Literal["applied", "adopted", "undone"]
    ) -> Applied:
        """What is told of a step."""
        return Applied(self.name, step.revision.revision, step.revision.doc, status)

    def failure(self, connection: Connection, step: RevisionStep, error: DBAPIError) -> Exception:
        """The readable error for a step that the database refused."""
        undefined = getattr(error.orig, "sqlstate", None) == UNDEFINED_OBJECT  # a role, for one
        if undefined and (absent := roles.missing(connection)):
            return roles.refusal(absent)
        ours = translate(error)
        if isinstance(ours, Retryable):
            return ours
        # Other messages of the database can quote a row.
        reason = ours.detail if ours else _primary_message(error)
        return ConfigurationError(
            f"Revision {step.revision.revision} of the {self.name} chain failed, and nothing was "
            f"changed: {reason}"
        )


def chains(dialect: str, settings: Settings, metadata: MetaData) -> list[Chain]:
    """The chains whose part of the data lives in SQL, in the order they are run.

    Args:
        metadata: the application's models.

    Raises:
        ConfigurationError: a model names a schema, or a revision cannot be read.
    """
    ours = tables(dialect)
    packaged: tuple[tuple[Literal["accounts", "files"], ChainName, MetaData], ...] = (
        ("accounts", "auth", ours.auth),
        ("files", "storage", ours.storage),
    )
    on_sqlite = dialect == "sqlite"
    found: list[Chain] = []
    for home, name, known in packaged:
        if settings.home(home) == "sql":
            version_table = f"{name}_amphibase_version" if on_sqlite else "amphibase_version"
            found.append(
                Chain(
                    name,
                    ScriptDirectory(HERE, version_locations=[HERE / name]),
                    known,
                    version_table,
                    None if on_sqlite else name,
                )
            )
    if settings.home("records") == "sql":
        _refuse_schemas(metadata)
        hidden = {f"{name}_amphibase_version" for _, name, _ in packaged}
        hidden |= {table.name for _, _, known in packaged for table in known.tables.values()}
        found.append(
            Chain(
                "application",
                _read(settings.migrations_dir),
                metadata,
                "alembic_version",
                hidden=frozenset(hidden if on_sqlite else ()),
            )
        )
    return found


def _read(folder: Path) -> ScriptDirectory:
    script = ScriptDirectory(
        HERE,
        version_locations=[STOCK, folder.absolute()],
        file_template=FILE_NAMES,
        messaging_opts={"quiet": True},
    )
    try:
        with warnings.catch_warnings():
            # Of a revision that is missing or there twice, Alembic only warns, and fails later.
            warnings.filterwarnings("error", "Revision .* present", UserWarning)
            script.get_heads()
    except (RevisionError, UserWarning, AttributeError) as error:
        raise ConfigurationError(f"The revisions in {folder} cannot be read: {error}") from error
    return script


def _refuse_schemas(metadata: MetaData) -> None:
    # Tables of `auth` and `storage` may stand in the models for foreign keys to refer to.
    for table in metadata.tables.values():
        if table.schema not in (None, "auth", "storage"):
            raise ConfigurationError(
                f"The model of {table.fullname} names a schema; the application's tables live in "
                "the default one, on every home"
            )


@contextmanager
def scratch(
    connection: Connection, chains: Sequence[Chain], revision: str = "head"
) -> Iterator[Connection]:
    """A place that holds what the revisions make and nothing else; it is gone afterwards.

    On SQLite it is a database in memory, on Postgres a schema in a savepoint that is rolled back.
    """
    application = chains[-1]
    if connection.dialect.name == "sqlite":
        engine = create_engine("sqlite://")
        try:
            with engine.begin() as place:
                _run_all(place, chains, revision)
                yield place
        finally:
            engine.dispose()
        return
    savepoint = connection.begin_nested()
    try:
        _run_all(connection, chains[:-1], revision)
        connection.execute(CreateSchema(roles.SCRATCH))
        # `extensions` is where Supabase keeps extensions and their types; it need not exist.
        connection.exec_driver_sql(f"SET LOCAL search_path = {roles.SCRATCH}, extensions")
        _run_all(connection, [application], revision)
        yield connection
    finally:
        savepoint.rollback()


def _run_all(connection: Connection, chains: Sequence[Chain], revision: str) -> None:
    for chain in chains:
        for step in chain.upgrades(connection, revision if chain.name == "application" else "head"):
            try:
                chain.run(connection, step)
            except DBAPIError as error:
                raise chain.failure(connection, step, error) from error


def _refuse_autocommit() -> NoReturn:
    raise ConfigurationError(
        "A revision asks for an autocommit_block(), but an upgrade is one transaction: write it "
        "without (CREATE INDEX without CONCURRENTLY)"
    )


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what Alembic says of revisions into an error that says what to do."""
    try:
        yield
    except CommandError as error:
        text = str(error).splitlines()[0]
        if "Multiple head" in text or "multiple heads" in text:
            text = (
                "Two revisions follow the same one: in one of the two files, set down_revision to "
                "the other's revision"
            )
        elif "Can't locate revision" in text:
            text = (
                f"{text}; `amphibase db current` names the newest, and `base` is before the first"
            )
        raise ConfigurationError(text) from error


def _primary_message(error: DBAPIError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    return str(diagnosis.message_primary if diagnosis else error.orig)
