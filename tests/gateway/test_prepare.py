"""A project is made in a database: again, by whom, and beside what was there."""

import asyncio
import shutil
from pathlib import Path

import psycopg
import pytest
from tests.gateway.conftest import PASSWORD, ProjectDatabase
from tests.gateway.statements import LIMITS, OWNERS, ask, assert_each_service_owns_its_tables, keep
from tests.servers import new_server

from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway import project as project_module
from amphibase.gateway.config_toml import read_config
from amphibase.gateway.project import prepare
from amphibase.gateway.service_roles import SERVICE_ROLES, derive_password, url_of
from amphibase.gateway.settings import GatewaySettings
from amphibase.gateway.setup import set_up
from amphibase.postgres import Server
from amphibase.settings.loading import load
from amphibase.settings.published_secrets import CLI_JWT_SECRET


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


@pytest.mark.parametrize(
    ("secret", "readable"),
    [(None, CLI_JWT_SECRET), ("a secret that only this project has and nobody else", None)],
)
async def test_sql_reads_the_published_secret_and_none_of_ones_own(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    secret: str | None, readable: str | None,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if secret is not None:
        monkeypatch.setenv("JWT_SECRET", secret)
    url = postgres.create_database("readable_secret")
    try:
        await set_up(load(GatewaySettings), read_config(), url, PASSWORD)
        read = "SELECT current_setting('app.settings.jwt_secret', true)"
        assert ask(url, read) == [(readable,)]
    finally:
        postgres.drop_database("readable_secret")


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
