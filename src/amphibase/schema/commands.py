"""The tables of a database: brought up to date, compared with the models, and changed by revisions.

There are three chains of Alembic revisions: `auth` and `storage` come with Amphibase, `application`
is the user's own, in `MIGRATIONS_DIR`. Only those run whose part of the data lives in SQL.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.errors import ConfigurationError, ForeignKeyViolation, Unavailable
from amphibase.schema.migrations import roles
from amphibase.schema.migrations.chains import (
    STOCK,
    Applied,
    Chain,
    ChainName,
    Position,
    chains,
    scratch,
)
from amphibase.schema.migrations.differences import Difference, differences, quiet
from amphibase.schema.migrations.policies import (
    Changes,
    adopt,
    bring_in_line,
    compare_policies,
    policy_differences,
    read_states,
)
from amphibase.schema.migrations.writing import write
from amphibase.schema.policies import script as policies
from amphibase.settings import Settings

__all__ = [
    "Applied",
    "ChainName",
    "Difference",
    "Position",
    "check",
    "current",
    "downgrade",
    "ensure",
    "pending",
    "policies",
    "revision",
    "upgrade",
]

LOCK = 0x616D7068
"""The advisory lock of all who change tables ("amph")."""

DUPLICATES = ("42P07", "42701", "42710", "42P06")
"""SQLSTATE of tables (and indexes), columns, other objects and schemas that exist already."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def upgrade(
    database: Database, settings: Settings, metadata: MetaData, revision: str = "head"
) -> list[Applied]:
    """Run the revisions that wait, all or none of them.

    A revision of the application whose tables are there already (`serve` made them in development)
    is noted as done, provided that the database has what the revisions make.

    Args:
        metadata: the application's models.
        revision: how far the application's own chain goes; the others go to their newest.

    Returns:
        What became of each revision, in order; empty where the database is up to date.

    Raises:
        ConfigurationError: there is no such revision, or one failed; nothing was changed then.
        Unavailable: the database cannot be reached, or others change its tables for too long.
    """
    found = _chains(database, settings, metadata)

    def run(connection: Connection) -> list[Applied]:
        if _guarded(database, settings):
            roles.make(connection)
        return _upgrade(connection, found, revision)

    async with _changing(database) as connection:
        return await connection.run_sync(run)


async def downgrade(
    database: Database,
    settings: Settings,
    metadata: MetaData,
    chain: str,
    revision: str,
) -> list[Applied]:
    """Undo revisions of one chain, back to a revision (`base`: all; `-1`: the last).

    Raises:
        ConfigurationError: there is no such chain or revision, or one failed.
    """
    found = _named(_chains(database, settings, metadata), chain)
    async with _changing(database) as connection:
        return await connection.run_sync(_downgrade, found, revision)


async def current(database: Database, settings: Settings, metadata: MetaData) -> list[Position]:
    """Where the database stands on each chain."""
    found = _chains(database, settings, metadata)
    async with database.read() as connection:
        return await connection.run_sync(lambda sync: [chain.position(sync) for chain in found])


async def check(database: Database, settings: Settings, metadata: MetaData) -> list[Difference]:
    """How the database differs from the tables of accounts and files and from the models."""
    found = _chains(database, settings, metadata)

    def compare(connection: Connection) -> list[Difference]:
        differing = [item for chain in found for item in differences(connection, chain)]
        if _guarded(database, settings):
            differing += _security(connection, _named(found, "application"))
        return differing

    async with database.read() as connection:
        return await connection.run_sync(compare)


