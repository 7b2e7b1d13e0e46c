"""The database of a project has what a Supabase project has."""

import re

import psycopg
import pytest
from tests.gateway.conftest import PASSWORD, ProjectDatabase
from tests.gateway.statements import LIMITS, ask, assert_each_service_owns_its_tables, keep

from amphibase.gateway.migration_roles import PROJECT_ROLES
from amphibase.gateway.project import ROLES, prepare
from amphibase.postgres import Server


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
