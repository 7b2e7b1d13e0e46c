"""A Supabase project's database: its roles, schemas, tables and functions, created where missing.

`roles.sql` holds what belongs to the server, `project_tables.sql` the tables of `auth` and
`storage`, `upstream.sql` what these have for features that are not here, `project.sql` what else
belongs to the database, `realtime.sql` and `outbox.sql` what Realtime needs of it, `platform.sql`,
`queues.sql` and `http.sql` what migrations mention of services that are not here, and
`pgcrypto.sql`, `uuid_ossp.sql` and `pgjwt.sql` stand for extensions that the server lacks. A
database that has all of it is known by a mark, so that opening it again takes one query; that of
what Realtime reads nothing was dropped is looked at.

The superuser makes the project and applies migrations; the services sign in as `service_roles`
says.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import psycopg
from psycopg import AsyncConnection, sql

from amphibase.database.connecting import connect_session
from amphibase.database.reasons import reason_of
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway.postgres import MINIMUM_MAJOR
from amphibase.gateway.service_roles import (
    CONNECT_SECONDS,
    SERVICE_ROLES,
    RoleUrls,
    let_in,
    role_urls,
)
from amphibase.schema.table_lock import LOCK

SCHEMA = Path(__file__).parents[1] / "schema"
ROLES = SCHEMA / "roles.sql"
TABLES = SCHEMA / "project_tables.sql"
"""Of a new project; one of an earlier version runs the revisions that it lacks."""

OBJECTS = tuple(
    SCHEMA / name
    for name in (
        "upstream.sql",
        "project.sql",
        "realtime.sql",
        "outbox.sql",
        "platform.sql",
        "queues.sql",
        "http.sql",
    )
)
"""In this order: the second grants what the first makes, and says who owns it."""

SUBSTITUTES = {
    "pgcrypto": SCHEMA / "pgcrypto.sql",
    "uuid-ossp": SCHEMA / "uuid_ossp.sql",
    "pgjwt": SCHEMA / "pgjwt.sql",
}
"""Scripts for servers that lack an extension; the others use the first."""

REVISIONS = SCHEMA / "migrations"

SEARCH_PATH = sql.SQL('"$user", public, extensions')
API_ROLES = "anon, authenticated, service_role"

ONE_AT_A_TIME = "SELECT pg_advisory_lock(hashtext('project of amphibase'))"
"""Held until the connection ends, so that a missing object is created only once."""

HOLD_TABLES = sql.SQL("SELECT pg_advisory_lock({})").format(LOCK)
RELEASE_TABLES = sql.SQL("SELECT pg_advisory_unlock({})").format(LOCK)
"""Against `amphibase db upgrade`, which creates the same tables and roles."""

EXPOSE = "\n".join(
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {objects} TO {API_ROLES};"
    for objects in ("TABLES", "ROUTINES", "SEQUENCES")
)
HIDE = EXPOSE.replace(" GRANT ", " REVOKE ").replace(" TO ", " FROM ")

_STATE = """
SELECT
    current_setting('server_version_num')::int / 10000,
    coalesce(obj_description(to_regnamespace('extensions'), 'pg_namespace') = %s, false)
        AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticator')
        AND (
            SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('realtime')
            AND relname IN ('outbox', 'outbox_readers', 'outbox_lease')
        ) = 3,
    NOT EXISTS (
        SELECT FROM pg_class
        WHERE relnamespace IN (to_regnamespace('auth'), to_regnamespace('storage'))
    ),
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
    current_user::text,
    ARRAY(
        SELECT name FROM unnest(%s::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
    )
"""


class _State(NamedTuple):
    major: int
    is_made: bool
    has_no_tables: bool
    is_superuser: bool
    user: str
    missing_roles: list[str]


_APP_SETTINGS = """
SELECT split_part(setting, '=', 1)
FROM pg_db_role_setting
JOIN pg_database ON pg_database.oid = setdatabase, unnest(setconfig) AS setting
WHERE datname = current_database() AND setrole = 0
"""

_STREAMS = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
WHERE database = %s AND temporary AND active_pid IS NOT NULL
"""

END_SECONDS = 10
END_INTERVAL = 0.01


async def needs_revisions(url: str) -> bool:
    """Return whether `prepare` would run revisions of the tables, for which it imports Alembic.
    Raises as `prepare` does."""
    async with connected(url) as connection:
        state = await _read_state(connection)
        return not (state.is_made or state.has_no_tables)


async def prepare(
    url: str,
    password: str,
    *,
    exposes_new_tables: bool | None = None,
    app_settings: Mapping[str, str] | None = None,
) -> RoleUrls:
    """Make a project in the database, as far as it is not there.

    Args:
        url: of the database, as a superuser.
        password: what the roles of the services sign in with from now on.
        exposes_new_tables: whether the roles of the Data API get grants on what is created in
            `public` from now on; None leaves it as it is, and of a new project none.
        app_settings: what functions read as `current_setting('app.settings.…')`, for a database
            that has no such settings. Everybody who may run SQL reads them.

    Returns:
        The database's URLs for the services.

    Raises:
        ConfigurationError: the server is too old, the user is no superuser, or another gateway
            uses its roles with another password; says what to do.
        Unavailable: the server cannot be reached.
    """
    async with connected(url) as connection:
        await connection.execute(ONE_AT_A_TIME)
        major, is_made, _, is_superuser, user, missing = await _read_state(connection)
        if major < MINIMUM_MAJOR:
            raise ConfigurationError(
                f"The database runs Postgres {major}; a project needs {MINIMUM_MAJOR} or later"
            )
        if not is_made and not is_superuser:
            raise ConfigurationError(
                f"The user {user} cannot make a project in the database {connection.info.dbname}: "
                + (f"the roles {', '.join(missing)} are missing, and " if missing else "")
                + "the schemas auth and storage are not those of this version; connect once as a "
                "superuser, who makes them"
            )
        if not is_made:
            await connection.execute(HOLD_TABLES)
            has_no_tables = (await _read_state(connection)).has_no_tables
            await connection.execute(ROLES.read_bytes())
            await connection.commit()
            if has_no_tables:
                await connection.execute(TABLES.read_bytes())
            else:
                await connection.execute(RELEASE_TABLES)
                await _run_revisions(url)
                await connection.execute(HOLD_TABLES)
            for script in OBJECTS:
                await connection.execute(script.read_bytes())
            await _substitute_extensions(connection)
            await connection.execute(
                sql.SQL("COMMENT ON SCHEMA extensions IS {}").format(sql.Literal(_mark()))
            )
            name = sql.Identifier(connection.info.dbname)
            await connection.execute(
                sql.SQL("ALTER DATABASE {} SET search_path = {}").format(name, SEARCH_PATH)
            )
            await _set_missing(connection, app_settings or {})
            await connection.commit()
        if exposes_new_tables is not None:
            await connection.execute(EXPOSE if exposes_new_tables else HIDE)
            await connection.commit()
        urls = role_urls(url, password)
        await let_in(connection, urls, password)
        return urls


async def copy(url: str, name: str) -> str:
    """Make a new database of the server that has what the project in this one has.

    Args:
        url: of a database that `prepare` created and that has no connections, as a superuser.
        name: of the new one.

    Returns:
        The new database's URL.
    """
    copied = urlsplit(url)._replace(path=f"/{quote(name, safe='')}").geturl()
    target, source = sql.Identifier(name), sql.Identifier(unquote(urlsplit(url).path[1:]))
    maintenance = urlsplit(url)._replace(path="/postgres").geturl()
    async with connected(maintenance) as connection:
        await connection.set_autocommit(True)
        await connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(target, source))
        # A database's settings are no part of what is copied.
        await connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = {}").format(target, SEARCH_PATH)
        )
    return copied


