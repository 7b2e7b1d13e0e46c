"""Creates what row level security needs: the roles of callers, and the functions that show a policy
who the caller is; as on Supabase, each only where it is missing.

A revision uses this. Revisions are history: what is created here must keep its meaning once it has
been released.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from amphibase.errors import ConfigurationError
from amphibase.schema.ddl import run

CALLERS = ("anon", "authenticated")
MARK = "Made by Amphibase"
SCRATCH = "amphibase_scratch"
"""The schema that revisions run in to be compared; it is rolled back."""

_CLAIMS = "nullif(current_setting('request.jwt.claims', true), '')::jsonb"


def _claim(name: str, kind: str) -> str:
    return (
        f"SELECT coalesce({_CLAIMS} ->> '{name}', "
        f"nullif(current_setting('request.jwt.claim.{name}', true), ''))::{kind}"
    )


FUNCTIONS = {
    "uid": ("uuid", _claim("sub", "uuid")),
    "role": ("text", _claim("role", "text")),
    "email": ("text", _claim("email", "text")),
    "jwt": (
        "jsonb",
        f"SELECT coalesce({_CLAIMS}, "
        "nullif(current_setting('request.jwt.claim', true), '')::jsonb)",
    ),
}
"""Name, type and text; the settings with one claim each are those of older PostgREST."""

# Roles belong to the whole server: another database's upgrade may make them at the same moment.
# Who may not make them goes on without; the start, and `db check`, then say what is missing.
_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} NOLOGIN NOINHERIT{option};
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$
"""

# Since Postgres 16, who makes a role may grant it, also to themselves, but not yet become it.
_MEMBER = """
DO $$ BEGIN
    IF current_setting('server_version_num')::int < 160000 THEN
        IF NOT pg_has_role(current_user, '{role}', 'MEMBER') THEN
            GRANT {role} TO CURRENT_USER;
        END IF;
    ELSIF NOT pg_has_role(current_user, '{role}', 'SET') THEN
        EXECUTE 'GRANT {role} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE';
    END IF;
EXCEPTION
    WHEN undefined_object OR insufficient_privilege OR unique_violation OR internal_error
        THEN NULL;
END $$
"""

_USAGE = """
DO $$ BEGIN
    IF NOT has_schema_privilege('{role}', {schema}, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', {schema});
    END IF;
EXCEPTION
    WHEN undefined_object OR invalid_schema_name OR insufficient_privilege THEN NULL;
END $$
"""

_SCHEMA = """
DO $$ BEGIN
    IF to_regnamespace('auth') IS NULL THEN
        CREATE SCHEMA auth;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END $$
"""

_FUNCTION = """
DO $do$ BEGIN
    IF to_regprocedure('auth.{name}()') IS NULL THEN
        {create};
        COMMENT ON FUNCTION auth.{name}() IS '{mark}';
    END IF;
EXCEPTION
    WHEN invalid_schema_name OR insufficient_privilege THEN NULL;
END $do$
"""

_DROP = """
DO $$ BEGIN
    IF obj_description(to_regprocedure('auth.{name}()'), 'pg_proc') = '{mark}' THEN
        DROP FUNCTION auth.{name}();
    END IF;
EXCEPTION
    WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
END $$
"""

_MISSING = """
SELECT
    quote_ident(current_user),
    quote_ident(current_database()),
    quote_ident(current_schema()),
    ARRAY(
        SELECT name FROM unnest(ARRAY['anon', 'authenticated']) AS name
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
    ),
    to_regnamespace('auth') IS NULL,
    ARRAY(
        SELECT name FROM unnest(ARRAY['uid', 'role', 'email', 'jwt']) AS name
        WHERE to_regprocedure('auth.' || name || '()') IS NULL
    ),
    ARRAY(
        SELECT rolname::text FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated') AND NOT pg_has_role(current_user, oid, {kind})
    ),
    ARRAY(
        SELECT quote_ident(nspname) || ':' || rolname FROM pg_roles, pg_namespace
        WHERE rolname IN ('anon', 'authenticated') AND nspname IN ('auth', current_schema())
            AND NOT has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'USAGE')
    ),
    has_database_privilege(current_database(), 'TEMPORARY')
"""


