"""How many streams read one log: together, once, and in parts that fit into memory."""

import asyncio
from typing import Any

import pytest
from tests.backends import ANN, Records
from tests.contract.test_changes import SECONDS, described
from tests.models import Note, Task

from amphibase import SERVICE
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Caller
from amphibase.build import build_backend
from amphibase.errors import Unavailable
from amphibase.records import log_reader
from amphibase.records.cursors import Cursors
from amphibase.records.log_reader import LogReader
from amphibase.sql.change_log import log_of

CURSORS = Cursors(b"s" * 32)


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
    results = await asyncio.gather(*(reader.next(start, SECONDS) for _ in range(50)))
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
    async with asyncio.timeout(SECONDS):
        while idle.position == start:  # a read takes its time
            idle = await reader.next(start, 0.3)
    assert idle.is_empty
    await records.of(Task, ANN).add(Task(title="tea"))
    both = [await reader.next(position, SECONDS) for position in (start, idle.position)]
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
            batches = [await stream.batch(SECONDS) for _ in range(3)]
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
    first = await reader.next(start, SECONDS)
    assert first is not None
    second = await reader.next(first.position, SECONDS)
    assert await reader.next(first.position, SECONDS) is second
    assert (await reader.next(start, SECONDS) is first) == kept
    await reader.close()