async def drop(url: str) -> None:
    """Drop the database, with all that is in it.

    Args:
        url: of the database, as a superuser; connections to it are cut.
    """
    await _elsewhere(url, "DROP DATABASE IF EXISTS {} WITH (FORCE)")


async def recreate(url: str) -> None:
    """Drop the database, as `drop` does, and make it anew, empty."""
    await _elsewhere(url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", "CREATE DATABASE {}")


async def _elsewhere(url: str, *statements: LiteralString) -> None:
    """Run statements about a database from another one of the server."""
    name = unquote(urlsplit(url).path[1:])
    place = "template1" if name == "postgres" else "postgres"
    async with connected(urlsplit(url)._replace(path=f"/{place}").geturl()) as connection:
        await connection.set_autocommit(True)
        await _end_streams(connection, name)
        for statement in statements:
            await connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


async def _end_streams(connection: AsyncConnection, database: str) -> None:
    """End the streams of a database's changes: their slots keep it from being dropped, even by
    force. Realtime opens a new one when a client joins again."""
    async with asyncio.timeout(END_SECONDS):
        while True:
            cursor = await connection.execute(_STREAMS, (database,))
            if await cursor.fetchone() is None:
                return
            await asyncio.sleep(END_INTERVAL)


async def _read_state(connection: AsyncConnection) -> _State:
    cursor = await connection.execute(_STATE, (_mark(), list(SERVICE_ROLES)))
    row = await cursor.fetchone()
    assert row is not None
    return _State(*row)


async def _substitute_extensions(connection: AsyncConnection) -> None:
    """Make the functions of the extensions that the server lacks."""
    # A new project has the first two, where the server does; the third is for migrations to make.
    cursor = await connection.execute(
        "SELECT name FROM pg_available_extensions"
        " WHERE installed_version IS NOT NULL OR name = 'pgjwt'"
    )
    there = {name for (name,) in await cursor.fetchall()}
    for extension, script in SUBSTITUTES.items():
        if extension not in there:
            await connection.execute(script.read_bytes())


async def _set_missing(connection: AsyncConnection, app_settings: Mapping[str, str]) -> None:
    cursor = await connection.execute(_APP_SETTINGS)
    there = {name for (name,) in await cursor.fetchall()}
    for name, value in app_settings.items():
        if (setting := f"app.settings.{name}") not in there:
            await connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(connection.info.dbname),
                    sql.Identifier(setting),
                    sql.Literal(value),
                )
            )


