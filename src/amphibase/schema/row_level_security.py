"""Reads from a database which tables of an application have row level security."""

from sqlalchemy import Connection

from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError
from amphibase.redaction import redacted_logger
from amphibase.settings.application import Settings

logger = redacted_logger("amphibase.schema")

NAMED_TABLES = 5
"""How many tables a message names."""

_GUARDED_TABLES = """
SELECT c.relname::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND pg_table_is_visible(c.oid)
    AND n.nspname NOT IN ('pg_catalog', 'auth', 'storage')
    AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))
ORDER BY 1
"""


def guarded_tables(connection: Connection) -> list[str]:
    """Return the application's tables that have a policy, or row level security on.

    They are those on the connection's search path: where models, which name no schema, have their
    tables. The tables of accounts and files do not count, nor do those of extensions in schemas of
    their own.

    Returns:
        The names of the tables, sorted; empty on SQLite, which has no row level security.
    """
    if connection.dialect.name != "postgresql":
        return []
    return list(connection.exec_driver_sql(_GUARDED_TABLES).scalars())


async def unenforced_tables(database: Database, settings: Settings) -> list[str]:
    """Return the tables whose policies do not decide, although they have some.

    Amphibase acts as the tables' owner, whom policies do not bind, unless `RLS=true`.

    Returns:
        The names of the tables, sorted; empty with `RLS=true` and where no records are.
    """
    if settings.rls or "records" not in settings.parts_in(database.url):
        return []
    async with database.read() as connection:
        return await connection.run_sync(guarded_tables)


def describe_unenforced(tables: list[str], settings: Settings) -> str:
    """Say which tables have policies that do not decide, and why."""
    names = ", ".join(tables[:NAMED_TABLES]) + (", …" if len(tables) > NAMED_TABLES else "")
    setting = "is not set" if settings.rls is None else "is false"
    return f"RLS {setting}, so the row level security of these tables decides nothing: {names}"


async def require_decision(database: Database, settings: Settings) -> None:
    """Require that `RLS` is set where the database has policies.

    Raises:
        ConfigurationError: in production it is not; names the tables and what to set. Development
            logs a warning instead, and `RLS=false` one line.
    """
    tables = await unenforced_tables(database, settings)
    if not tables:
        return
    message = describe_unenforced(tables, settings)
    if settings.rls is False:
        logger.info("%s", message)
        return
    message += "; set RLS=true, or RLS=false if this application does not use them"
    if settings.environment == "production":
        raise ConfigurationError(message)
    logger.warning("%s", message)
