"""Files of the SQL backend whose bytes are lost or late."""

import asyncio
import threading
from pathlib import Path
from uuid import UUID

import pytest
from tests.contract.files import ANN, misfits, paths, put, read

from amphibase import SERVICE, Unavailable
from amphibase.blobs import disk
from amphibase.blobs.disk import DiskBlobs
from amphibase.sql.backend import SqlBackend


async def test_shows_nothing_when_it_is_cancelled_at_its_end(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        ending.set()
        go_on.wait(60)

    await put(backend, "first")
    monkeypatch.setattr(disk, "_sync", slow)
    upload = asyncio.create_task(put(backend))
    await asyncio.to_thread(ending.wait, 60)
    upload.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await misfits(backend) == []


async def test_says_so_when_the_bytes_are_lost(backend: SqlBackend) -> None:
    await put(backend)
    async for blob in backend.files.blobs.all():
        await backend.files.blobs.delete(blob.key)
    with pytest.raises(Unavailable):
        await backend.files.open(ANN, "uploads", "a.txt")


async def test_what_is_replaced_while_it_is_copied_is_copied_as_it_is_then(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(backend)
    copy = DiskBlobs.copy

    async def late(self: DiskBlobs, *versions: UUID) -> None:
        monkeypatch.setattr(DiskBlobs, "copy", copy)
        await put(backend, content=b"newer")
        await copy(self, *versions)

    monkeypatch.setattr(DiskBlobs, "copy", late)
    copied = await backend.files.copy(ANN, "uploads", "a.txt", "b.txt")
    assert copied.size == 5
    assert await read(backend, path="b.txt") == b"newer"
    assert await misfits(backend) == []


@pytest.mark.parametrize("version", [None, "no id"])
async def test_a_row_that_names_no_bytes_can_be_deleted(
    backend: SqlBackend, version: str | None
) -> None:
    await put(backend)
    row = await backend.files._find("uploads", "a.txt")
    assert row is not None
    async with backend.database.write() as connection:
        await backend.files.rows.change(connection, row.id, version=version, owner_id="no id")
    assert await paths(backend, SERVICE, "uploads") == ["a.txt"]
    with pytest.raises(Unavailable):
        await backend.files.open(SERVICE, "uploads", "a.txt")
    assert await backend.files.delete(SERVICE, "uploads", "a.txt")
    assert await paths(backend, SERVICE, "uploads") == []
