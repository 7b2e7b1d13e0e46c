"""The database of a project has what a Supabase project has."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row
from tests.gateway.conftest import PASSWORD, ProjectDatabase
from tests.servers import new_server

from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway import project as project_module
from amphibase.gateway.migration_roles import PROJECT_ROLES
from amphibase.gateway.project import ROLES, prepare
from amphibase.gateway.service_roles import SERVICE_ROLES, derive_password, url_of
from amphibase.postgres import Server


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


def test_a_reset_keeps_the_roles_of_every_project() -> None:
    created = re.findall(r"\('(\w+)', '(?:NO)?LOGIN", ROLES.read_text())
    assert tuple(created) == PROJECT_ROLES


async def test_authenticator_has_nothing_of_its_own_and_becomes_each_of_the_three(
    project: ProjectDatabase,
) -> None:
    keep(project.owner, "CREATE TABLE public.things (id int)")
    for role in ("anon", "authenticated", "service_role"):
        (found,) = ask(project.authenticator, f"SET ROLE {role}", "SELECT current_user")
        assert found == (role,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(project.authenticator, "SELECT * FROM public.things")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(project.authenticator, "SET ROLE postgres")
    owned = "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'authenticator'::regrole"
    assert ask(project.owner, f"{owned} AND deptype = 'o'") == [(0,)]


async def test_a_new_table_is_everybodys_until_it_has_row_level_security(
    project: ProjectDatabase,
) -> None:
    keep(
        project.owner,
        "CREATE TABLE public.things (id serial)",
        "INSERT INTO public.things DEFAULT VALUES",
    )
    insert = "INSERT INTO public.things DEFAULT VALUES RETURNING id"
    for role in ("anon", "authenticated", "service_role"):
        assert len(ask(project.authenticator, f"SET ROLE {role}", insert)) == 1
    keep(project.owner, "ALTER TABLE public.things ENABLE ROW LEVEL SECURITY")
    count = "SELECT count(*) FROM public.things"
    assert ask(project.authenticator, "SET ROLE anon", count) == [(0,)]
    assert ask(project.authenticator, "SET ROLE service_role", count) == [(1,)]


async def test_what_an_application_had_before_is_not_opened_to_everyone(postgres: Server) -> None:
    url = postgres.create_database("had_tables")
    keep(url, "CREATE TABLE public.secrets (id int)")
    theirs = (await prepare(url, PASSWORD)).authenticator
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(theirs, "SET ROLE anon", "SELECT * FROM public.secrets")
    postgres.drop_database("had_tables")


async def test_policies_can_ask_who_the_caller_is(project: ProjectDatabase) -> None:
    claims = (
        '{"sub": "5a1c4a3e-6c1c-4d7a-9f0e-3f0d3b1f3c11", "role": "authenticated", '
        '"email": "ann@example.com"}'
    )
    (found,) = ask(
        project.authenticator,
        f"SELECT set_config('request.jwt.claims', '{claims}', true)",
        "SET LOCAL ROLE authenticated",
        "SELECT auth.uid()::text, auth.role(), auth.email(), auth.jwt() ->> 'email'",
    )
    assert found == (
        "5a1c4a3e-6c1c-4d7a-9f0e-3f0d3b1f3c11",
        "authenticated",
        "ann@example.com",
        "ann@example.com",
    )


async def test_callers_reach_the_tables_of_files_by_policy_and_those_of_accounts_never(
    project: ProjectDatabase,
) -> None:
    keep(project.owner, "INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')")
    buckets = "SELECT count(*) FROM storage.buckets"
    assert ask(project.authenticator, "SET ROLE anon", buckets) == [(0,)]
    assert ask(project.authenticator, "SET ROLE service_role", buckets) == [(1,)]
    for role in ("anon", "authenticated"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(project.authenticator, f"SET ROLE {role}", "SELECT * FROM auth.users")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_where_no_policy_guards_what_the_project_keeps_callers_may_nothing(
    project: ProjectDatabase, role: str
) -> None:
    open_to_callers = """
        SELECT relname FROM pg_class
        WHERE relnamespace::regnamespace::text IN ('auth', 'storage', 'extensions')
            AND relkind = 'r' AND NOT relrowsecurity
            AND has_table_privilege(%s, oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
    """
    with psycopg.connect(project.owner) as owner:
        assert owner.execute(open_to_callers, (role,)).fetchall() == []


async def test_a_project_begins_without_buckets_and_without_tables_of_an_application(
    project: ProjectDatabase,
) -> None:
    assert ask(project.owner, "SELECT id FROM storage.buckets") == []
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert ask(project.owner, tables) == []


@pytest.mark.parametrize(
    ("name", "folders", "file", "extension"),
    [
        ("a/b/c.tar.gz", ["a", "b"], "c.tar.gz", "gz"),
        ("c.png", [], "c.png", "png"),
        ("a/c", ["a"], "c", "c"),
    ],
)
async def test_the_parts_of_a_files_name(
    project: ProjectDatabase, name: str, folders: list[str], file: str, extension: str
) -> None:
    parts = f"storage.foldername('{name}'), storage.filename('{name}'), storage.extension('{name}')"
    assert ask(project.authenticator, "SET ROLE anon", f"SELECT {parts}") == [
        (folders, file, extension)
    ]


async def test_uuid_generate_v4_is_found_without_its_schema(project: ProjectDatabase) -> None:
    keep(project.owner, "CREATE TABLE public.t (id uuid DEFAULT uuid_generate_v4(), n int)")
    insert = "INSERT INTO public.t (n) VALUES (1) RETURNING id IS NOT NULL"
    assert ask(project.authenticator, "SET ROLE anon", insert) == [(True,)]


async def test_the_data_api_is_told_of_changed_and_of_dropped_tables(
    project: ProjectDatabase,
) -> None:
    with psycopg.connect(project.authenticator, autocommit=True) as listener:
        listener.execute("LISTEN pgrst")
        for statement in (
            "CREATE TABLE public.things (id int)",
            "COMMENT ON TABLE public.things IS 'things'",
            "DROP TABLE public.things",
        ):
            keep(project.owner, statement)
            (notice,) = listener.notifies(timeout=60, stop_after=1)
            assert notice.payload == "reload schema"
        keep(project.owner, "CREATE TEMP TABLE passing (id int)", "NOTIFY pgrst, 'the next'")
        (notice,) = listener.notifies(timeout=60, stop_after=1)
        assert notice.payload == "the next"


async def test_what_realtime_reads_is_made_again_where_somebody_has_dropped_it(
    project: ProjectDatabase,
) -> None:
    for name in ("outbox", "outbox_readers", "outbox_lease"):
        kind = "SEQUENCE" if name == "outbox_lease" else "TABLE"
        keep(project.owner, f"DROP {kind} realtime.{name}")
        await prepare(project.owner, PASSWORD)
        owner = f"SELECT relowner::regrole::text FROM pg_class WHERE relname = '{name}'"
        assert ask(project.owner, owner) == [("supabase_realtime_admin",)]


LIMITS = """
SELECT rolname, setting FROM pg_roles, unnest(rolconfig) AS setting
WHERE rolname IN (
    'anon', 'authenticated', 'authenticator', 'supabase_auth_admin', 'supabase_storage_admin'
) ORDER BY 1, 2
"""


async def test_the_settings_of_roles_are_supabases(project: ProjectDatabase) -> None:
    settings = ask(project.owner, LIMITS)
    safeupdate = {
        ("authenticator", "safeupdate.enabled=on"),  # where the server lacks the module
        ("authenticator", "session_preload_libraries=safeupdate"),
    }
    assert len(safeupdate & {*settings}) == 1
    assert [each for each in settings if each not in safeupdate] == [
        ("anon", "statement_timeout=3s"),
        ("authenticated", "statement_timeout=8s"),
        ("authenticator", "lock_timeout=8s"),
        ("authenticator", "search_path=public, extensions"),
        ("authenticator", "statement_timeout=8s"),
        ("supabase_auth_admin", "idle_in_transaction_session_timeout=60000"),
        ("supabase_auth_admin", "search_path=auth"),
        ("supabase_storage_admin", "search_path=storage, public, extensions"),
    ]


async def test_roles_that_an_application_created_get_what_they_lack_and_keep_what_they_have() -> (
    None
):
    with new_server() as server:
        keep(
            server.url,
            "CREATE ROLE anon NOLOGIN",
            "CREATE ROLE service_role NOLOGIN",
            "CREATE ROLE authenticated NOLOGIN",
            "ALTER ROLE authenticated SET statement_timeout = '1min'",
        )
        await prepare(server.url, PASSWORD)
        limits = ask(server.url, LIMITS)
        assert ("anon", "statement_timeout=3s") in limits
        assert ("authenticated", "statement_timeout=1min") in limits
        bypass = "SELECT rolbypassrls FROM pg_roles WHERE rolname = 'service_role'"
        assert ask(server.url, bypass) == [(True,)]


async def test_preparing_again_changes_nothing(project: ProjectDatabase) -> None:
    keep(
        project.owner,
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM anon",
        "INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')",
    )
    assert await prepare(project.owner, PASSWORD) == project.roles
    keep(project.owner, "CREATE TABLE public.things (id int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(project.authenticator, "SET ROLE anon", "SELECT * FROM public.things")
    assert ask(project.owner, "SELECT id FROM storage.buckets") == [("b",)]


async def test_settings_that_functions_read_are_those_of_migrations_where_these_have_some(
    postgres: Server,
) -> None:
    url = postgres.create_database("app_settings")
    try:
        keep(url, "ALTER DATABASE app_settings SET \"app.settings.mine\" = 'kept'")
        await prepare(url, PASSWORD, app_settings={"mine": "other", "quoted": "it's"})
        reading = (
            "SELECT current_setting('app.settings.mine'), current_setting('app.settings.quoted')"
        )
        assert ask(url, reading) == [("kept", "it's")]
    finally:
        postgres.drop_database("app_settings")


async def test_who_is_signed_in_by_another_password_keeps_it() -> None:
    with new_server() as server:
        roles = await prepare(server.url, PASSWORD)
        theirs = roles.auth_admin
        url = server.create_database("second")
        with psycopg.connect(theirs):
            with pytest.raises(ConfigurationError, match="connected to this server as supabase_a"):
                await prepare(url, "another password of the roles")
            for each in (roles.authenticator, roles.auth_admin, roles.storage_admin):
                psycopg.connect(each).close()
            assert (await prepare(url, PASSWORD)).auth_admin.endswith("/second")
        await prepare(url, "another password of the roles")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(theirs)


async def test_projects_of_one_server_can_be_created_at_the_same_moment(postgres: Server) -> None:
    urls = [postgres.create_database(f"same_moment_{n}") for n in range(3)]
    theirs = await asyncio.gather(*(prepare(url, PASSWORD) for url in urls))
    for n, roles in enumerate(theirs):
        assert ask(roles.authenticator, "SET ROLE anon", "SELECT auth.role()") == [(None,)]
        postgres.drop_database(f"same_moment_{n}")


async def test_a_user_who_may_not_make_a_project_is_told_so(project: ProjectDatabase) -> None:
    keep(project.owner, "CREATE ROLE mere LOGIN PASSWORD 'mere'", "DROP SCHEMA extensions CASCADE")
    with pytest.raises(ConfigurationError, match=r"The user mere cannot .* as a superuser"):
        await prepare(url_of(project.owner, "mere", "mere"), PASSWORD)
    keep(project.owner, "DROP ROLE mere")


async def test_who_may_not_change_passwords_changes_none_and_works_with_those_of_before() -> None:
    with new_server() as server:
        url = server.create_database("theirs")
        roles = await prepare(url, PASSWORD)
        keep(
            url,
            "CREATE ROLE mere LOGIN CREATEROLE PASSWORD 'mere'",
            f"GRANT {', '.join(SERVICE_ROLES)} TO mere WITH ADMIN OPTION",
        )
        mere = url_of(url, "mere", "mere")
        with pytest.raises(ConfigurationError, match=r"mere cannot change .* PGRST_DB_URI"):
            await prepare(mere, "another password of the roles")
        for each in (roles.authenticator, roles.auth_admin, roles.storage_admin):
            psycopg.connect(each).close()
        assert await prepare(mere, PASSWORD) == roles


async def test_a_server_that_is_not_there_is_reported_with_its_reason_and_without_the_password(
    project: ProjectDatabase,
) -> None:
    with pytest.raises(Unavailable) as raised:
        await prepare("postgresql://someone:hush@127.0.0.1:1/postgres", PASSWORD)
    assert "hush" not in str(raised.value)
    assert raised.value.detail.endswith("Connection refused")


@pytest.mark.parametrize("password", ["short", "x" * 32, "p%40ss"])
def test_the_password_of_a_role_is_the_same_for_all_gateways_of_a_server(password: str) -> None:
    one, two = (
        f"postgresql://postgres:{password}@{host}/db" for host in ("localhost", "127.0.0.1")
    )
    derived = derive_password(one, "authenticator")
    assert derived == derive_password(two, "authenticator")
    assert derived != derive_password(one, "supabase_admin")
    assert derived != derive_password(one.replace(password, "another"), "authenticator")


def test_a_project_is_made_anew_when_a_revision_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project_module.REVISIONS, tmp_path / "migrations")
    before = project_module._fingerprint()
    monkeypatch.setattr(project_module, "REVISIONS", tmp_path / "migrations")
    assert project_module._fingerprint() == before
    revision = next((tmp_path / "migrations" / "auth").glob("v0001*.py"))
    revision.write_text(revision.read_text() + "\n")
    assert project_module._fingerprint() != before


def test_from_no_password_none_is_derived() -> None:
    assert derive_password("postgresql://postgres@localhost/db", "authenticator") is None


OWNERS = """
SELECT nspname, relname, pg_get_userbyid(relowner) FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname IN ('auth', 'storage') AND relkind IN ('r', 'S')
"""


def assert_each_service_owns_its_tables(url: str) -> None:
    owners = {schema: owner for schema, _, owner in ask(url, OWNERS)}
    assert owners == {"auth": "supabase_auth_admin", "storage": "supabase_storage_admin"}


async def test_auth_and_storage_own_their_tables_and_reach_no_others(
    project: ProjectDatabase,
) -> None:
    keep(project.owner, "CREATE TABLE public.things (id int)")
    assert_each_service_owns_its_tables(project.owner)
    for url, own, others in (
        (project.roles.auth_admin, "auth.users", ("storage.objects", "public.things")),
        (project.roles.storage_admin, "storage.objects", ("auth.sessions", "public.things")),
    ):
        assert ask(url, f"SELECT count(*) FROM {own}") == [(0,)]
        for table in others:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ask(url, f"SELECT * FROM {table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(url, "SET ROLE postgres")
    for role in ("anon", "authenticated", "service_role"):
        assert ask(project.roles.storage_admin, f"SET ROLE {role}", "SELECT current_user")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(project.roles.auth_admin, f"SET ROLE {role}")


async def test_a_project_of_an_earlier_version_gets_the_services_roles(
    project: ProjectDatabase,
) -> None:
    tables = [f"{schema}.{name}" for schema, name, _ in ask(project.owner, OWNERS)]
    keep(
        project.owner,
        *(
            f"ALTER TABLE {table} OWNER TO CURRENT_USER"
            for table in tables
            if not table.endswith("_seq")
        ),
        "COMMENT ON SCHEMA extensions IS 'Made by Amphibase: project of an earlier version'",
    )
    assert await prepare(project.owner, PASSWORD) == project.roles
    assert_each_service_owns_its_tables(project.owner)


@pytest.mark.parametrize(
    ("made", "call"),
    [
        (
            "CREATE SCHEMA extensions; CREATE FUNCTION extensions.http_get(varchar) RETURNS text"
            " LANGUAGE sql AS 'SELECT ''mine'''",
            "extensions.http_get('')",
        ),
        (
            "CREATE SCHEMA net; CREATE FUNCTION net.http_get(url text) RETURNS text LANGUAGE sql"
            " AS 'SELECT ''mine'''; CREATE TYPE net.http_response AS (status text)",
            "(ROW('mine')::net.http_response).status",
        ),
        (
            "CREATE SCHEMA dbdev; CREATE FUNCTION dbdev.install(name text) RETURNS text"
            " LANGUAGE sql AS 'SELECT ''mine'''",
            "dbdev.install('')",
        ),
    ],
)
async def test_what_a_project_has_made_in_place_of_the_platforms_is_kept(
    postgres: Server, made: str, call: str
) -> None:
    url = postgres.create_database("own_stand_ins")
    try:
        keep(url, made)
        await prepare(url, PASSWORD)
        assert ask(url, f"SELECT {call}") == [("mine",)]
    finally:
        postgres.drop_database("own_stand_ins")


async def test_a_function_of_graphql_that_the_database_has_is_kept(
    project: ProjectDatabase,
) -> None:
    (resolver,) = ask(project.owner, "SELECT graphql_public.graphql(query => '{ a }')->'errors'")
    assert resolver[0][0]["message"] == "pg_graphql extension is not enabled."
    own = """
        CREATE OR REPLACE FUNCTION graphql_public.graphql(
            "operationName" text DEFAULT NULL, query text DEFAULT NULL,
            variables jsonb DEFAULT NULL, extensions jsonb DEFAULT NULL
        ) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(query)'
    """
    mark = "COMMENT ON SCHEMA extensions IS 'Made by Amphibase: project of an earlier version'"
    keep(project.owner, own, mark)
    await prepare(project.owner, PASSWORD)
    assert ask(project.owner, "SELECT graphql_public.graphql(query => '{ a }')") == [("{ a }",)]


async def test_a_project_from_before_pending_sign_ups_gets_their_table_and_keeps_its_users(
    project: ProjectDatabase,
) -> None:
    keep(
        project.owner,
        "DROP TABLE auth.pending_sign_ups",
        "UPDATE auth.amphibase_version SET version_num = '0001'",
        "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'ann@example.com')",
        "COMMENT ON SCHEMA extensions IS 'Made by Amphibase: project of an earlier version'",
    )
    assert await prepare(project.owner, PASSWORD) == project.roles
    assert_each_service_owns_its_tables(project.owner)
    pending = "SELECT count(*) FROM auth.pending_sign_ups"
    assert ask(project.roles.auth_admin, pending) == [(0,)]
    assert ask(project.owner, "SELECT email FROM auth.users") == [("ann@example.com",)]


async def test_migrations_as_postgres_seed_users_and_make_triggers_and_policies(
    project: ProjectDatabase,
) -> None:
    ask(
        project.owner,
        "SET ROLE postgres",
        "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'ann@example.com')",
        "CREATE TRIGGER t BEFORE UPDATE ON auth.users FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE POLICY p ON storage.objects FOR SELECT USING (true)",
        "INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')",
    )


@pytest.mark.parametrize("table", ["objects", "buckets"])
async def test_rows_of_storage_are_not_deleted_by_sql(project: ProjectDatabase, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="Use the Storage API instead"):
        ask(project.owner, f"DELETE FROM storage.{table}")
    allow = "SET LOCAL storage.allow_delete_query = 'true'"
    assert ask(project.owner, allow, f"DELETE FROM storage.{table} RETURNING 1") == []
