"""Trimming the log of changes, for as long as a backend is open."""

import asyncio

import pytest
from sqlalchemy import text
from tests.column_models import Digest

from amphibase import SERVICE
from amphibase.records import change_log
from amphibase.schema import change_log as tables
from amphibase.sql import change_log as sql_change_log
from amphibase.sql.backend import SqlBackend


async def test_a_backend_that_started_twice_stops_trimming_when_it_is_closed(
    backend: SqlBackend,
) -> None:
    before = asyncio.all_tasks()
    await backend.start()
    await backend.start()
    await backend.close()
    assert asyncio.all_tasks() <= before


async def test_trimming_goes_on_after_an_error(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(change_log, "FIRST_TRIM_SECONDS", 0)
    monkeypatch.setattr(change_log, "TRIM_SECONDS", 0.01)
    on_sqlite = backend.database.dialect == "sqlite"
    schema, name = ("", tables.TABLE) if on_sqlite else ("amphibase.", "changes")
    await backend.start()
    await backend.repository(Digest, SERVICE).add(Digest(digest=b"tea"))
    await run(backend, f"ALTER TABLE {schema}{name} RENAME TO elsewhere")
    while "could not be trimmed" not in caplog.text:  # noqa: ASYNC110 - nothing else says so
        await asyncio.sleep(0.01)
    await run(backend, f"ALTER TABLE {schema}elsewhere RENAME TO {name}")
    monkeypatch.setattr(sql_change_log, "MAX_ENTRIES", 0)
    remaining = 1
    while remaining:
        async with backend.database.read() as connection:
            remaining = await connection.scalar(text(f"SELECT count(*) FROM {schema}{name}"))
    await backend.close()


async def run(backend: SqlBackend, statement: str) -> None:
    async with backend.database.write() as connection:
        await connection.execute(text(statement))
