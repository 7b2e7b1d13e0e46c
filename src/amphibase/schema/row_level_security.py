"""Reads from a database which tables of an application have row level security."""

from sqlalchemy import Connection

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