async def revision(
    database: Database,
    settings: Settings,
    metadata: MetaData,
    message: str,
    *,
    autogenerate: bool = True,
) -> Path | None:
    """Write a revision with what the models have and the revisions so far do not make.

    The database at hand does not matter, for `serve` may have made tables in it already; but on
    Postgres one is needed, to run the revisions in a schema that is dropped again.

    Args:
        autogenerate: False for an empty revision, to be filled in by hand.

    Returns:
        The file in `MIGRATIONS_DIR`; None where the models have nothing new.

    Raises:
        ConfigurationError: the records do not live in SQL, or the revisions do not run.
        Unavailable: the database cannot be reached.
    """
    found = _chains(database, settings, metadata)
    application = _named(found, "application")
    if not autogenerate:
        return write(application, None, message, settings.migrations_dir)

    def compare(connection: Connection) -> Path | None:
        guarded = _guarded(database, settings)
        if guarded:
            roles.require_makeable(connection)
        with scratch(connection, found) as place:
            changes = compare_policies(place, application) if guarded else Changes()
            return write(application, place, message, settings.migrations_dir, changes)

    try:
        async with _changing(database) as connection:
            return await connection.run_sync(compare)
    except Unavailable as error:
        raise Unavailable(
            f"{error.detail}; a revision needs the database, to run the revisions before it in a "
            "schema of their own"
        ) from error


async def ensure(database: Database, settings: Settings, metadata: MetaData) -> None:
    """At a start in development: upgrade, then make the tables of models without a revision.

    With `RLS=true`, policies are made what the models declare.

    Raises:
        ConfigurationError: a revision failed, or row level security lacks something.
        Unavailable: the database cannot be reached.
    """
    found = _chains(database, settings, metadata)

    def make(connection: Connection) -> None:
        _upgrade(connection, [chain for chain in found if chain.name != "application"], "head")
        if settings.home("records") != "sql":
            return
        application = _named(found, "application")
        if _guarded(database, settings):
            roles.make(connection)
        if not _has_own_revisions(application):
            # The profile may have columns of its own: it is made from the model, and the packaged
            # revision that makes the plain one is adopted.
            _create_missing(connection, application)
        _upgrade(connection, found, "head")
        _create_missing(connection, application)
        if _guarded(database, settings):
            roles.require(connection)
            bring_in_line(connection, application)

    async with _changing(database) as connection:
        await connection.run_sync(make)


async def pending(database: Database, settings: Settings, metadata: MetaData) -> None:
    """At a start in production: refuse a database that is behind.

    Raises:
        ConfigurationError: revisions wait, or with `RLS=true` rows are not guarded as the models
            declare; says what to run.
    """
    if any(position.behind for position in await current(database, settings, metadata)):
        raise ConfigurationError("The database is behind: run `amphibase db upgrade`")
    if not _guarded(database, settings):
        return
    application = _named(_chains(database, settings, metadata), "application")

    def compare(connection: Connection) -> list[Difference]:
        roles.require(connection)
        return policy_differences(connection, application)

    async with database.read() as connection:
        differing = await connection.run_sync(compare)
    if differing:
        listed = "; ".join(map(str, differing[:3])) + ("; …" if len(differing) > 3 else "")
        raise ConfigurationError(
            f"RLS: the database does not guard rows as the models declare ({listed}): run "
            "`amphibase db upgrade`, or what `amphibase db policies` prints where no revision says "
            "it"
        )


def _guarded(database: Database, settings: Settings) -> bool:
    """Whether the database itself keeps callers from rows that are not theirs."""
    return settings.rls and database.dialect == "postgresql" and settings.home("records") == "sql"


def _security(connection: Connection, application: Chain) -> list[Difference]:
    # Without the roles there can be no policies: only what comes first is told.
    if absent := roles.missing(connection):
        return [Difference("application", "missing", item.subject, "") for item in absent]
    return policy_differences(connection, application)


def _chains(database: Database, settings: Settings, metadata: MetaData) -> list[Chain]:
    file = database.url.database
    if database.dialect == "sqlite" and file and not file.startswith("file:"):
        # SQLite makes the file, but not its folder.
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The folder of {file} cannot be made: {error.strerror}; set DATABASE_URL"
            ) from error
    return chains(database.dialect, settings, metadata)


def _named(found: list[Chain], name: str) -> Chain:
    for chain in found:
        if chain.name == name:
            return chain
    names = ", ".join(chain.name for chain in found) or "none"
    raise ConfigurationError(f"No chain {name!r} runs on this database; those that do: {names}")


