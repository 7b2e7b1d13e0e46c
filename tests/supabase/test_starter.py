"""The SQL that prepares a project, and the comparison of a project with what it needs."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.access.helpdesk import Models
from tests.backends import ANN, BOB
from tests.supabase_projects import settings_of
from tests.supabase_tables import create_tables, owner_url

from amphibase import ANONYMOUS, SERVICE, Base, Caller
from amphibase.access import Access, authenticated
from amphibase.database.engine import Database
from amphibase.database.url import parse_url
from amphibase.errors import Forbidden, Unauthenticated
from amphibase.models import Timestamps, Versioned
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
            "CREATE OR REPLACE TRIGGER amphibase_reject_changes BEFORE UPDATE ON t_notes "
            "FOR EACH ROW EXECUTE FUNCTION amphibase_reject_changes('id')",
            "CREATE OR REPLACE TRIGGER amphibase_reject_changes BEFORE UPDATE ON t_notes FOR EACH "
            "ROW EXECUTE FUNCTION amphibase_reject_changes('created_at', 'id', 'owner_id')",
            "trigger amphibase_reject_changes of t_notes: it should be as the models declare",
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


class Apart(DeclarativeBase):
    """Beside the models of the other tests."""

    type_annotation_map = Base.type_annotation_map


class Plan(Versioned, Timestamps, Apart):
    """What everybody who is signed in may edit; it stays its owner's."""

    __tablename__ = "plans"
    __access__ = Access(read=authenticated, write=authenticated)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    title: Mapped[str]


async def test_rules_over_memberships_hold_over_the_data_api(
    local_supabase: LocalSupabase,
) -> None:
    """Ann is an agent of Acme, who may change its tickets and not delete them; Eve has left it."""
    acme, other = UUID(int=1), UUID(int=2)
    execute(local_supabase, starter_sql(Models.metadata))
    execute(
        local_supabase,
        "INSERT INTO desk_organisations (id, name, plan) VALUES "
        f"('{acme}', 'Acme', 'free'), ('{other}', 'Umbrella', 'free');"
        "INSERT INTO desk_memberships (id, organisation_id, user_id, role, deleted_at) VALUES "
        f"(gen_random_uuid(), '{acme}', '{ANN.user_id}', 'agent', NULL), "
        f"(gen_random_uuid(), '{acme}', '{BOB.user_id}', 'agent', now());"
        "INSERT INTO desk_tickets (id, organisation_id, title, status) VALUES "
        f"(gen_random_uuid(), '{acme}', 'acme', ''), (gen_random_uuid(), '{other}', 'umb', '')",
    )
    client = SupabaseClient(SupabaseProject.of(settings_of(local_supabase)))

    async def titles(caller: Caller, method: str = "GET", **changes: Any) -> list[str]:
        response = await client.request(
            "rest",
            method,
            "/desk_tickets",
            caller,
            params={"title": "not.is.null", "select": "title"},
            headers={"Prefer": "return=representation"},
            json=changes or None,
        )
        return [row["title"] for row in response.json()]

    try:
        assert await titles(ANN) == ["acme"]
        assert await titles(BOB) == []
        with pytest.raises(Unauthenticated):
            await titles(ANONYMOUS)
        assert await titles(ANN, "PATCH", title="changed") == ["changed"]
        assert await titles(BOB, "PATCH", title="x") == []
        assert await titles(ANN, "PATCH", deleted_at="2026-01-01T00:00:00Z") == []
        with pytest.raises(Forbidden):
            await titles(ANN, "PATCH", organisation_id=str(other))
    finally:
        await client.close()
        tables = ", ".join(table.name for table in Models.metadata.sorted_tables)
        execute(local_supabase, f"DROP TABLE {tables} CASCADE; DROP SCHEMA amphibase CASCADE")


async def test_clients_are_held_to_the_rules_of_the_application_and_a_move_is_not(
    local_supabase: LocalSupabase,
) -> None:
    execute(local_supabase, starter_sql(Apart.metadata))
    client = SupabaseClient(SupabaseProject.of(settings_of(local_supabase)))

    async def send(method: str, caller: Caller, **values: Any) -> dict[str, Any]:
        response = await client.request(
            "rest",
            method,
            "/plans",
            caller,
            params={} if method == "POST" else {"title": "not.is.null"},
            headers={"Prefer": "return=representation"},
            json=values,
        )
        (row,) = response.json()
        return cast("dict[str, Any]", row)

    plan = {"id": str(UUID(int=1)), "owner_id": str(ANN.user_id), "title": "one"}
    try:
        with pytest.raises(Forbidden):  # for another
            await send("POST", BOB, **plan)
        stored = await send("POST", ANN, **plan)
        for name, value in (
            ("id", str(UUID(int=2))),
            ("owner_id", str(BOB.user_id)),
            ("created_at", "2000-01-01T00:00:00Z"),
        ):
            with pytest.raises(Forbidden):
                await send("PATCH", BOB, **{name: value})
        changed = await send("PATCH", BOB, **stored | {"title": "two", "version": 9})
        earlier, later = (datetime.fromisoformat(each["updated_at"]) for each in (stored, changed))
        assert later > earlier
        unchanged = {"title": "two", "version": 2, "updated_at": changed["updated_at"]}
        assert changed == stored | unchanged
        assert (await send("PATCH", SERVICE, owner_id=str(BOB.user_id)))["version"] == 3
        as_before = {"version": 1, "updated_at": stored["updated_at"]}
        assert (await send("PATCH", SERVICE, **as_before)).items() >= as_before.items()
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("buckets", "accepted"), [((), ["avatars", "theirs"]), (("avatars",), ["avatars"])]
)
async def test_the_policies_of_files_are_for_the_buckets_that_are_named(
    local_supabase: LocalSupabase, buckets: tuple[str, ...], accepted: list[str]
) -> None:
    execute(local_supabase, starter_sql(Apart.metadata, buckets))
    for name in ("avatars", "theirs"):
        execute(
            local_supabase,
            f"INSERT INTO storage.buckets VALUES ('{name}', '{name}') ON CONFLICT DO NOTHING",
        )
    client = SupabaseClient(SupabaseProject.of(settings_of(local_supabase)))
    stored = []
    try:
        for name in ("avatars", "theirs"):
            with suppress(Forbidden):
                await client.request("storage", "POST", f"/object/{name}/a", ANN, content=b"a")
                stored.append(name)
    finally:
        await client.close()
    assert stored == accepted


def test_the_script_is_the_same_each_time() -> None:
    assert starter_sql(Base.metadata) == starter_sql(Base.metadata)
