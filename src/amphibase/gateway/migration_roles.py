"""What migrations leave on a server beside its databases: roles and their settings.

A project of the Supabase CLI has a server of its own, which is new after a reset.
"""

from contextlib import suppress

import psycopg
from psycopg import AsyncConnection, sql

from amphibase.gateway.project import connected

PROJECT_ROLES = (
    "anon",
    "authenticated",
    "service_role",
    "authenticator",
    "supabase_auth_admin",
    "supabase_storage_admin",
    "supabase_realtime_admin",
    "postgres",
    "supabase_admin",
    "dashboard_user",
    "pgbouncer",
    "supabase_etl_admin",
    "supabase_functions_admin",
    "supabase_read_only_user",
    "supabase_replication_admin",
)
"""The roles of `roles.sql`."""

_HAS_OTHER_DATABASES = """
SELECT EXISTS (
    SELECT FROM pg_database
    WHERE NOT datistemplate AND datname NOT IN (current_database(), 'postgres')
)
"""

_OTHER_ROLES = """
SELECT rolname FROM pg_roles
WHERE rolname !~ '^pg_' AND rolname <> ALL (%s) AND rolname <> current_user AND oid <> 10
ORDER BY rolname
"""

# Those of safeupdate protect, and are set with a new authenticator alone.
_SETTINGS = """
SELECT rolname, split_part(setting, '=', 1)
FROM pg_roles, unnest(rolconfig) AS setting
WHERE rolname = ANY (%s)
    AND split_part(setting, '=', 1) NOT IN ('safeupdate.enabled', 'session_preload_libraries')
"""


async def remove(url: str) -> None:
    """Drop the roles of a server that migrations created, and take back what they set for others.

    A role that owns or may use something of another database stays. On a server that has another
    project's database nothing is done.

    Args:
        url: of a new database on a server that `supabase start` started, as its superuser.

    Raises:
        Unavailable: the server cannot be reached.
    """
    async with connected(url) as connection:
        await connection.set_autocommit(True)
        if (await _rows(connection, _HAS_OTHER_DATABASES))[0][0]:
            return
        for (role,) in await _rows(connection, _OTHER_ROLES, [*PROJECT_ROLES]):
            with suppress(psycopg.errors.DependentObjectsStillExist):
                await connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        for role, setting in await _rows(connection, _SETTINGS, [*PROJECT_ROLES]):
            await connection.execute(
                sql.SQL("ALTER ROLE {} RESET {}").format(
                    sql.Identifier(role), sql.Identifier(*setting.split("."))
                )
            )


async def _rows(
    connection: AsyncConnection, statement: str, *parameters: list[str]
) -> list[tuple[str, ...]]:
    cursor = await connection.execute(statement.encode(), parameters or None)
    return await cursor.fetchall()
