"""The log of changes in a project."""

import pytest
from tests.backends import ANN, Records
from tests.models import Task

from amphibase.supabase import change_log
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject


@pytest.mark.parametrize(("max_bytes", "sizes"), [(1, [1, 1, 1]), (25_000, [2, 1])])
async def test_a_read_has_no_more_bytes_than_a_page_and_misses_nothing(
    shared_records: Records, max_bytes: int, sizes: list[int]
) -> None:
    await shared_records.clear()
    tasks = shared_records.of(Task, ANN)
    added = await tasks.add_many([Task(title="x" * 10_000) for _ in range(3)])
    client = SupabaseClient(SupabaseProject.of(shared_records.settings))
    log = change_log.ProjectLog(client, max_bytes)
    position = await log.position()
    for task in added:
        await tasks.update(task.id, stars=1)
    keys = []
    for size in sizes:
        read = await log.read(position)
        assert len(read.entries) == size
        keys += [entry.key for entry in read.entries]
        position = read.position
    assert (await log.read(position)).is_empty
    assert keys == [(str(task.id),) for task in added]
    await client.close()


async def test_it_is_trimmed_a_part_at_a_time_and_then_has_lost_entries(
    shared_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "TRIM_ENTRIES", 2)
    client = SupabaseClient(SupabaseProject.of(shared_records.settings))
    log = change_log.ProjectLog(client, 1_000)
    while await log.trim(0):
        pass
    position = await log.position()
    await shared_records.of(Task, ANN).add_many([Task(title=str(n)) for n in range(3)])
    assert [await log.trim(hours) for hours in (1, 0, 0, 0)] == [0, 2, 1, 0]
    read = await log.read(position)
    assert read.lost
    assert (await log.read(read.position)).is_empty
    await client.close()
