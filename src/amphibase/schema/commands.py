"""Brings the tables of a database up to date, compares them with the models, writes revisions.

There are three chains of Alembic revisions: `auth` and `storage` come with Amphibase, `application`
is the user's own, in `MIGRATIONS_DIR`. Only those run whose part of the data lives in SQL.
"""

from pathlib import Path

from sqlalchemy import Connection, MetaData, Table

from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.schema import change_log
from amphibase.schema.bypasses import find_bypasses
from amphibase.schema.generated_columns import require_supported_columns
from amphibase.schema.migrations import roles
from amphibase.schema.migrations.chains import (
    Chain,
    ChainStatus,
    RevisionOutcome,
    build_chains,
    chain_named,
)
from amphibase.schema.migrations.compare_policies import (
    apply_declared_policies,
    compare_policies,
    policy_differences,
)
from amphibase.schema.migrations.compare_tables import Difference, table_differences
from amphibase.schema.migrations.execution import downgrade_chain, upgrade_chains
from amphibase.schema.migrations.locations import PACKAGED, ChainName
from amphibase.schema.migrations.policy_changes import PolicyChanges
from amphibase.schema.migrations.revision_file import RevisionFile, write_revision
from amphibase.schema.migrations.scratch import scratch_database
from amphibase.schema.migrations.transaction import schema_transaction
from amphibase.schema.missing_tables import missing_tables
from amphibase.schema.policy_script import script as policies
from amphibase.settings.application import Settings

__all__ = [
    "ChainName",
    "ChainStatus",
    "Difference",
    "RevisionFile",
    "RevisionOutcome",
    "bypasses",
    "check",
    "current",
    "downgrade",
    "ensure",
    "policies",
    "require_current",
    "revision",
    "upgrade",
]


async def upgrade(
    database: Database, settings: Settings, metadata: MetaData, revision: str = "head"
) -> list[RevisionOutcome]:
    """Run the revisions that are pending, all or none of them.

    A revision of the application whose tables exist already (`serve` created them in development)
    is stamped, provided that the database has what the revisions create.

    Args:
        metadata: the application's models.
        revision: how far the application's own chain goes; the others go to their newest.

    Returns:
        The outcome of each revision, in order; empty where the database is up to date.

    Raises:
        ConfigurationError: there is no such revision, or one failed; nothing was changed then.
        Unavailable: the database cannot be reached, or others change its tables for too long.
    """
    chains = _chains(database, settings, metadata)

    def run(connection: Connection) -> list[RevisionOutcome]:
        if _guarded(database, settings):
            roles.create_missing(connection)
        outcomes = upgrade_chains(connection, chains, revision)
        if "records" in settings.parts_in(database.url):
            change_log.create_missing(connection, metadata)
        return outcomes

    async with schema_transaction(database) as connection:
        return await connection.run_sync(run)


async def downgrade(
    database: Database,
    settings: Settings,
    metadata: MetaData,
    chain: str,
    revision: str,
) -> list[RevisionOutcome]:
    """Undo revisions of one chain, back to a revision (`base`: all; `-1`: the last).

    Raises:
        ConfigurationError: there is no such chain or revision, or one failed.
    """
    selected = chain_named(_chains(database, settings, metadata), chain)
    async with schema_transaction(database) as connection:
        return await connection.run_sync(downgrade_chain, selected, revision)


async def current(database: Database, settings: Settings, metadata: MetaData) -> list[ChainStatus]:
    """Return the revision that the database is at, on each chain."""
    chains = _chains(database, settings, metadata)
    async with database.read() as connection:
        return await connection.run_sync(lambda sync: [chain.status(sync) for chain in chains])


async def check(database: Database, settings: Settings, metadata: MetaData) -> list[Difference]:
    """Return how the database differs from the tables of accounts and files and from the models."""
    chains = _chains(database, settings, metadata)

    def compare(connection: Connection) -> list[Difference]:
        differences = [item for chain in chains for item in table_differences(connection, chain)]
        if _guarded(database, settings):
            differences += _security(connection, chain_named(chains, "application"))
        if "records" in settings.parts_in(database.url):
            differences += [
                Difference("application", "missing", each.subject, each.table)
                for each in change_log.missing(connection, metadata)
            ]
        return differences

    async with database.read() as connection:
        return await connection.run_sync(compare)


async def bypasses(database: Database, settings: Settings, metadata: MetaData) -> list[str]:
    """Return the ways past the policies of the models' tables, where policies decide."""
    if not _guarded(database, settings):
        return []
    async with database.read() as connection:
        return await connection.run_sync(find_bypasses, metadata)


