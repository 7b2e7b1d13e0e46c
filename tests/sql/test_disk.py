"""Blobs on a disk."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from amphibase.sql import disk
from amphibase.sql.blobs import key_of
from amphibase.sql.disk import DiskBlobs

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
