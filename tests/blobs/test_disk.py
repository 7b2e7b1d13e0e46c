"""Blobs on a disk."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from amphibase.blobs import disk
from amphibase.blobs.base import key_of
from amphibase.blobs.disk import DiskBlobs

VERSION = UUID(int=0xAB)


async def ten() -> AsyncIterator[bytes]:
    yield b"0123456789"


async def test_every_new_folder_is_durable_before_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(disk, "_sync", synced.append)
    root = tmp_path / "data" / "files"
    await DiskBlobs(root).write(VERSION, ten())
    blob = root / key_of(VERSION)
    assert {blob.parent, root, tmp_path / "data", tmp_path} <= set(synced)
    assert synced[-1] == blob.parent
    synced.clear()
    await DiskBlobs(root).write(UUID(int=0x1AB), ten())  # another process may not have synced them
    assert root in synced


async def test_nobody_else_on_the_machine_reads_the_bytes(tmp_path: Path) -> None:
    root = tmp_path / "files"
    await DiskBlobs(root).write(VERSION, ten())
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0


async def test_a_copy_that_is_cancelled_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = DiskBlobs(tmp_path)
    await blobs.write(VERSION, ten())
    begun, going_on = threading.Event(), threading.Event()
    copy = shutil.copyfileobj

    def held(*arguments: Any) -> None:
        begun.set()
        going_on.wait()
        copy(*arguments)

    monkeypatch.setattr(shutil, "copyfileobj", held)
    copying = asyncio.create_task(blobs.copy(VERSION, UUID(int=0x1AB)))
    await asyncio.to_thread(begun.wait)
    copying.cancel()
    going_on.set()
    await asyncio.wait([copying])
    assert copying.cancelled()
    assert [blob.version async for blob in blobs.all()] == [VERSION]
