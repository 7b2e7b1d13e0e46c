"""Blobs on a local disk: a temporary name, fsync, rename, fsync of the folder."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import UUID

from amphibase.background import uninterrupted
from amphibase.blobs.base import CHUNK_BYTES, Blob, BlobMissing, key_of, version_of
from amphibase.blobs.disk_errors import disk_errors
from amphibase.errors import Unavailable

P = ParamSpec("P")
Result = TypeVar("Result")

UNFINISHED = ".unfinished"


class DiskBlobs:
    """Blobs in a folder, readable by its owner alone.

    Args:
        root: the folder; created where it is missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / UNFINISHED
        self._durable: set[Path] = set()

    async def write(self, version: UUID, content: AsyncIterable[bytes]) -> int:
        temporary = self._unfinished / str(version)
        with disk_errors():
            # Not in a thread: cancelled there, it would leave an open file behind.
            descriptor = self._begin(temporary)
            try:
                size = await self._fill(descriptor, content)
                await _in_thread(self._finish, descriptor, temporary, version)
            except BaseException:
                # Cancelled while it ends, it has its own name already.
                for path in (temporary, self._path(version)):
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                raise
            finally:
                os.close(descriptor)
        return size

    async def read(self, version: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        with disk_errors():
            return await asyncio.to_thread(_Reading, self._path(version), start, stop)

    async def copy(self, version: UUID, to: UUID) -> None:
        with disk_errors():
            try:
                await _in_thread(self._copy, version, to)
            except asyncio.CancelledError:  # it ended all the same
                self._path(to).unlink(missing_ok=True)
                raise

    async def delete(self, key: str) -> None:
        with disk_errors(), contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread((self._root / key).unlink)

    async def exists(self, version: UUID) -> bool:
        with disk_errors():
            return await asyncio.to_thread(self._path(version).exists)

    async def all(self) -> AsyncIterator[Blob]:
        for folder in await asyncio.to_thread(_folders, self._root):
            for blob in await asyncio.to_thread(self._blobs, folder):
                yield blob

    async def check(self) -> None:
        with disk_errors():
            await asyncio.to_thread(self._make, self._unfinished)

    def _path(self, version: UUID) -> Path:
        return self._root / key_of(version)

    def _begin(self, temporary: Path) -> int:
        self._make(self._unfinished)
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    async def _fill(self, descriptor: int, content: AsyncIterable[bytes]) -> int:
        size = 0
        waiting = bytearray()
        async for chunk in content:
            waiting += chunk
            if len(waiting) >= CHUNK_BYTES:
                await _in_thread(_write, descriptor, waiting)
                size += len(waiting)
                waiting = bytearray()
        await _in_thread(_write, descriptor, waiting)
        return size + len(waiting)

    def _finish(self, descriptor: int, temporary: Path, version: UUID) -> None:
        os.fsync(descriptor)
        path = self._path(version)
        self._make(path.parent)
        temporary.replace(path)
        _sync(path.parent)

    def _copy(self, version: UUID, to: UUID) -> None:
        temporary = self._unfinished / str(to)
        try:
            with (
                self._path(version).open("rb") as source,
                os.fdopen(self._begin(temporary), "wb") as target,
            ):
                shutil.copyfileobj(source, target, CHUNK_BYTES)
                target.flush()
                self._finish(target.fileno(), temporary, to)
        except FileNotFoundError:
            raise BlobMissing from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, so that a crash loses none of them and with it what
        is in it. One that another process has created may not be on the disk yet."""
        if folder in self._durable and folder.exists():
            return
        if folder != self._root.parent:
            self._make(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder.parent)
        self._durable.add(folder)

    def _blobs(self, folder: Path) -> list[Blob]:
        blobs = []
        with os.scandir(folder) as entries:
            for entry in entries:
                key = f"{folder.name}/{entry.name}"
                version = version_of(key)
                if version is None and folder != self._unfinished:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
                    blobs.append(Blob(key, version, status.st_size, modified_at))
        return blobs


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.exists() else []


def _write(descriptor: int, data: bytearray) -> None:
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(descriptor, view[written:])


class _Reading:
    """A part of an open file, chunk by chunk. What is open stays readable when it is deleted."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise BlobMissing from None
        self._next = start
        self._stop = stop

    def __aiter__(self) -> "_Reading":
        return self

    async def __anext__(self) -> bytes:
        if self._descriptor is None or self._next >= self._stop:
            self._close()
            raise StopAsyncIteration
        length = min(CHUNK_BYTES, self._stop - self._next)
        with disk_errors():
            chunk = await _in_thread(os.pread, self._descriptor, length, self._next)
        if not chunk:
            raise Unavailable("The bytes of this file are cut short")
        self._next += len(chunk)
        return chunk

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    __del__ = _close


async def _in_thread(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Run the work in a thread. When cancelled, it ends before anything is closed: it may be
    writing to a descriptor whose number would be another file's by then."""
    return await uninterrupted(asyncio.to_thread(work, *args, **kwargs))
