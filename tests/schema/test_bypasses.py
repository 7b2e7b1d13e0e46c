"""What leads past the policies of a database, as `amphibase db check` names it."""

from tests.schema.application import Application
from tests.schema.callers import note_in, run

from amphibase.access import Access, service
from amphibase.schema import commands as schema


async def bypasses(application: Application) -> list[str]:
    return await schema.bypasses(application.database, application.settings, application.models)


VIEW = "notes_seen shows anon the rows of notes as its owner sees them"
STORED = "notes_stored shows authenticated the rows of notes as its owner sees them"
OUTER = "notes_outer shows authenticated the rows of notes as its owner sees them"
FUNCTION = "notes_of(integer) is SECURITY DEFINER and names notes"


async def test_privileges_views_and_functions_past_the_policies_are_named(
    guarded: Application,
) -> None:
    note_in(guarded)
    note_in(guarded, Access(), name="logs").__table__.c.title.info["read"] = service
    await guarded.ensure()
    assert await bypasses(guarded) == []
    await run(
        guarded,
        # What callers have no privilege for is no way past.
        "CREATE VIEW notes_kept AS SELECT title FROM notes",
        "CREATE FUNCTION notes_counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER "
        "AS 'SELECT count(*) FROM notes'",
        "REVOKE ALL ON FUNCTION notes_counted() FROM PUBLIC",
        # Nor is what goes by the policies, or reads another table.
        "CREATE VIEW notes_invoked WITH (security_invoker = true) AS SELECT id FROM notes",
        "CREATE FUNCTION notebooks() RETURNS text LANGUAGE sql SECURITY DEFINER "
        "AS 'SELECT ''notes2''::text'",
        "GRANT SELECT ON notes_invoked TO authenticated",
    )
    assert await bypasses(guarded) == []
    await run(
        guarded,
        "GRANT TRUNCATE ON notes TO anon",
        "GRANT SELECT ON logs TO anon",
        "CREATE VIEW notes_seen AS SELECT title FROM notes",
        "CREATE MATERIALIZED VIEW notes_stored AS SELECT title FROM notes",
        "CREATE VIEW notes_outer AS SELECT title FROM notes_kept",
        "GRANT SELECT (title) ON notes_seen TO anon",
        "GRANT SELECT ON notes_stored, notes_outer TO authenticated",
        "CREATE FUNCTION notes_of(number int) RETURNS text LANGUAGE sql SECURITY DEFINER "
        "BEGIN ATOMIC SELECT title FROM notes WHERE id = number; END",
    )
    found = await bypasses(guarded)
    assert [line.partition(", past the policies")[0] for line in found[:-1]] == [
        "notes: anon has the privilege TRUNCATE, which no policy limits; "
        "run REVOKE TRUNCATE ON notes FROM anon",
        "logs.title is left to the service, and anon has the privilege to read it; "
        "run REVOKE SELECT ON logs FROM anon",
        OUTER,
        VIEW,
        STORED,
    ]
    assert found[-1].startswith(FUNCTION)


async def test_a_view_whose_owner_the_policies_limit_is_none(guarded: Application) -> None:
    note_in(guarded)
    await guarded.ensure()
    await run(
        guarded,
        "CREATE VIEW notes_seen AS SELECT title FROM notes",
        "ALTER VIEW notes_seen OWNER TO authenticated",
        "GRANT SELECT ON notes_seen TO anon",
    )
    assert await bypasses(guarded) == []


async def test_without_row_level_security_nothing_is_asked(sqlite_application: Application) -> None:
    assert await bypasses(sqlite_application) == []
