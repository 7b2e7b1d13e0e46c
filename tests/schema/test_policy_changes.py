"""Row level security in revisions, comparisons, starts and upgrades."""

import asyncio
import os
import re
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column
from tests.schema.application import Application, application_on, on_all_chains
from tests.schema.callers import (
    ANN,
    CALLERS,
    NOBODY,
    attempt,
    calling,
    fetch,
    models_of,
    note_in,
    run,
    url_of,
)

from amphibase.access import Access, admin, authenticated, everyone, owner, service
from amphibase.errors import ConfigurationError
from amphibase.schema import commands as schema
from amphibase.schema.migrations.security_of_database import read_security


@on_all_chains
async def test_a_declaration_goes_its_way_into_the_database_and_back(
    guarded: Application, sqlite_application: Application
) -> None:
    """Written, run, changed, reported, written again, undone; and the same files run on SQLite."""
    note = note_in(guarded)
    every = "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 2"
    path = await guarded.revision("notes")
    assert path is not None
    written = path.read_text()
    for part in (
        'if op.get_context().dialect.name == "postgresql":',
        'op.execute("ALTER TABLE notes ENABLE ROW LEVEL SECURITY")',
        "CREATE POLICY amphibase_notes_select ON notes\n            FOR SELECT TO authenticated",
        "USING (owner_id = (SELECT auth.uid()))",
        'op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO authenticated")',
        'op.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")',
    ):
        assert part in written
    await guarded.upgrade()
    assert await guarded.differences() == []
    await guarded.require_current()
    assert await guarded.revision("again") is None
    first = await fetch(guarded, every)
    assert len(first) == 4

    note.__access__ = Access(read=everyone, write=service)
    assert await guarded.differences() == [
        "policy amphibase_notes_select of notes: its roles should be anon, authenticated, are "
        "authenticated; its condition should be true, is (owner_id = ( SELECT auth.uid() AS uid))",
        *(
            f"policy amphibase_notes_{command} of notes is in the database alone"
            for command in ("insert", "update", "delete")
        ),
        "privilege SELECT on notes for anon is missing from the database",
        "trigger amphibase_reject_changes of notes is in the database alone",
    ]
    path = await guarded.revision("open notes")
    assert path is not None
    for line in path.read_text().splitlines():
        assert len(line) <= 88
    await guarded.upgrade()
    assert await guarded.differences() == []
    assert await guarded.revision("again") is None
    with calling(url_of(guarded), CALLERS["ann"]) as connection:
        has = (
            "SELECT has_table_privilege('notes', 'SELECT'), has_table_privilege('notes', 'INSERT')"
        )
        assert connection.execute(has).fetchone() == (True, False)

    await guarded.downgrade("application", "-1")
    assert await fetch(guarded, every) == first
    note.__access__ = Access(read=owner, write=owner)
    assert await guarded.differences() == []
    await guarded.downgrade("application", "0002")
    assert await fetch(guarded, every) == []
    assert await fetch(
        guarded, "SELECT relrowsecurity FROM pg_class WHERE oid = 'users'::regclass"
    ) == [(False,)]

    note_in(sqlite_application)
    assert len(await sqlite_application.upgrade()) == 7
    assert await sqlite_application.differences() == []
    await sqlite_application.downgrade("application", "base")


async def test_columns_that_policies_speak_of_come_and_go(guarded: Application) -> None:
    """A policy goes before its column, and comes after it; a table takes its policies along."""
    note_in(guarded)
    await guarded.revision("notes")
    await guarded.upgrade()
    guarded.models.remove(guarded.models.tables["notes"])

    class Plain(models_of(guarded)):  # type: ignore[misc]
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(default="", server_default="")

    await guarded.revision("no owners")
    await guarded.upgrade()
    assert await guarded.differences() == []
    guarded.models.remove(guarded.models.tables["notes"])
    await guarded.revision("no notes")
    await guarded.upgrade()
    assert await guarded.differences() == []
    await guarded.downgrade("application", "-2")
    note_in(guarded)
    assert await guarded.differences() == []


