"""The log of changes in a project."""

import pytest
from tests.backends import ANN, Records
from tests.models import Task

from amphibase.supabase.change_log import ProjectLog
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
    log = ProjectLog(client, max_bytes)
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
