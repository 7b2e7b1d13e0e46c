"""Runs the revisions of chains on a database, up and down."""

from collections.abc import Sequence

from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError

from amphibase.errors import ConfigurationError
from amphibase.schema.migrations.chains import Chain, RevisionOutcome, chain_named
from amphibase.schema.migrations.compare_policies import apply_policies
from amphibase.schema.migrations.compare_tables import table_differences
from amphibase.schema.migrations.definitions_of_database import read_definitions
from amphibase.schema.migrations.scratch import scratch_database
from amphibase.schema.migrations.security_of_database import read_security
from amphibase.schema.migrations.sqlite_impl import without_reflection_warnings
from amphibase.schema.migrations.sqlite_timestamps import correct_timestamps

DUPLICATES = ("42P07", "42701", "42710", "42P06")
"""SQLSTATE of tables (and indexes), columns, other objects and schemas that exist already."""


def upgrade_chains(
    connection: Connection, chains: Sequence[Chain], revision: str = "head"
) -> list[RevisionOutcome]:
    """Run the revisions that are pending.

    A revision of the application whose tables exist already (a start in development created them)
    is stamped, provided that the database has what the revisions create.

    Args:
        revision: how far the application's own chain goes; the others go to their newest.

    Raises:
        ConfigurationError: a revision failed, or tables differ from what a stamped one creates.
    """
    correct_timestamps(connection, chains)
    outcomes: list[RevisionOutcome] = []
    for chain in chains:
        is_application = chain.name == "application"
        for step in chain.upgrades(connection, revision if is_application else "head"):
            try:
                chain.run(connection, step)
                outcomes.append(chain.outcome(step, "applied"))
            except DBAPIError as error:
                if not (is_application and _exists_already(error)):
                    if any(outcome.status == "stamped" for outcome in outcomes):
                        _check_stamped(connection, chains, outcomes[-1].revision)
                    raise chain.failure(connection, step, error) from error
                chain.stamp(connection, step)
                outcomes.append(chain.outcome(step, "stamped"))
    if any(outcome.status == "stamped" for outcome in outcomes):
        _check_stamped(connection, chains, revision)
    return outcomes


def downgrade_chain(connection: Connection, chain: Chain, revision: str) -> list[RevisionOutcome]:
    """Undo the revisions of a chain, back to a revision.

    Raises:
        ConfigurationError: a downgrade failed.
    """
    outcomes = []
    for step in chain.downgrades(connection, revision):
        try:
            chain.run(connection, step)
        except DBAPIError as error:
            raise chain.failure(connection, step, error) from error
        outcomes.append(chain.outcome(step, "undone"))
    return outcomes


def _exists_already(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in DUPLICATES
    message = str(error.orig)  # SQLite has one code for all of these
    return "already exists" in message or "duplicate column name" in message


def _check_stamped(connection: Connection, chains: Sequence[Chain], revision: str) -> None:
    application = chain_named(chains, "application")
    from_revisions = MetaData()
    with scratch_database(connection, chains, revision) as scratch, without_reflection_warnings():
        from_revisions.reflect(scratch)
        definitions = read_definitions(scratch)
        security = read_security(scratch) if scratch.dialect.name == "postgresql" else None
    from_revisions.remove(from_revisions.tables[application.version_table])
    from_models = table_differences(connection, application)
    unexplained = [
        difference
        for difference in table_differences(connection, application, from_revisions, definitions)
        # What the models have beyond the revisions waits for a revision of its own.
        if difference.kind == "missing"
        or (difference in from_models and difference.table in from_revisions.tables)
    ]
    if unexplained:
        raise ConfigurationError(
            "Tables that a revision creates exist already, but differ from what it creates, so "
            "nothing was changed: "
            + "; ".join(map(str, unexplained))
            + ". Change the table by hand, or drop it if it holds nothing of value, and run "
            "`amphibase db upgrade` again"
        )
    if security is not None:
        apply_policies(connection, security)
