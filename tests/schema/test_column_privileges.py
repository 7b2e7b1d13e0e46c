"""The privileges of callers on single columns, where a model leaves some to the service."""

from typing import Any

import pytest
from tests.schema.application import Application
from tests.schema.callers import ANN, CALLERS, attempt, calling, fetch, note_in, run, url_of

from amphibase.access import owner, service
from amphibase.errors import ConfigurationError
from amphibase.schema.policies import declared

STATEMENTS = {
    "read": "SELECT title FROM notes",
    "read all": "SELECT * FROM notes",
    "filter": "SELECT id FROM notes WHERE title = 'secret'",
    "read the rest": "SELECT id, owner_id FROM notes",
    "count": "SELECT count(*) FROM notes",
    "add": f"INSERT INTO notes (owner_id, title) VALUES ('{ANN}', 'new')",
    "add the rest": f"INSERT INTO notes (owner_id) VALUES ('{ANN}') RETURNING id",
    "change": "UPDATE notes SET title = 'new'",
    "change blindly": "UPDATE notes SET title = title || '!'",
    "change the rest": "UPDATE notes SET id = id",
}


def reached(application: Application) -> set[str]:
    """The statements that the owner of a note may run."""
    allowed = set()
    for name, statement in STATEMENTS.items():
        with calling(url_of(application), CALLERS["ann"]) as connection:
            if attempt(connection, statement):
                allowed.add(name)
    return allowed


def leave(note: Any, **info: Any) -> None:
    """Leave the title of notes to the service."""
    title = note.__table__.c.title
    title.default = None
    title.info.clear()
    title.info.update(info)


async def test_hold_for_the_callers_of_the_database_itself(guarded: Application) -> None:
    note = note_in(guarded)
    await guarded.ensure()
    await run(guarded, f"INSERT INTO notes (owner_id, title) VALUES ('{ANN}', 'secret')")
    assert reached(guarded) == {*STATEMENTS}
    leave(note, read=service)
    await guarded.ensure()
    assert reached(guarded) == {
        "read the rest", "count", "add", "add the rest", "change", "change the rest",
    }  # fmt: skip
    leave(note, write=service)
    await guarded.ensure()
    assert reached(guarded) == {*STATEMENTS} - {"add", "change", "change blindly"}
    leave(note)
    await guarded.ensure()
    assert reached(guarded) == {*STATEMENTS}


async def test_go_their_way_into_revisions_and_back(guarded: Application) -> None:
    note = note_in(guarded)
    await guarded.revision("notes")
    await guarded.upgrade()
    await run(guarded, f"INSERT INTO notes (owner_id, title) VALUES ('{ANN}', 'secret')")
    leave(note, read=service)
    assert await guarded.differences() == [
        "privilege SELECT on notes for authenticated is in the database alone"
    ]
    path = await guarded.revision("hide the title")
    assert path is not None
    assert "GRANT SELECT (id, owner_id) ON notes TO authenticated" in path.read_text()
    await guarded.upgrade()
    assert await guarded.differences() == []
    assert await guarded.revision("again") is None
    assert "read" not in reached(guarded)
    await guarded.downgrade("application", "-1")
    assert "read" in reached(guarded)
    await guarded.upgrade()
    leave(note)
    assert await guarded.differences() == [
        "privilege SELECT on notes for authenticated is missing from the database"
    ]
    await guarded.revision("show it")
    await guarded.upgrade()
    assert await guarded.differences() == []
    assert "read all" in reached(guarded)


async def test_of_a_column_that_was_granted_by_hand_are_reported(guarded: Application) -> None:
    note = note_in(guarded)
    leave(note, read=service)
    await guarded.ensure()
    await run(guarded, "GRANT SELECT (title) ON notes TO authenticated")
    assert await guarded.differences() == [
        "privilege SELECT on notes.title for authenticated is in the database alone"
    ]
    await run(guarded, "REVOKE SELECT (title, id) ON notes FROM authenticated")
    assert await guarded.differences() == [
        "privilege SELECT on notes.id for authenticated is missing from the database"
    ]
    await guarded.ensure()
    assert await guarded.differences() == []
    held = "SELECT has_column_privilege('authenticated', 'notes', 'id', 'SELECT')"
    assert await fetch(guarded, held) == [(True,)]


def test_of_another_rule_are_refused(guarded: Application) -> None:
    leave(note_in(guarded), read=owner)
    with pytest.raises(ConfigurationError, match="takes the rule service alone"):
        declared(guarded.models)