async def _run_revisions(url: str) -> None:
    # Here, since few starts need them, and importing them takes longer than all the rest.
    from sqlalchemy import text

    from amphibase.database.engine import Database, PoolOptions
    from amphibase.schema.migrations import roles
    from amphibase.schema.migrations.chains import packaged_chain
    from amphibase.schema.migrations.execution import upgrade_chains
    from amphibase.schema.migrations.transaction import schema_transaction

    database = Database(url, PoolOptions(size=1))
    try:
        chains = [packaged_chain(database, "auth"), packaged_chain(database, "storage")]
        async with schema_transaction(database) as connection:
            done = await connection.run_sync(upgrade_chains, chains)
        async with database.write() as connection:
            await connection.run_sync(roles.create_missing)
            if any(step.chain == "storage" and step.revision == "0001" for step in done):
                # The bucket of Amphibase's own applications; a project begins without any.
                await connection.execute(text("DELETE FROM storage.buckets"))
    finally:
        await database.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """Open a connection to a project's database as its owner; errors say what to do.

    Raises:
        ConfigurationError: the user may not do what is done, or a pooler keeps no sessions, which
            locks and Realtime need.
        Unavailable: the server cannot be reached.
    """
    try:
        connection = await connect_session(url, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        raise Unavailable(f"Cannot connect to the database: {reason_of(error)}") from error
    async with connection:
        try:
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                f"The user {connection.info.user} may not make a project in the database "
                f"{connection.info.dbname}: {reason_of(error)}; a superuser may"
            ) from error
        except psycopg.OperationalError as error:
            raise Unavailable(f"The database stopped half-way: {reason_of(error)}") from error


def _mark() -> str:
    """The comment by which a database is known that has all of this version."""
    return f"Made by Amphibase: project {_fingerprint()}"


def _fingerprint() -> str:
    """Return the version of what a project consists of."""
    digest = hashlib.sha256()
    for path in (ROLES, TABLES, *OBJECTS, *SUBSTITUTES.values()):
        digest.update(path.read_bytes())
    for chain in ("auth", "storage"):
        for revision in sorted((REVISIONS / chain).glob("v*.py")):
            digest.update(f"{chain}/{revision.name}".encode())
            digest.update(revision.read_bytes())
    return digest.hexdigest()[:16]
