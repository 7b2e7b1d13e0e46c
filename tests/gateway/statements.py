"""Statements that tests send to the database of a project."""

from typing import Any

import psycopg
from psycopg.rows import tuple_row


def ask(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the last statement; nothing is kept."""
    with psycopg.connect(url, row_factory=tuple_row) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        rows = cursor.fetchall() if cursor.description else []
        connection.rollback()
        return rows


def keep(url: str, *statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


LIMITS = """
SELECT rolname, setting FROM pg_roles, unnest(rolconfig) AS setting
WHERE rolname IN (
    'anon', 'authenticated', 'authenticator', 'supabase_auth_admin', 'supabase_storage_admin'
) ORDER BY 1, 2
"""


OWNERS = """
SELECT nspname, relname, pg_get_userbyid(relowner) FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname IN ('auth', 'storage') AND relkind IN ('r', 'S')
"""


def assert_each_service_owns_its_tables(url: str) -> None:
    owners = {schema: owner for schema, _, owner in ask(url, OWNERS)}
    assert owners == {"auth": "supabase_auth_admin", "storage": "supabase_storage_admin"}