async def revision(
    database: Database,
    settings: Settings,
    metadata: MetaData,
    message: str,
    *,
    autogenerate: bool = True,
) -> RevisionFile | None:
    """Write a revision with what the models have and the revisions so far do not create.

    The tables of the database do not matter, for `serve` may have created some already; but on
    Postgres a database is needed, to run the revisions in a schema that is dropped again.

    Args:
        autogenerate: False for an empty revision, to be filled in by hand.

    Returns:
        The file, in `MIGRATIONS_DIR`; None where the models have nothing new.

    Raises:
        ConfigurationError: the records do not live in SQL, or the revisions do not run.
        Unavailable: the database cannot be reached.
    """
    chains = _chains(database, settings, metadata)
    application = chain_named(chains, "application")
    if not autogenerate:
        return write_revision(application, None, message, settings.migrations_dir)

    def compare(connection: Connection) -> RevisionFile | None:
        require_supported_columns(connection, _own_tables(application))
        guarded = _guarded(database, settings)
        if guarded:
            roles.require_creatable(connection)
        with scratch_database(connection, chains) as scratch:
            changes = compare_policies(scratch, application) if guarded else PolicyChanges()
            return write_revision(application, scratch, message, settings.migrations_dir, changes)

    try:
        async with schema_transaction(database) as connection:
            return await connection.run_sync(compare)
    except Unavailable as error:
        raise Unavailable(
            f"{error.detail}; a revision needs the database, to run the revisions before it in a "
            "schema of their own"
        ) from error


async def ensure(database: Database, settings: Settings, metadata: MetaData) -> None:
    """Upgrade, then create the tables of models without a revision, at a start in development.

    With `RLS=true`, the policies become those that the models declare.

    Raises:
        ConfigurationError: a revision failed, or row level security lacks something.
        Unavailable: the database cannot be reached.
    """
    chains = _chains(database, settings, metadata)

    def create(connection: Connection) -> None:
        upgrade_chains(connection, [chain for chain in chains if chain.name != "application"])
        if "records" not in settings.parts_in(database.url):
            return
        application = chain_named(chains, "application")
        if _guarded(database, settings):
            roles.create_missing(connection)
        if not _has_own_revisions(application):
            # The profile may have columns of its own: it is created from the model, and the
            # packaged revision that creates the plain one is stamped.
            _create_missing_tables(connection, application)
        upgrade_chains(connection, chains)
        _create_missing_tables(connection, application)
        change_log.create_missing(connection, metadata)
        if _guarded(database, settings):
            roles.require(connection)
            apply_declared_policies(connection, application)

    async with schema_transaction(database) as connection:
        await connection.run_sync(create)


async def require_current(database: Database, settings: Settings, metadata: MetaData) -> None:
    """Reject a database that is behind, at a start in production.

    Raises:
        ConfigurationError: revisions are pending, no revision creates the table of a model, or
            with `RLS=true` rows are not guarded as the models declare; says what to run.
    """
    if any(status.behind for status in await current(database, settings, metadata)):
        raise ConfigurationError("The database is behind: run `amphibase db upgrade`")
    if "records" in settings.parts_in(database.url):
        async with database.read() as connection:
            lacking = await connection.run_sync(missing_tables, metadata)
            unlogged = await connection.run_sync(change_log.missing, metadata)
        if lacking:
            raise ConfigurationError(
                f"The database lacks the tables of models ({', '.join(lacking)}): write a revision "
                "in development (`amphibase db revision`), and run `amphibase db upgrade`"
            )
        if unlogged:
            raise ConfigurationError(
                f"The log of changes lacks the {', the '.join(each.subject for each in unlogged)}: "
                "run `amphibase db upgrade`"
            )
    if not _guarded(database, settings):
        return
    application = chain_named(_chains(database, settings, metadata), "application")

    def compare(connection: Connection) -> list[Difference]:
        roles.require(connection)
        return policy_differences(connection, application)

    async with database.read() as connection:
        differences = await connection.run_sync(compare)
    if differences:
        listed = "; ".join(each.summary for each in differences[:3])
        listed += "; …" if len(differences) > 3 else ""
        raise ConfigurationError(
            f"RLS: the database does not guard rows as the models declare ({listed}): run "
            "`amphibase db upgrade`, or what `amphibase db policies` prints where no revision has "
            "it. `amphibase db check` shows all differences"
        )


def _guarded(database: Database, settings: Settings) -> bool:
    """Return whether the database itself keeps callers from the rows of others."""
    if not settings.rls or database.dialect != "postgresql":
        return False
    return "records" in settings.parts_in(database.url)


def _security(connection: Connection, application: Chain) -> list[Difference]:
    # Without the roles there can be no policies: only the roles are reported then.
    if missing := roles.missing_objects(connection):
        return [Difference("application", "missing", item.subject, "") for item in missing]
    return policy_differences(connection, application)


def _chains(database: Database, settings: Settings, metadata: MetaData) -> list[Chain]:
    file = database.url.database
    if database.dialect == "sqlite" and file and not file.startswith("file:"):
        # SQLite makes the file, but not its folder.
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The folder of {file} cannot be created: {error.strerror}; set DATABASE_URL"
            ) from error
    return build_chains(database, settings, metadata)


def _has_own_revisions(application: Chain) -> bool:
    return any(
        Path(script.path).parent != PACKAGED for script in application.script.walk_revisions()
    )


def _create_missing_tables(connection: Connection, application: Chain) -> None:
    tables = _own_tables(application)
    require_supported_columns(connection, tables)
    application.metadata.create_all(connection, tables=tables)


def _own_tables(application: Chain) -> list[Table]:
    return [table for table in application.metadata.sorted_tables if application.owns(table)]
