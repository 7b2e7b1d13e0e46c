"""The log of changes: nothing is missed, however transactions end up beside each other."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import (
    Column,
    Integer,
    String,
    Table,
    create_engine,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.backends import ANN, BOB, Records
from tests.conftest import open_records
from tests.contract.test_changes import SECONDS, described, end_of, events
from tests.models import Clip, Digest, Note, Seat, Task, Ticket

from amphibase import ANONYMOUS, SERVICE
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Added, Caller, Changes, Lost, Removed
from amphibase.build import build_backend
from amphibase.errors import Unavailable
from amphibase.postgres import start
from amphibase.records import change_stream, log_reader, snapshot_log
from amphibase.records.cursors import Cursors
from amphibase.records.log_reader import LogReader
from amphibase.schema import change_log as tables
from amphibase.sql import change_log
from amphibase.sql.change_log import log_of

CURSORS = Cursors(b"s" * 32)


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


async def test_streams_at_the_same_place_share_one_read(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(records.sql.database)
    reads = []
    read = log.read

    async def counted(after: Any) -> Any:
        reads.append(after)
        return await read(after)

    monkeypatch.setattr(log, "read", counted)
    reader = LogReader(log, CURSORS)
    start = await reader.position()
    await records.of(Task, ANN).add(Task(title="tea"))
    results = await asyncio.gather(*(reader.next(start, 5) for _ in range(50)))
    assert len(reads) == 1
    assert len({id(result) for result in results}) == 1
    await reader.close()


async def test_streams_that_were_opened_at_different_times_wait_together(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(records.sql.database)
    monkeypatch.setattr(log, "poll_seconds", 3600)
    read, reads, all_read_on = log.read, 0, asyncio.Event()
    starts = set()

    async def counted(after: Any, until: Any = None) -> Any:
        nonlocal reads
        result = await read(after, until)
        reads += 1
        if until is not None:
            starts.discard(after)
        if not starts:
            all_read_on.set()
        return result

    monkeypatch.setattr(log, "read", counted)
    for n in range(5):
        starts.add(await log.position())
        await records.of(Note, ANN).add(
            Note(title=str(n), stars=1)
        )  # a transaction that is not logged
    assert len(starts) == (1 if records.is_sqlite else 5)
    reader = LogReader(log, CURSORS)
    waiting = [asyncio.create_task(reader.next(start, None)) for start in [*starts]]
    async with asyncio.timeout(SECONDS):
        await all_read_on.wait()
        before = reads
        await records.of(Task, ANN).add(Task(title="tea"))
        assert not any(task.done() for task in waiting)
        reader.notice()
        results = await asyncio.gather(*waiting)
    assert len({id(result) for result in results}) == 1
    assert len(results[0].entries) == 1
    assert reads - before <= 2  # one may have begun before
    await reader.close()


async def test_a_stream_without_changes_moves_on_with_the_log(records: Records) -> None:
    if records.is_sqlite:
        pytest.skip("on SQLite the end is where it was while nothing is logged")
    reader = LogReader(log_of(records.sql.database), CURSORS)
    start = await reader.position()
    await records.of(Note, ANN).add(Note(title="none", stars=1))
    idle = await reader.next(start, 0.3)
    assert idle.is_empty
    assert idle.position != start
    await records.of(Task, ANN).add(Task(title="tea"))
    both = [await reader.next(position, 5) for position in (start, idle.position)]
    assert [len(each.entries) for each in both] == [1, 1]
    await reader.close()


async def test_streams_end_with_their_reader_and_with_an_error_of_the_log(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(records.sql.database)
    reader = LogReader(log, CURSORS)
    start = await reader.position()
    waiting = [asyncio.create_task(reader.next(start, SECONDS)) for _ in range(2)]
    assert (await reader.next(start, 0.1)).is_empty
    with monkeypatch.context() as patched:

        async def fail(*_: Any) -> Any:
            raise TimeoutError("of a driver")

        patched.setattr(log, "read", fail)
        reader.notice()
        for each in waiting:
            with pytest.raises(TimeoutError, match="of a driver"):
                await each
    again = asyncio.create_task(reader.next(start, SECONDS))
    assert (await reader.next(start, 0.1)).is_empty
    await reader.close()
    with pytest.raises(Unavailable):
        await again
    with pytest.raises(Unavailable):
        await reader.next(start, None)


@pytest.mark.parametrize("max_bytes", [1, 25_000])
async def test_a_read_has_no_more_bytes_than_a_page_and_misses_nothing(
    records: Records, max_bytes: int
) -> None:
    tasks = records.of(Task, ANN)
    added = await tasks.add_many([Task(title="x" * 10_000) for _ in range(5)])
    log = log_of(records.sql.database, max_bytes)
    position = await log.position()
    for task in added:
        await tasks.update(task.id, stars=1)
    sizes, keys = [], []
    while (read := await log.read(position)).entries:
        sizes.append(len(read.entries))
        keys += [entry.key for entry in read.entries]
        position = read.position
    assert sizes == ([1] * 5 if max_bytes == 1 else [2, 2, 1])
    assert len(set(keys)) == 5


@pytest.mark.parametrize("caller", [ANN, SERVICE])
async def test_a_batch_has_no_more_bytes_of_rows_than_a_page(
    records: Records, caller: Caller
) -> None:
    settings = records.settings.model_copy(update={"max_page_mb": 1})
    small = build_backend(settings, load_keys(settings))
    titles = [str(n) * 400_000 for n in range(5)]
    async with small.changes(Task, caller) as first, small.changes(Task, caller) as second:
        await records.of(Task, ANN).add_many([Task(title=title) for title in titles])
        for stream in (first, second):
            before = stream.cursor
            batches = [await stream.batch(5) for _ in range(3)]
            assert [len(batch) for batch in batches] == [2, 2, 1]
            assert [title for each in batches for _, title in described(each)] == titles
            assert {event.cursor for each in batches[:2] for event in each} == {before}
            assert batches[2][-1].cursor == stream.cursor != before
    await small.close()


@pytest.mark.parametrize(("characters", "kept"), [(100_000, True), (1_000, False)])
async def test_of_large_reads_the_newest_alone_is_kept(
    records: Records, monkeypatch: pytest.MonkeyPatch, characters: int, kept: bool
) -> None:
    monkeypatch.setattr(log_reader, "MAX_KEPT_CHARACTERS", characters)
    tasks = records.of(Task, ANN)
    added = await tasks.add_many([Task(title="x" * 2_000) for _ in range(2)])
    log = log_of(records.sql.database, 1)
    reader = LogReader(log, CURSORS)
    start = await reader.position()
    for task in added:
        await tasks.update(task.id, stars=1)
    first = await reader.next(start, 5)
    assert first is not None
    second = await reader.next(first.position, 5)
    assert await reader.next(first.position, 5) is second
    assert (await reader.next(start, 5) is first) == kept
    await reader.close()


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


async def test_functions_of_an_earlier_version_are_brought_up_to_date(
    records: Records, ann: Changes[Task]
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has no functions of the database's own")
    earlier = (
        "DROP FUNCTION amphibase.read_changes",
        "CREATE FUNCTION amphibase.read_changes(after_snapshot text) RETURNS text "
        "LANGUAGE sql AS $$ SELECT after_snapshot $$",
    )
    await records.execute(*map(text, earlier))
    engine = create_async_engine(records.owner_url or records.settings.database)
    async with engine.begin() as connection:
        missing = await connection.run_sync(tables.missing, Task.metadata)
        assert [each.subject for each in missing] == ["function amphibase.read_changes"]
        await connection.run_sync(tables.create_missing, Task.metadata)
        assert await connection.run_sync(tables.missing, Task.metadata) == []
    await engine.dispose()
    await end_of(records, ann)


@pytest.mark.parametrize("gone", ["trigger", "column"])
async def test_triggers_are_brought_up_to_date(records: Records, gone: str) -> None:
    if not records.is_sqlite:
        pytest.skip("on Postgres they name no columns")
    name = f"{tables.TRIGGER}_delete_t_tasks"

    async with records.sql.database.write() as connection:
        if gone == "trigger":
            await connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            await connection.execute(text("ALTER TABLE t_tasks RENAME COLUMN stars TO points"))
            await connection.execute(text("ALTER TABLE t_tasks RENAME COLUMN points TO stars"))
            await connection.execute(text(f"DROP TRIGGER {name}"))
            await connection.execute(
                text(f"CREATE TRIGGER {name} AFTER DELETE ON t_tasks BEGIN SELECT 1; END")
            )
        metadata = Task.metadata
        missing = await connection.run_sync(tables.missing, metadata)
        assert [trigger.name for trigger in missing] == [name]
        await connection.run_sync(tables.create_missing, metadata)
        assert await connection.run_sync(tables.missing, metadata) == []


async def test_a_trigger_that_went_with_a_renamed_table_is_missing(records: Records) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite renames the table in its triggers, too")
    async with records.sql.database.write() as connection:
        await connection.execute(text("ALTER TABLE t_tickets RENAME TO t_tickets_before"))
        await connection.execute(text("CREATE TABLE t_tickets (LIKE t_tickets_before)"))
        missing = await connection.run_sync(tables.missing, Ticket.metadata)
        assert {trigger.table for trigger in missing} == {"t_tickets"}
        await connection.rollback()


async def test_what_was_changed_without_triggers_is_a_loss(
    records: Records, ann: Changes[Task]
) -> None:
    drop = f"DROP TRIGGER {tables.TRIGGER}_insert_t_tasks"
    if not records.is_sqlite:
        drop = f"DROP TRIGGER {tables.TRIGGER} ON t_tasks"
    await records.execute(text(drop))
    await records.of(Task, ANN).add(Task(title="unlogged"))
    async with records.sql.database.write() as connection:
        await connection.run_sync(tables.create_missing, Task.metadata)
    assert await events(ann, 1) == [Lost(ann.cursor)]
    await end_of(records, ann)


def test_a_table_may_have_more_columns_than_a_function_of_sqlite_has_arguments() -> None:
    class Other(DeclarativeBase):
        pass

    columns = [Column(f"c{number}", String) for number in range(130)]
    table = Table("broad", Other.metadata, Column("id", Integer, primary_key=True), *columns)
    type("Broad", (Other,), {"__table__": table, "__changes__": True})
    values = dict.fromkeys([each.name for each in columns], '{"}')
    with create_engine("sqlite://").begin() as connection:
        Other.metadata.create_all(connection)
        tables.create_missing(connection, Other.metadata)
        connection.execute(insert(table).values(id=1, **values))
        connection.execute(update(table).values(c0=None))
        connection.execute(delete(table))
        found = connection.execute(text(f"SELECT old FROM {tables.TABLE} WHERE old IS NOT NULL"))
        updated, deleted = (json.loads(old) for (old,) in found)
    assert updated == {"id": 1, **values}
    assert deleted == {"id": 1, **values, "c0": None}
    Other.registry.dispose()


def test_a_table_may_have_quotes_in_its_name() -> None:
    class Other(DeclarativeBase):
        pass

    class Quoted(Other):
        __tablename__ = "a \"table's"
        __changes__ = True

        id: Mapped[int] = mapped_column('the "key', primary_key=True)

    with create_engine("sqlite://").begin() as connection:
        Other.metadata.create_all(connection)
        tables.create_missing(connection, Other.metadata)
        assert tables.missing(connection, Other.metadata) == []
        connection.execute(insert(Quoted).values(id=1))
        written = f"SELECT table_name, \"key\" FROM {tables.TABLE} WHERE operation = 'INSERT'"
        logged = connection.execute(text(written))
        assert [tuple(row) for row in logged] == [("a \"table's", "[1]")]
    Other.registry.dispose()


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