async def test_what_others_wrote_is_left_alone(guarded: Application) -> None:
    """Policies by hand are neither reported nor touched, nor are the privileges beside them."""
    note = note_in(guarded)
    await guarded.ensure()
    await run(
        guarded,
        "CREATE POLICY friends ON notes FOR SELECT TO anon USING (title = 'public')",
        "GRANT SELECT ON notes TO anon",
    )
    assert await guarded.differences() == []
    note.__access__ = Access()
    await guarded.ensure()
    await guarded.require_current()
    assert await guarded.differences() == []
    left = await fetch(guarded, "SELECT policyname::text FROM pg_policies")
    assert left == [("friends",)]
    await run(guarded, f"INSERT INTO notes (owner_id, title) VALUES ('{ANN}', 'public')")
    with calling(url_of(guarded), NOBODY) as connection:
        assert attempt(connection, "SELECT * FROM notes") == 1


async def test_check_says_in_words_what_differs(guarded: Application) -> None:
    """Missing, extra, changed, off; and production does not start on it."""
    note_in(guarded)
    note_in(guarded, Access(read=authenticated), "rates")
    await guarded.ensure()
    await guarded.require_current()
    await run(
        guarded,
        "DROP POLICY amphibase_notes_select ON notes",
        "ALTER POLICY amphibase_notes_delete ON notes USING (true)",
        "CREATE POLICY amphibase_rates_update ON rates FOR UPDATE USING (true)",
        "DROP POLICY amphibase_notes_insert ON notes",
        "CREATE POLICY amphibase_notes_insert ON notes AS RESTRICTIVE FOR ALL TO anon "
        "USING (owner_id = auth.uid())",
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "REVOKE UPDATE ON notes FROM authenticated",
        "REVOKE USAGE ON SEQUENCE notes_id_seq FROM authenticated",
    )
    differences = await guarded.differences()
    assert differences == [
        "policy amphibase_notes_select of notes is missing from the database",
        "policy amphibase_notes_insert of notes: its command should be INSERT, is ALL; its roles "
        "should be authenticated, are anon; its condition should be none, is (owner_id = "
        "auth.uid()); its check should be (owner_id = ( SELECT auth.uid() AS uid)), is none; it "
        "should be permissive, is restrictive",
        "policy amphibase_notes_delete of notes: its condition should be (owner_id = ( SELECT "
        "auth.uid() AS uid)), is true",
        "privilege UPDATE on notes for authenticated is missing from the database",
        "privilege USAGE on the sequence of notes.id for authenticated is missing from the "
        "database",
        "policy amphibase_rates_update of rates is in the database alone",
        "row level security of users is off",
    ]
    with pytest.raises(ConfigurationError, match=r"^RLS: .*missing.*; ….*amphibase db upgrade"):
        await guarded.require_current()
    await guarded.ensure()
    assert await guarded.differences() == []
    await guarded.require_current()


async def test_a_service_that_would_not_see_its_own_rows_is_told(guarded: Application) -> None:
    """Its user must own the tables, and the owner must not be restricted."""
    note_in(guarded)
    await guarded.ensure()
    await run(
        guarded,
        "ALTER TABLE notes FORCE ROW LEVEL SECURITY",
        f"CREATE ROLE plain_{os.getpid()}",
        f"ALTER TABLE notes OWNER TO plain_{os.getpid()}",
    )
    async with guarded.database.write() as connection:
        await connection.execute(text(f"SET LOCAL ROLE plain_{os.getpid()}"))
        states = await connection.run_sync(read_security)
    assert {name for name, state in states.tables.items() if state.restricts_service} == {
        "notes",
        "users",
    }
    await run(guarded, "DROP TABLE notes", f"DROP ROLE plain_{os.getpid()}")


