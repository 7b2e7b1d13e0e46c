"""What a start does about the tables of a database."""

from pathlib import Path

from sqlalchemy import Connection, MetaData

from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.schema import change_log
from amphibase.schema.migrations.locations import locate_chains
from amphibase.schema.missing_columns import warn_of_missing_columns
from amphibase.schema.missing_tables import missing_tables
from amphibase.schema.row_level_security import require_decision
from amphibase.settings.application import Settings


async def prepare(database: Database, settings: Settings, metadata: MetaData) -> None:
    """Bring the tables up to date in development; in production require that they are.

    Tables that exist are not changed to become as their models are: development logs a warning of
    the columns that they lack.

    Args:
        metadata: the application's models.

    Raises:
        ConfigurationError: in production the database is behind, or with `RLS=true` rows are not
            guarded as the models declare, or has policies that are not enforced; says what to do.
            A revision failed.
        Unavailable: the database cannot be reached.
    """
    if not await _is_current(database, settings, metadata):
        await _migrate(database, settings, metadata)
    if settings.environment == "development":
        await warn_of_missing_columns(database, settings, metadata)
    await require_decision(database, settings)


async def _migrate(database: Database, settings: Settings, metadata: MetaData) -> None:
    # Alembic and its templates would stay in the memory of a server that has nothing to migrate.
    from amphibase.schema import commands

    if settings.environment == "development":
        await commands.ensure(database, settings, metadata)
    else:
        await commands.require_current(database, settings, metadata)


async def _is_current(database: Database, settings: Settings, metadata: MetaData) -> bool:
    """Whether it is clear without Alembic that nothing is to do."""
    if settings.rls and database.dialect == "postgresql":
        return False  # policies are compared with the models at each start
    locations = locate_chains(database, settings)
    if _is_missing(database):
        return False

    def look(connection: Connection) -> bool:
        if not all(location.is_current(connection) for location in locations):
            return False
        if "records" not in settings.parts_in(database.url):
            return True
        return not (
            missing_tables(connection, metadata) or change_log.missing(connection, metadata)
        )

    with translated_errors():
        async with database.read() as connection:
            return await connection.run_sync(look)


def _is_missing(database: Database) -> bool:
    """Whether a SQLite file does not exist yet; opening it would create it."""
    path = database.url.database
    if database.dialect != "sqlite" or not path or path.startswith("file:"):
        return False
    return not Path(path).exists()
