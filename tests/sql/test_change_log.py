"""The log of changes: nothing is missed, however transactions end up beside each other."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from tests.backends import ANN, BOB, Records
from tests.column_models import Digest, Seat, Ticket
from tests.conftest import open_records
from tests.contract.test_changes import described, end_of, events
from tests.models import Clip, Note, Task

from amphibase import ANONYMOUS, SERVICE
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Added, Changes, Lost, Removed
from amphibase.build import build_backend
from amphibase.postgres import start
from amphibase.records import change_stream, snapshot_log
from amphibase.schema import change_log as tables
from amphibase.sql import change_log
from amphibase.sql.change_log import log_of


@pytest.fixture
async def ann(records: Records) -> AsyncIterator[Changes[Task]]:
    async with records.backend.changes(Task, ANN) as changes:
        yield changes


async def test_a_transaction_that_commits_late_is_not_missed_and_holds_nothing_back(
    records: Records, ann: Changes[Task]
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    async with records.backend.transaction(ANN) as early:
        await early.repository(Task).add(Task(title="late"))
        await records.of(Task, ANN).add(Task(title="quick"))
        assert described(await events(ann, 1)) == [("Added", "quick")]
        cursor = ann.cursor
    assert described(await events(ann, 1)) == [("Added", "late")]
    async with records.backend.changes(Task, ANN, after=cursor) as resumed:
        assert described(await events(resumed, 1)) == [("Added", "late")]
        await end_of(records, resumed)


async def test_a_snapshot_that_is_too_long_for_a_cursor_repeats_changes_and_misses_none(
    records: Records, ann: Changes[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has no snapshots")
    monkeypatch.setattr(snapshot_log, "MAX_POSITION_CHARACTERS", 0)
    async with records.backend.transaction(ANN) as early:
        await early.repository(Task).add(Task(title="late"))
        await records.of(Task, ANN).add(Task(title="quick"))
        assert described(await events(ann, 1)) == [("Added", "quick")]
        cursor = ann.cursor
    async with records.backend.changes(Task, ANN, after=cursor) as resumed:
        titles = {title for _, title in described(await events(resumed, 2))}
        assert titles == {"late", "quick"}


async def test_what_another_process_writes_comes_too(records: Records, ann: Changes[Task]) -> None:
    if not records.is_sqlite:
        pytest.skip("the statement below is SQLite's")
    path = records.settings.database.database or ""
    task = await records.of(Task, ANN).add(Task(title="tea", data=b"\xff"))
    await events(ann, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE t_tasks SET title = 'cake', weight = 9e999")
    assert described(await events(ann, 1)) == [("Changed", "cake")]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM t_tasks")
    assert described(await events(ann, 1)) == [("Removed", task.id)]


async def test_a_cursor_from_before_what_was_trimmed_is_a_loss(
    records: Records, ann: Changes[Task]
) -> None:
    log = log_of(records.sql.database)
    first = ann.cursor
    await records.of(Task, ANN).add(Task(title="tea"))
    await events(ann, 1)
    second = ann.cursor
    old = f"{tables.TABLE} SET changed_at = 0"
    if not records.is_sqlite:
        old = "amphibase.changes SET changed_at = 'epoch'"
    await records.execute(text(f"UPDATE {old}"))
    await log.trim(1)
    another = build_backend(records.settings, load_keys(records.settings))
    async with another.changes(Task, ANN, after=first) as late:
        assert await events(late, 1) == [Lost(late.cursor)]
        await end_of(records, late)
    async with another.changes(Task, ANN, after=second) as current:
        assert described(await events(current, 1)) == [("Added", "the end")]
    await another.close()


async def test_what_was_trimmed_beside_a_long_transaction_is_lost_once(
    records: Records, ann: Changes[Task]
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    async with records.backend.transaction(SERVICE) as long:
        await long.repository(Ticket).add(Ticket(number="T-1"))
        await records.of(Task, ANN).add(Task(title="tea"))
        await records.execute(text("UPDATE amphibase.changes SET changed_at = 'epoch'"))
        await log_of(records.sql.database).trim(1)
        async with records.backend.changes(Task, ANN, after=ann.cursor) as late:
            assert await events(late, 1) == [Lost(late.cursor)]
            await end_of(records, late)
        async with records.backend.changes(Task, ANN) as new:
            await end_of(records, new)


async def test_a_log_that_was_restored_from_another_server_goes_on(records: Records) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has no transaction numbers")
    trimmed = "INSERT INTO amphibase.changes_trimmed (transaction, trimmed_by) VALUES"
    await records.execute(text(f"{trimmed} ('90000000000', '90000000001')"))
    entry = "INSERT INTO amphibase.changes (transaction, changed_at, table_name, operation) VALUES"
    await records.execute(text(f"{entry} ('90000000000', 'epoch', 't_tasks', 'TRUNCATE')"))
    async with records.backend.changes(Task, ANN) as changes:
        await records.of(Task, ANN).add(Task(title="tea"))
        assert described(await events(changes, 1)) == [("Added", "tea")]
        await log_of(records.sql.database).trim(1)
        await records.of(Task, ANN).add(Task(title="cake"))
        assert described(await events(changes, 1)) == [("Added", "cake")]


async def test_the_log_is_trimmed_to_its_newest_entries(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "MAX_ENTRIES", 2)
    monkeypatch.setattr(change_log, "TRIM_ENTRIES", 2)
    await records.of(Task, ANN).add_many([Task(title=str(n)) for n in range(5)])
    log = log_of(records.sql.database)
    assert await log.trim(1) == 2
    while await log.trim(1) == 2:
        pass
    name = tables.TABLE if records.is_sqlite else "amphibase.changes"
    async with records.backend.session(SERVICE) as session:
        assert await session.scalar(text(f"SELECT count(*) FROM {name}")) == 2


async def test_a_cursor_of_another_database_is_a_loss(records: Records, ann: Changes[Task]) -> None:
    log = log_of(records.sql.database)
    beyond: Any = (10**9, 1) if records.is_sqlite else (f"{10**9}:{10**9}:", None, None, None)
    for position in (beyond, ("nonsense", 1), (), (1, 2, 3, 4)):
        read = await log.read(position)
        assert read.lost
        assert not read.entries
        assert not (await log.read(read.position)).lost


async def test_a_cursor_from_before_the_database_was_restored_is_a_loss(
    records: Records, ann: Changes[Task]
) -> None:
    await records.of(Task, ANN).add(Task(title="tea"))
    await events(ann, 1)
    log = tables.TABLE if records.is_sqlite else "amphibase.changes"
    restoring = [f"UPDATE {log} SET changed_at = changed_at + 60"]  # others with these ids
    back = []
    if not records.is_sqlite:
        restoring = [
            f"ALTER TABLE {log} RENAME TO former",
            f"CREATE TABLE {log} (LIKE amphibase.former)",
        ]
        back = [f"DROP TABLE {log}", "ALTER TABLE amphibase.former RENAME TO changes"]
    for statement in restoring:
        await records.execute(text(statement))
    another = build_backend(records.settings, load_keys(records.settings))
    try:
        async with another.changes(Task, ANN, after=ann.cursor) as late:
            assert await events(late, 1) == [Lost(late.cursor)]
            cursor = late.cursor
        async with another.changes(Task, ANN, after=cursor) as again:
            assert await again.batch(0.1) == []
    finally:
        await another.close()
        for statement in back:
            await records.execute(text(statement))


@pytest.mark.parametrize("statement", ["SELECT pg_wal_replay_pause()", "SELECT no_function()"])
async def test_a_server_that_has_no_identity_has_streams_and_cursors(
    records: Records, ann: Changes[Task], monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite is no server")
    monkeypatch.setattr(change_log, "_POSTGRES_IDENTITY", text(statement))
    another = build_backend(records.settings, load_keys(records.settings))
    try:
        async with another.changes(Task, ANN) as changes:
            cursor = changes.cursor
        await records.of(Task, ANN).add(Task(title="tea"))
        async with another.changes(Task, ANN, after=cursor) as resumed:
            assert described(await events(resumed, 1)) == [("Added", "tea")]
    finally:
        await another.close()


async def test_a_table_that_is_truncated_is_a_loss(records: Records, ann: Changes[Task]) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has no TRUNCATE")
    await records.execute(text("TRUNCATE t_tasks"))
    assert await events(ann, 1) == [Lost(ann.cursor)]


async def test_policies_of_ones_own_decide_about_rows_that_are_gone(records: Records) -> None:
    if records.name != "rls":
        pytest.skip("there are no policies")
    await records.execute(
        text(
            "CREATE POLICY few ON t_tasks AS RESTRICTIVE FOR SELECT TO authenticated "
            "USING (stars < 5 AND note_id IN (SELECT id FROM t_notes) IS NOT TRUE)"
        )
    )
    try:
        many = await records.of(Task).add(Task(title="many", stars=9, owner_id=ANN.user_id))
        few = await records.of(Task).add(Task(title="few", stars=1, owner_id=ANN.user_id))
        async with (
            records.backend.changes(Task, ANN) as ann,
            records.backend.changes(Task, BOB) as bob,
        ):
            await records.of(Task).with_deleted().delete(many.id)
            await records.of(Task).with_deleted().delete(few.id)
            assert await events(ann, 1) == [Removed(few.id, ann.cursor)]
            assert await bob.batch(0.2) == []
    finally:
        await records.execute(text("DROP POLICY few ON t_tasks"))


async def test_streams_that_share_rows_do_not_share_what_each_caller_computes_of_them(
    records: Records,
) -> None:
    note = await records.of(Note, ANN).add(Note(title="ann's", stars=1))
    async with (
        records.backend.changes(Clip, ANN) as ann,
        records.backend.changes(Clip, BOB) as bob,
    ):
        await records.of(Clip, ANN).add(Clip(name="tea", note_id=note.id))
        both = await asyncio.gather(events(ann, 1), events(bob, 1))
    titles = [each.row.note_title for (each,) in both if isinstance(each, Added)]
    assert titles == ["ann's", None]


async def test_rows_are_as_they_are_now_and_not_as_an_earlier_stream_had_them(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "SHARED_SECONDS", 0)
    async with records.backend.changes(Seat, ANONYMOUS) as early:
        start = early.cursor
        await records.of(Seat).add(Seat(row=1, number=1))
        (added,) = await events(early, 1)
        assert isinstance(added, Added)
    await records.of(Seat).delete((1, 1))
    async with records.backend.changes(Seat, ANONYMOUS, after=start) as late:
        assert await events(late, 1) == [Removed((1, 1), late.cursor)]


async def test_keys_are_as_the_application_has_them(records: Records) -> None:
    async with records.backend.changes(Ticket, SERVICE) as changes:
        await records.of(Ticket).add(Ticket(number="T-1"))
        (added,) = await events(changes, 1)
        assert isinstance(added, Added)
        assert added.row.number == "T-1"
        await records.of(Ticket).delete("T-1")
        assert await events(changes, 1) == [Removed("T-1", changes.cursor)]
    async with records.backend.changes(Digest, SERVICE) as digests:
        await records.of(Digest).add(Digest(digest=b"\xff1"))
        (added,) = await events(digests, 1)
        assert isinstance(added, Added)
        assert added.row.digest == b"\xff1"
        await records.of(Digest).delete(b"\xff1")
        assert await events(digests, 1) == [Removed(b"\xff1", digests.cursor)]


async def test_a_log_of_a_table_with_other_types_than_before_is_a_loss(
    records: Records, ann: Changes[Task]
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite stores any value in any column")
    await records.of(Task, ANN).add(Task(title="tea"))
    await events(ann, 1)
    old = """jsonb_set(old, '{stars}', '"many"')"""
    await records.execute(
        text("UPDATE t_tasks SET stars = 1"),
        text(f"UPDATE amphibase.changes SET old = {old} WHERE old IS NOT NULL"),
    )
    assert await events(ann, 1) == [Lost(ann.cursor)]
    await end_of(records, ann)


async def test_a_log_of_a_table_with_other_columns_than_before_is_a_loss(
    records: Records, ann: Changes[Task]
) -> None:
    await records.of(Task, ANN).add(Task(title="tea"))
    await events(ann, 1)
    log, renamed = tables.TABLE, """replace(old, '"title"', '"name"')"""
    if not records.is_sqlite:
        log, renamed = "amphibase.changes", "old - 'title'"
    await records.execute(
        text("DELETE FROM t_tasks"),
        text(f"UPDATE {log} SET old = {renamed} WHERE old IS NOT NULL"),
    )
    assert await events(ann, 1) == [Lost(ann.cursor)]
    await end_of(records, ann)


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("ADD COLUMN extra INTEGER", "DROP COLUMN extra"),
        ("ALTER COLUMN stars TYPE bigint", "ALTER COLUMN stars TYPE integer"),
    ],
)
async def test_a_stream_goes_on_when_its_table_is_altered(
    records: Records, ann: Changes[Task], change: str, back: str
) -> None:
    if records.is_sqlite and "TYPE" in change:
        pytest.skip("SQLite alters no types")
    tasks = records.of(Task, ANN)
    task = await tasks.add(Task(title="before"))
    await events(ann, 1)
    await tasks.update(task.id, title="at the change")
    await records.execute(text(f"ALTER TABLE t_tasks {change}"))
    try:
        assert described(await events(ann, 1)) == [("Changed", "at the change")]
        await tasks.update(task.id, title="after")
        assert described(await events(ann, 1)) == [("Changed", "after")]
    finally:
        await records.execute(text(f"ALTER TABLE t_tasks {back}"))
    await tasks.delete(task.id)
    assert described(await events(ann, 1)) == [("Removed", task.id)]


async def test_a_postgres_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    server = start(tmp_path / "postgres", fsync=False)
    try:
        url = server.create_database("app")
        opened = await open_records("predicate", url, tmp_path)
        async with opened.backend.changes(Task, ANN) as changes:
            await opened.of(Task, ANN).add(Task(title="before"))
            await events(changes, 1)
            server.stop()
            assert await changes.batch(1) == []
            server = start(tmp_path / "postgres", port=server.port, fsync=False)
            with psycopg.connect(url) as connection:
                connection.execute(
                    "INSERT INTO t_tasks (id, owner_id, title, stars) VALUES (%s, %s, 'after', 0)",
                    (uuid4(), ANN.user_id),
                )
            assert described(await events(changes, 1)) == [("Added", "after")]
        await opened.backend.close()
    finally:
        server.stop()


async def test_a_look_into_a_log_without_changes_takes_no_query(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not records.is_sqlite:
        pytest.skip("on Postgres it is one query, without a look at the log")
    log = log_of(records.sql.database)
    await records.of(Task, ANN).add(Task(title="tea"))
    end = await log.position()
    assert (await log.read(end)).is_empty
    with monkeypatch.context() as patched:
        patched.setattr(records.sql.database, "read", None)
        assert (await log.read(end)).is_empty
    await records.of(Task, ANN).add(Task(title="cake"))
    assert len((await log.read(end)).entries) == 1