def _has_own_revisions(application: Chain) -> bool:
    return any(Path(script.path).parent != STOCK for script in application.script.walk_revisions())


def _create_missing(connection: Connection, application: Chain) -> None:
    metadata = application.metadata
    mine = [table for table in metadata.sorted_tables if application.owns(table.schema, table.name)]
    metadata.create_all(connection, tables=mine)


def _upgrade(connection: Connection, found: list[Chain], revision: str) -> list[Applied]:
    done: list[Applied] = []
    for chain in found:
        own = chain.name == "application"
        for step in chain.upgrades(connection, revision if own else "head"):
            try:
                chain.run(connection, step)
                done.append(chain.outcome(step, "applied"))
            except DBAPIError as error:
                if not (own and _is_there_already(error)):
                    if any(applied.status == "adopted" for applied in done):
                        _check_adopted(connection, found, done[-1].revision)
                    raise chain.failure(connection, step, error) from error
                chain.note(connection, step)
                done.append(chain.outcome(step, "adopted"))
    if any(applied.status == "adopted" for applied in done):
        _check_adopted(connection, found, revision)
    return done


def _is_there_already(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in DUPLICATES
    message = str(error.orig)  # SQLite has one code for all of these
    return "already exists" in message or "duplicate column name" in message


def _check_adopted(connection: Connection, found: list[Chain], revision: str) -> None:
    application = _named(found, "application")
    made = MetaData()
    with scratch(connection, found, revision) as place, quiet():
        made.reflect(place)
        security = read_states(place) if place.dialect.name == "postgresql" else None
    made.remove(made.tables[application.version_table])
    beside_models = differences(connection, application)
    unexplained = [
        item
        for item in differences(connection, application, made)
        # What the models have beyond the revisions waits for a revision of its own.
        if item.kind == "missing" or (item in beside_models and item.table in made.tables)
    ]
    if unexplained:
        raise ConfigurationError(
            "Tables that a revision makes are there already, but not as it makes them, so nothing "
            "was changed: "
            + "; ".join(map(str, unexplained))
            + ". Bring the table in line by hand, or drop it if it holds nothing of value, and "
            "run `amphibase db upgrade` again"
        )
    if security is not None:
        adopt(connection, security)


def _downgrade(connection: Connection, chain: Chain, revision: str) -> list[Applied]:
    done = []
    for step in chain.downgrades(connection, revision):
        try:
            chain.run(connection, step)
        except DBAPIError as error:
            raise chain.failure(connection, step, error) from error
        done.append(chain.outcome(step, "undone"))
    return done


@asynccontextmanager
async def _changing(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that changes tables: one at a time, in this process and on the database."""
    # Alembic's `op` is one for the whole process.
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    changing = _changing_sqlite if database.dialect == "sqlite" else _changing_postgres
    async with turn:
        with translated_errors():
            async with changing(database) as connection:
                yield connection


@asynccontextmanager
async def _changing_postgres(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        yield connection


@asynccontextmanager
async def _changing_sqlite(database: Database) -> AsyncIterator[AsyncConnection]:
    engine = database.engine.execution_options(writes=True)
    async with engine.connect() as connection:
        # To change a column, a table is copied and the old one dropped, which with foreign keys on
        # would delete the rows that refer to it; and inside a transaction they cannot be switched
        # (SQLite docs, "PRAGMA foreign_keys").
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("PRAGMA foreign_keys = OFF")
        try:
            async with connection.begin():
                before = await _dangling(connection)
                yield connection
                if broken := await _dangling(connection) - before:
                    tables = ", ".join(sorted({f"{child} to {of}" for child, of in broken}))
                    raise ForeignKeyViolation(
                        f"Rows would refer to rows that are not there ({tables}), so nothing was "
                        "changed"
                    )
        finally:
            # Closed rather than given back: nobody else may get it without foreign keys.
            await connection.invalidate()


async def _dangling(connection: AsyncConnection) -> Counter[tuple[str, str]]:
    rows: Any = await connection.exec_driver_sql("PRAGMA foreign_key_check")
    return Counter((child, parent) for child, _, parent, _ in rows)
