"""The SQL that prepares a project, and the comparison of a project with what it needs."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import MetaData
from tests.supabase_projects import settings_of
from tests.supabase_tables import create_tables, owner_url

from amphibase import Base
from amphibase.database.engine import Database
from amphibase.database.url import parse_url
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.project_check import check_database, check_over_api
from amphibase.supabase.starter import starter_sql
from amphibase.testing.supabase import LocalSupabase, Projects


@pytest.fixture(scope="module")
def project(local_supabase_projects: Projects) -> Iterator[LocalSupabase]:
    """A project that was prepared for the tests' models."""
    with local_supabase_projects.open() as opened:
        create_tables(opened)
        yield opened


async def differences(project: LocalSupabase, metadata: MetaData = Base.metadata) -> list[str]:
    url = owner_url(project)
    settings = settings_of(project, supabase_db_url=url)
    database = Database(parse_url(url))
    try:
        return [each async for each in check_database(database, settings, metadata)]
    finally:
        await database.close()


async def missing(project: LocalSupabase) -> list[str]:
    client = SupabaseClient(SupabaseProject.of(settings_of(project)))
    try:
        return [each async for each in check_over_api(client, Base.metadata)]
    finally:
        await client.close()


def execute(project: LocalSupabase, statement: str) -> None:
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(statement.encode())


async def test_a_prepared_project_lacks_nothing(project: LocalSupabase) -> None:
    assert await differences(project) == []
    assert await missing(project) == []


@pytest.mark.parametrize(
    ("statement", "undo", "expected"),
    [
        (
            "ALTER TABLE t_notes RENAME stars TO points",
            "ALTER TABLE t_notes RENAME points TO stars",
            "column t_notes.stars is missing",
        ),
        (
            "DROP POLICY amphibase_t_notes_select ON t_notes",
            "CREATE POLICY amphibase_t_notes_select ON t_notes FOR SELECT TO authenticated "
            "USING (owner_id = (SELECT auth.uid()))",
            "policy amphibase_t_notes_select of t_notes is missing",
        ),
        (
            "ALTER TABLE t_notes DISABLE TRIGGER amphibase_set_updated_at",
            "ALTER TABLE t_notes ENABLE TRIGGER amphibase_set_updated_at",
            "trigger amphibase_set_updated_at of t_notes is missing",
        ),
        (
            "ALTER POLICY amphibase_objects_delete ON storage.objects RENAME TO other",
            "ALTER POLICY other ON storage.objects RENAME TO amphibase_objects_delete",
            "policy amphibase_objects_delete of storage.objects is missing",
        ),
        (
            "ALTER FUNCTION amphibase_files RENAME TO other_files",
            "ALTER FUNCTION other_files RENAME TO amphibase_files",
            "function amphibase_files is missing",
        ),
    ],
)
async def test_what_is_missing_is_named(
    project: LocalSupabase, statement: str, undo: str, expected: str
) -> None:
    execute(project, statement)
    try:
        assert expected in "\n".join(await differences(project))
    finally:
        execute(project, undo)


async def test_without_the_database_tables_columns_and_files_are_compared(
    local_supabase: LocalSupabase,
) -> None:
    found = await missing(local_supabase)
    assert "table users is missing, or not granted to service_role" in found
    assert {"function amphibase_files is missing", "bucket uploads is missing"} <= set(found)


def test_only_what_policies_need_is_granted(project: LocalSupabase) -> None:
    with psycopg.connect(project.db_url) as connection:
        granted = connection.execute(
            "SELECT grantee, privilege_type FROM information_schema.role_table_grants "
            "WHERE table_name = 't_notes' AND grantee IN ('anon', 'authenticated')"
        ).fetchall()
    assert set(granted) == {
        ("authenticated", privilege) for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
    }


def test_the_script_is_the_same_each_time() -> None:
    assert starter_sql(Base.metadata) == starter_sql(Base.metadata)