async def test_comparing_waits_for_nobody(guarded: Application) -> None:
    """Neither a check nor a start that has nothing to do asks for a lock on a table in use."""
    note_in(guarded)
    await guarded.ensure()
    async with guarded.database.write() as busy:
        await busy.execute(text("INSERT INTO notes (owner_id) SELECT gen_random_uuid()"))
        await busy.execute(text("LOCK TABLE notes IN ROW EXCLUSIVE MODE"))
        async with asyncio.timeout(60):
            assert await guarded.differences() == []
            await guarded.require_current()
            await guarded.ensure()


async def test_without_rls_nothing_is_written_or_reported(
    postgres_application: Application,
) -> None:
    """The declaration is a matter of predicates then."""
    note_in(postgres_application)
    path = await postgres_application.revision("notes")
    assert path is not None
    assert "POLICY" not in path.read_text()
    assert "SECURITY" not in path.read_text()
    await postgres_application.upgrade()
    await postgres_application.ensure()
    await postgres_application.require_current()
    assert await postgres_application.differences() == []
    assert await fetch(postgres_application, "SELECT * FROM pg_policies") == []


async def test_what_serve_guarded_is_adopted(guarded: Application) -> None:
    """Tables, and later policies, that a start made are no obstacle to their revisions."""
    note = note_in(guarded)
    await guarded.ensure()
    await guarded.revision("notes")
    assert [each.status for each in await guarded.upgrade()] == ["stamped"]
    assert await guarded.differences() == []
    note.__access__ = Access(read=everyone, write=owner)
    await guarded.ensure()
    await guarded.revision("open notes")
    assert [each.status for each in await guarded.upgrade()] == ["applied"]
    assert await guarded.differences() == []
    note_in(guarded, Access(read=owner), "pets")
    await guarded.revision("pets")
    pets = guarded.models.tables["pets"]
    async with guarded.database.write() as connection:
        await connection.run_sync(pets.create)
    assert [each.status for each in await guarded.upgrade()] == ["stamped"]
    assert await guarded.differences() == []


async def test_a_revision_whose_policy_exists_already_is_adopted(
    guarded: Application, postgres_url: str, overrides: dict[str, Any]
) -> None:
    """And what else it makes is made, though it did not run."""
    async with application_on(postgres_url, **overrides) as unguarded:
        note_in(unguarded)
        await unguarded.revision("notes")
        await unguarded.upgrade()
    note_in(guarded)
    await guarded.revision("guard notes")
    await run(
        guarded, "CREATE POLICY amphibase_notes_update ON notes FOR UPDATE USING (owner_id IS NULL)"
    )
    assert [each.status for each in await guarded.upgrade()] == ["stamped"]
    assert await guarded.differences() == []


async def test_the_script_brings_a_database_in_line(
    postgres_application: Application, overrides: dict[str, Any]
) -> None:
    """What `db policies` prints can be run by itself, and again."""
    note_in(postgres_application, Access(read=owner | admin, write=owner))
    await postgres_application.ensure()
    await run(
        postgres_application,
        "CREATE POLICY amphibase_users_select ON users USING (true)",
        "CREATE POLICY friends ON notes USING (false)",
        "CREATE FUNCTION amphibase_notes_soft_delete() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER amphibase_notes_soft_delete BEFORE UPDATE ON notes FOR EACH ROW "
        "EXECUTE FUNCTION amphibase_notes_soft_delete()",
    )
    for _ in range(2):
        with psycopg.connect(url_of(postgres_application), autocommit=True) as connection:
            connection.execute(schema.policies(postgres_application.models).encode())
    async with application_on(url_of(postgres_application), rls=True, **overrides) as guarded:
        guarded = replace(guarded, models=postgres_application.models)
        assert await guarded.differences() == []
    names = await fetch(postgres_application, "SELECT policyname::text FROM pg_policies")
    assert ("friends",) in names
    assert ("amphibase_users_select",) not in names
    assert len(names) == 5


def test_a_table_is_named_beside_what_it_declares() -> None:
    """The script says in words what each part is for."""
    from amphibase.models import Base

    assert re.search(
        r"^-- users: read: service; write: service$", schema.policies(Base.metadata), re.M
    )
