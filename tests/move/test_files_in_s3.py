"""Files whose bytes are in an S3-compatible store, on either side."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.move.accounts import project_end, sql_end
from tests.move.files import FILES, STRANGE, ProjectStore, SqlStore, TestFile, moved, moving
from tests.object_store import files_url, object_store

from amphibase.blobs.build import build_blobs
from amphibase.move.endpoints import Role
from amphibase.testing.supabase import LocalSupabase

HELD = {**FILES, STRANGE: TestFile(b"strange")}


class S3Store(SqlStore):
    """A SQLite database whose files are in an S3-compatible store."""

    def __init__(self, database: Path, files: str) -> None:
        super().__init__(f"sqlite:///{database}", database.parent / "unused")
        self.files = files

    async def versions(self) -> list[str]:
        """Return the keys of all bytes that are stored."""
        return [blob.key async for blob in build_blobs(self.files).all()]

    async def overwrite(self, content: bytes, other: bytes) -> None:
        """Let the store have other bytes in the place of some."""
        blobs = build_blobs(self.files)

        async def chunks() -> AsyncIterator[bytes]:
            yield other

        async for blob in blobs.all():
            assert blob.version is not None
            stored = [part async for part in await blobs.read(blob.version, 0, blob.size)]
            if b"".join(stored) == content:
                await blobs.write(blob.version, chunks())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with object_store() as server:
        yield server


async def test_files_in_s3_go_to_a_project_and_back_and_what_is_spoilt_there_is_named(
    address: str, supabase: LocalSupabase, prepared_sqlite: Path, tmp_path: Path
) -> None:
    stores = []
    for name in ("here", "back"):
        shutil.copy(prepared_sqlite, tmp_path / f"{name}.db")
        stores.append(S3Store(tmp_path / f"{name}.db", files_url(address, name)))
        (tmp_path / name).mkdir()
    here, back = stores
    await here.add(HELD)
    project = project_end(Role.TARGET, supabase, has_database=True)
    source = sql_end(Role.SOURCE, here.url, here.files)
    assert (await moved(source, project, tmp_path / "here")).differences == []
    assert len(await ProjectStore(supabase).read()) == len(HELD)

    project = project_end(Role.SOURCE, supabase, has_database=True)
    target = sql_end(Role.TARGET, back.url, back.files)
    assert (await moved(project, target, tmp_path / "back")).differences == []
    assert await back.read() == HELD

    await back.overwrite(b"hello", b"hullo")
    async with moving(project, target, tmp_path / "back") as stage:
        (difference,) = (await stage.verify()).differences
        assert (difference.key, difference.message) == ("ann/hello.txt", "differs: bytes")
        assert await stage.reconcile() == 1
        assert (await stage.verify()).differences == []
    assert await back.read() == HELD
    async with moving(project, target, tmp_path / "back") as stage:
        assert [kept async for kept in stage.undo()] == []
    assert await back.versions() == []