@dataclass(frozen=True, slots=True)
class MissingObject:
    """Something that is missing, and the statement that creates it."""

    subject: str
    statement: str


def create_missing(connection: Connection) -> None:
    """Create what is missing, as far as the connection's user may."""
    options = {"service_role": " BYPASSRLS"}
    for role in (*CALLERS, "service_role"):
        run(connection, _ROLE.format(role=role, option=options.get(role, "")))
    run(connection, _ROLE.format(role="service_role", option=""))
    for role in CALLERS:
        run(connection, _MEMBER.format(role=role))
    run(connection, _SCHEMA)
    run(connection, *missing_functions())
    for schema in ("'auth'", "current_schema()"):
        for role in CALLERS:
            run(connection, _USAGE.format(role=role, schema=schema))


def missing_functions() -> list[str]:
    """Return the statements that create the functions that are missing."""
    return [
        _FUNCTION.format(name=name, create=_create(name), mark=MARK).strip() for name in FUNCTIONS
    ]


def drop_own_functions(connection: Connection) -> None:
    """Drop the functions of `create_missing`, except those that something depends on."""
    for name in FUNCTIONS:
        run(connection, _DROP.format(name=name, mark=MARK))


def missing_objects(connection: Connection) -> list[MissingObject]:
    """Return what row level security needs and the database does not have."""
    version: Any = connection.dialect.server_version_info
    apart_since_16 = version[0] >= 16
    kind = "'SET'" if apart_since_16 else "'MEMBER'"
    row = connection.exec_driver_sql(_MISSING.format(kind=kind)).one()
    user, database, schema, roles, no_schema, functions, apart, closed, temporary = row
    missing = [
        MissingObject(f"role {role}", f"CREATE ROLE {role} NOLOGIN NOINHERIT") for role in roles
    ]
    options = " WITH INHERIT FALSE, SET TRUE" if apart_since_16 else ""
    for role in sorted({*roles, *apart}):
        subject = f"membership of {user} in {role}"
        missing.append(MissingObject(subject, f"GRANT {role} TO {user}{options}"))
    if no_schema:
        missing.append(MissingObject("schema auth", f"CREATE SCHEMA auth AUTHORIZATION {user}"))
    missing += [MissingObject(f"function auth.{name}()", _create(name)) for name in functions]
    unusable = {(name, role) for name, _, role in (each.rpartition(":") for each in closed)}
    unusable |= {(name, role) for name in ("auth", schema) for role in roles}
    if no_schema:
        unusable |= {("auth", role) for role in CALLERS}
    for name, role in sorted(each for each in unusable if each[0] != SCRATCH):
        subject = f"USAGE of schema {name} for {role}"
        missing.append(MissingObject(subject, f"GRANT USAGE ON SCHEMA {name} TO {role}"))
    if not temporary:
        # Policies are compared in temporary tables.
        subject = f"privilege TEMPORARY for {user}"
        missing.append(MissingObject(subject, f"GRANT TEMPORARY ON DATABASE {database} TO {user}"))
    return missing


def missing_error(missing: list[MissingObject]) -> ConfigurationError:
    """Return an error that says what is missing and what an administrator is to run."""
    subjects = ", ".join(each.subject for each in missing)
    statements = " ".join(f"{each.statement};" for each in missing)
    return ConfigurationError(
        f"RLS: row level security needs what this database does not have ({subjects}); have an "
        f"administrator run in it: {statements}"
    )


def require_creatable(connection: Connection) -> None:
    """Require what row level security needs, or the rights to create it; nothing is created.

    Raises:
        ConfigurationError: says what is missing, and what to run.
    """
    savepoint = connection.begin_nested()
    try:
        create_missing(connection)
        require(connection)
    finally:
        savepoint.rollback()


def require(connection: Connection) -> None:
    """Require what row level security needs.

    Raises:
        ConfigurationError: says what, and what to run.
    """
    if missing := missing_objects(connection):
        raise missing_error(missing)


def _create(name: str) -> str:
    kind, body = FUNCTIONS[name]
    return f"CREATE FUNCTION auth.{name}() RETURNS {kind} LANGUAGE sql STABLE AS $${body}$$"
