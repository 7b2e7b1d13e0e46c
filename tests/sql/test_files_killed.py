"""Uploads that are killed: after a sweep nothing is half there."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.conftest import SECRET

from amphibase import SERVICE, Caller, Settings
from amphibase.sql.backend import SqlBackend
from amphibase.sql.sweep import Finding, Sweep

UPLOADERS = """
import asyncio, hashlib, os, random, signal, time
from uuid import UUID
from amphibase import Caller, load_settings
from amphibase.sql.backend import SqlBackend
from amphibase.tokens import load_keys

ANN = Caller("authenticated", UUID(int=1))
settings = load_settings()
keys = load_keys(settings)

async def content():
    chunks = [os.urandom(random.randrange(1, 400_000)) for _ in range(random.randrange(1, 8))]
    digest = hashlib.sha256(b"".join(chunks)).digest()
    for chunk in [digest, *chunks]:
        yield chunk

async def upload():
    files = SqlBackend(settings, keys).files
    while True:
        path = f"{random.randrange(6)}.bin"
        try:
            if random.random() < 0.2:
                await files.delete(ANN, "uploads", path)
            else:
                await files.put(ANN, "uploads", path, content(), content_type="x/y")
        except Exception:
            pass  # others change the same path

for _ in range(10):
    running = []
    for _ in range(3):
        running.append(os.fork())
        if running[-1] == 0:
            random.seed(os.getpid())
            asyncio.run(upload())
    time.sleep(0.2)
    for pid in running:
        time.sleep(random.uniform(0, 0.2))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""
"""Three at a time upload over one another and are killed, thirty in all; forked, since starting
Python thirty times takes longer than all else."""


async def ten() -> AsyncIterator[bytes]:
    yield b"0123456789"


async def sweep(backend: SqlBackend, **options: bool) -> Sequence[Finding]:
    swept = Sweep(backend.database, backend.files, grace=timedelta(0), **options)
    return [finding async for finding in swept.findings()]


@pytest.fixture
def environment(prepared_url: str, tmp_path: Path) -> dict[str, str]:
    """What the uploaders run with: the same database and files as the test."""
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": prepared_url,
        "DATA_DIR": str(tmp_path / "data"),
        "SECRET_KEY": SECRET,
        "POOL_SIZE": "2",
    }


async def test_nothing_is_half_there_after_thirty_kills(
    environment: dict[str, str], backend: SqlBackend, tmp_path: Path
) -> None:
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UPLOADERS, env=environment, cwd=tmp_path
    )
    assert await killed.wait() == 0
    findings = await sweep(backend, delete_orphans=True)
    assert {finding.kind for finding in findings} <= {"orphan"}
    assert await sweep(backend) == []
    files = (await backend.files.list(SERVICE, "uploads")).items
    assert files
    for file in files:
        opened = await backend.files.open(SERVICE, "uploads", file.path)
        content = b"".join([chunk async for chunk in opened.chunks])
        assert content[:32] == hashlib.sha256(content[32:]).digest()
        assert len(content) == file.size
    assert len([blob async for blob in backend.files.blobs.all()]) == len(files)


async def test_the_sweep_tells_and_deletes_what_it_is_told(backend: SqlBackend) -> None:
    ann = Caller("authenticated", UUID(int=1))
    for path in ("kept", "lost"):
        await backend.files.put(ann, "uploads", path, ten(), content_type="x/y")
    lost = await backend.files.open(ann, "uploads", "lost")
    orphan = UUID(int=7)
    await backend.files.blobs.write(orphan, ten())
    keys = {blob.version: blob.key async for blob in backend.files.blobs.all()}
    await backend.files.blobs.delete(keys[UUID(lost.file.etag)])

    told = await sweep(backend)
    assert told == [
        Finding("orphan", keys[orphan], 10),
        Finding("lost", "uploads/lost", 10),
    ]
    assert await sweep(backend, delete_orphans=True) == told
    assert await sweep(backend, delete_lost=True) == told[1:]
    assert await sweep(backend) == []
    assert [file.path for file in (await backend.files.list(ann, "uploads")).items] == ["kept"]


async def test_the_sweep_leaves_what_others_keep_in_the_folder(
    backend: SqlBackend, settings: Settings
) -> None:
    theirs = settings.data_dir / "files" / "photos" / "holiday.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"x")
    assert await sweep(backend, delete_orphans=True) == []
    assert theirs.exists()


async def test_the_sweep_leaves_young_bytes_alone(backend: SqlBackend) -> None:
    await backend.files.blobs.write(UUID(int=7), ten())
    swept = Sweep(backend.database, backend.files, delete_orphans=True)
    assert [finding async for finding in swept.findings()] == []
    assert await backend.files.blobs.exists(UUID(int=7))
