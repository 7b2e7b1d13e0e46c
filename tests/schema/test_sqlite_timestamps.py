"""SQLite tables from before `func.now()` had the form that SQLAlchemy compares."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, text
from tests.schema.application import Application

from amphibase.database import sqlite_now

TRIGGER = (
    "CREATE TRIGGER count_updates AFTER UPDATE ON notes "
    "BEGIN UPDATE notes SET title = title || '!' WHERE id = new.id; END"
)


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Accounts and files are in the same database: all chains of revisions run."""
    return {}


async def test_an_upgrade_rewrites_times_and_defaults_of_tables_that_exist(
    sqlite_application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = sqlite_application
    notes = application.add_notes()
    owner = uuid.uuid4().hex
    insert_note = f"INSERT INTO notes (id, owner_id, title) VALUES (:id, '{owner}', :id)"
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_now, "NOW", "CURRENT_TIMESTAMP")
        await application.revision("notes")
        await application.upgrade()
        async with application.database.write() as connection:
            await connection.execute(
                text(f"INSERT INTO users (id, email) VALUES ('{owner}', 'ann@example.com')")
            )
            await connection.execute(text(insert_note), {"id": uuid.uuid4().hex})
            await connection.execute(text("UPDATE notes SET written_at = '2026-01-01 10:00:03'"))
            await connection.execute(text(TRIGGER))
    outdated = await application.differences()
    assert "column notes.written_at: its default in the database is another" in outdated

    assert await application.upgrade() == []

    assert await application.differences() == []
    written = datetime(2026, 1, 1, 10, 0, 3, tzinfo=UTC)
    async with application.database.write() as connection:
        title = select(notes.c.title).where(notes.c.written_at == written)
        assert len((await connection.execute(title)).scalar_one()) == 32, "a trigger ran"
        await connection.execute(text(insert_note), {"id": uuid.uuid4().hex})
        times = "SELECT created_at FROM users UNION ALL SELECT written_at FROM notes"
        stored = [len(time) for time in (await connection.execute(text(times))).scalars()]
        assert stored == [len("2026-01-01 10:00:03.000000")] * 3
        await connection.execute(text("UPDATE notes SET body = 'x'"))
        assert {t[-1] for t in (await connection.execute(select(notes.c.title))).scalars()} == {"!"}
