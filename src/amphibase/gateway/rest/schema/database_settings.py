"""Reads the settings of the Data API that the database has."""

from collections.abc import Collection
from typing import Any

import psycopg

from amphibase.errors import ConfigurationError

_OWN_SETTINGS = """
    SELECT substr(split_part(line, '=', 1), length(%(prefix)s) + 1),
        substr(line, strpos(line, '=') + 1)
    FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS line
    WHERE s.setrole = current_user::regrole
        AND s.setdatabase IN (
            0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
        )
        AND starts_with(line, %(prefix)s)
    ORDER BY s.setdatabase  -- those of this database alone come last, and win
"""
_SETTINGS_OF_FUNCTION = """
    SELECT name, current_setting(%(prefix)s || name, true) FROM unnest(%(names)s::text[]) AS name
"""


async def read_own_settings(
    connection: psycopg.AsyncConnection[Any], prefix: str
) -> dict[str, str]:
    """Read what ALTER ROLE … SET says for the connection's own role, in this database.

    Args:
        prefix: of the settings' names, such as `pgrst.`; it is not part of the names returned.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    cursor = await connection.execute(_OWN_SETTINGS, {"prefix": prefix})
    return dict(await cursor.fetchall())


async def read_settings_of_function(
    connection: psycopg.AsyncConnection[Any], call: str, prefix: str, names: Collection[str]
) -> dict[str, str]:
    """Call a function that sets settings, in a read-only transaction, and read them.

    Args:
        call: SQL.
        prefix: of the settings' names, such as `pgrst.`; it is not part of the names returned.
        names: of the settings to read, without the prefix.

    Raises:
        ConfigurationError: the function is not there, or fails.
        psycopg.Error: the database cannot be reached.
    """
    try:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(f"SELECT {call}".encode())
            cursor = await connection.execute(
                _SETTINGS_OF_FUNCTION, {"prefix": prefix, "names": list(names)}
            )
            return {name: value for name, value in await cursor.fetchall() if value}
    except psycopg.Error as error:
        if connection.closed:
            raise
        reason = error.diag.message_primary or "it fails"
        raise ConfigurationError(f"PGRST_DB_PRE_CONFIG: {call}: {reason}") from None
