"""Uploads that survive a lost connection: what has come is stored in a folder until all of it is
there, and is then stored as a file.

An upload is two files: what is to become of it, and the bytes that have come. How many have come is
the length of the second, and when the last of them came is its age, so that nothing has to
stay in step, whatever is killed. Processes that share the folder share the uploads.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from uuid import uuid4

from amphibase.background import uninterrupted
from amphibase.blobs.disk_errors import disk_errors
from amphibase.column_defaults import utc_now
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Retryable,
    TooManyRequests,
    UploadBusy,
)

LIFETIME = timedelta(hours=24)
"""How long an upload is stored after its last bytes."""

BUSY_SECONDS = 3
"""How long a request waits for another one of the same upload. A sender comes back sooner than the
request whose connection it lost has ended, and would learn a number of bytes that still grows."""

CHUNK_BYTES = 1024 * 1024
CREATION_LOCK = "creation.lock"

_ID = re.compile(r"[0-9a-f]{32}")


class OffsetConflict(Conflict):
    """Raised where the sender of bytes believes that another number of them has come."""


class InvalidSize(InvalidRequest):
    """Raised where the sender declares a size that cannot be that of the upload."""


Sender = TypeVar("Sender", contravariant=True)


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """What is to become of an upload.

    Args:
        size: of the whole file, in bytes; None until the sender knows it.
        metadata: as the sender wrote it.
        overwrite: whether it may replace a file.
        owner: who created it; others do not see it.
        done: whether the file is stored.
    """

    bucket: str
    path: str
    size: int | None
    content_type: str | None
    metadata: str
    overwrite: bool = True
    owner: str = ""
    done: bool = False


class UploadDestination(Protocol[Sender]):
    """Where complete uploads are stored, and who sends them."""

    def name_of(self, sender: Sender) -> str:
        """Return what distinguishes this sender from others."""

    async def admit(self, sender: Sender, info: UploadInfo) -> None:
        """Check that this may be sent, before it is sent. Raises AmphibaseError if not."""

    async def store(self, sender: Sender, info: UploadInfo, content: AsyncIterable[bytes]) -> None:
        """Store the whole file. Raises AmphibaseError: after one that is Retryable it is tried
        again, any other rejects it for good."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way.

    Args:
        received: how many bytes have come.
        expires_at: when it is deleted, unless more bytes come.
    """

    id: str
    info: UploadInfo
    received: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How many uploads may be unfinished, each of which takes up to the size of a file.

    Args:
        per_sender: at most, of one sender.
        total: at most, of all senders.
        max_bytes: the most bytes of an upload whose size is not known yet.
        lifetime: how long an upload is stored after its last bytes.
    """

    per_sender: int
    total: int
    max_bytes: int
    lifetime: timedelta = LIFETIME


class ResumableUploads(Generic[Sender]):
    """Uploads under way.

    Args:
        folder: where they are stored; created where it is missing.
        limits: on how many there may be, and for how long.
    """

    def __init__(
        self, folder: Path, destination: UploadDestination[Sender], limits: UploadLimits
    ) -> None:
        self._folder = folder
        self._destination = destination
        self._limits = limits

    async def create(self, sender: Sender, info: UploadInfo) -> Upload:
        """Create an upload.

        Raises:
            TooManyRequests: the sender has too many unfinished uploads, or all have.
            StorageFull, Unavailable, and what `UploadDestination.admit` raises.
        """
        await self._destination.admit(sender, info)
        id = uuid4().hex
        info = replace(info, owner=self._destination.name_of(sender))
        with disk_errors():
            await asyncio.to_thread(self._make, id, info)
        return Upload(id, info, 0, utc_now() + self._limits.lifetime)

    async def find(self, sender: Sender, id: str) -> Upload:
        """Find an upload of the sender's.

        Raises:
            NotFound: no such upload of the sender's, or it has expired.
        """
        upload = self._read(id) if _ID.fullmatch(id) else None
        if (
            upload is None
            or upload.info.owner != self._destination.name_of(sender)
            or upload.expires_at <= utc_now()
        ):
            raise NotFound("There is no such upload")
        return upload

    async def resume(self, sender: Sender, id: str) -> Upload:
        """Find an upload that its sender wants to go on with: once the request under way has ended,
        so that no more bytes come, or after `BUSY_SECONDS`. One of which all came and that could
        not be stored is stored now.

        Raises:
            NotFound: as `find`.
            UploadBusy: another request is storing it.
            AmphibaseError: as `append`.
        """
        upload = await self.find(sender, id)
        if upload.info.done:
            return upload
        try:
            async with self._locked(id):
                upload = await self.find(sender, id)
                return await self._finish(sender, upload) if _is_whole(upload) else upload
        except UploadBusy:
            upload = await self.find(sender, id)
            if _is_whole(upload):
                raise
            return upload

    async def append(
        self,
        sender: Sender,
        id: str,
        offset: int,
        content: AsyncIterable[bytes],
        *,
        size: int | None = None,
    ) -> Upload:
        """Append bytes; what has come when the connection is lost stays stored.

        Args:
            offset: how many bytes have come, as the sender believes.
            size: of the whole file, where it was not known before.

        Raises:
            NotFound: as `find`.
            UploadBusy: another request goes on sending for `BUSY_SECONDS`.
            OffsetConflict: another number of bytes has come.
            InvalidSize: the size was known before, or more bytes than that have come.
            PayloadTooLarge: more bytes come than were announced.
            AmphibaseError: the whole file is rejected; the upload is deleted.
            StorageFull, Unavailable: what has come stays stored.
        """
        await self.find(sender, id)
        async with self._locked(id):
            upload = await self.find(sender, id)
            if upload.info.done:
                raise Conflict("The upload is complete")
            if offset != upload.received:
                raise OffsetConflict(f"{upload.received} bytes have come, not {offset}")
            info = upload.info
            if size is not None:
                info = await self._declare_size(sender, upload, size)
            limit = self._limits.max_bytes if info.size is None else info.size
            with disk_errors():
                file = self._bytes_path(id).open("ab", buffering=0)
            try:
                await _append(file, content, limit - offset)
            finally:
                with disk_errors():
                    await uninterrupted(asyncio.to_thread(_sync, file))
            upload = await self.find(sender, id)
            return await self._finish(sender, upload) if _is_whole(upload) else upload

    async def _declare_size(self, sender: Sender, upload: Upload, size: int) -> UploadInfo:
        if upload.info.size == size:
            return upload.info
        if upload.info.size is not None:
            raise InvalidSize(f"The upload was declared to have {upload.info.size} bytes")
        if size < upload.received:
            raise InvalidSize(f"{upload.received} bytes have come, which is more than {size}")
        info = replace(upload.info, size=size)
        await self._destination.admit(sender, info)
        with disk_errors():
            await asyncio.to_thread(self._write_info, upload.id, info)
        return info

    async def terminate(self, sender: Sender, id: str) -> None:
        """Delete what has come. Raises NotFound, UploadBusy."""
        await self.find(sender, id)
        async with self._locked(id):
            self._remove(id)

    def expire(self) -> int:
        """Delete the uploads that have expired, and what a crash has left; return how many."""
        touched: dict[str, float] = {}
        for path in self._folder.glob("*"):
            id = path.name.partition(".")[0]
            with contextlib.suppress(FileNotFoundError):
                if _ID.fullmatch(id):
                    touched[id] = max(touched.get(id, 0), path.stat().st_mtime)
        oldest = (utc_now() - self._limits.lifetime).timestamp()
        expired = [id for id, time in touched.items() if time <= oldest]
        for id in expired:
            for path in self._folder.glob(f"{id}.*"):
                path.unlink(missing_ok=True)
        return len(expired)

    async def _finish(self, sender: Sender, upload: Upload) -> Upload:
        info = upload.info
        try:
            await self._destination.store(sender, info, _chunks(self._bytes_path(upload.id)))
        except Retryable:
            raise
        except AmphibaseError:
            self._remove(upload.id)
            raise
        done = replace(info, done=True)
        with disk_errors():
            await asyncio.to_thread(self._write_info, upload.id, done)
            self._bytes_path(upload.id).unlink(missing_ok=True)
        return replace(upload, info=done)

    def _read(self, id: str) -> Upload | None:
        """Return an upload of anybody's; None where it is missing."""
        for _ in range(2):  # it may be stored meanwhile, and its bytes be deleted
            try:
                info = UploadInfo(**json.loads(self._info_path(id).read_bytes()))
                status = (self._info_path(id) if info.done else self._bytes_path(id)).stat()
            except FileNotFoundError:
                continue
            except ValueError:  # a crash cut it
                return None
            received = info.size if info.done and info.size is not None else status.st_size
            expires_at = datetime.fromtimestamp(status.st_mtime, UTC) + self._limits.lifetime
            return Upload(id, info, received, expires_at)
        return None

    def _make(self, id: str, info: UploadInfo) -> None:
        from filelock import FileLock

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self._folder / CREATION_LOCK, mode=0o600):
            self.expire()
            self._check_limits(info.owner)
            self._bytes_path(id).touch(mode=0o600, exist_ok=False)
            self._write_info(id, info)

    def _check_limits(self, owner: str) -> None:
        """Raises TooManyRequests."""
        unfinished = [path.stem for path in self._folder.glob("*.bytes")]
        if len(unfinished) >= self._limits.total:
            raise TooManyRequests("Too many uploads are unfinished; try again later")
        uploads = [upload for id in unfinished if (upload := self._read(id)) is not None]
        own = sum(upload.info.owner == owner and not upload.info.done for upload in uploads)
        if own >= self._limits.per_sender:
            raise TooManyRequests(
                f"You have {own} unfinished uploads: complete or terminate one of them"
            )

    def _write_info(self, id: str, info: UploadInfo) -> None:
        """Write what is to become of the upload, so that it is there as a whole or not at all."""
        temporary = self._folder / f"{id}.new"
        with temporary.open("w") as file:
            json.dump(asdict(info), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._info_path(id))

    def _remove(self, id: str) -> None:
        self._info_path(id).unlink(missing_ok=True)
        self._bytes_path(id).unlink(missing_ok=True)

    def _info_path(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    def _bytes_path(self, id: str) -> Path:
        return self._folder / f"{id}.bytes"

    @asynccontextmanager
    async def _locked(self, id: str) -> AsyncIterator[None]:
        """Serve one request at a time, of all processes. Raises UploadBusy."""
        from filelock import AsyncFileLock, Timeout

        lock = AsyncFileLock(
            self._folder / f"{id}.lock",
            timeout=BUSY_SECONDS,
            mode=0o600,
            thread_local=False,
            run_in_executor=False,
        )
        try:
            await lock.acquire()
        except Timeout:
            raise UploadBusy from None
        try:
            yield
        finally:
            await lock.release()


def _is_whole(upload: Upload) -> bool:
    """Whether all bytes have come, and the file is not stored yet."""
    return upload.received == upload.info.size and not upload.info.done


async def _append(file: FileIO, content: AsyncIterable[bytes], room: int) -> None:
    async for chunk in content:
        room -= len(chunk)
        if room < 0:
            raise PayloadTooLarge("More bytes came than were announced")
        with disk_errors():
            await uninterrupted(asyncio.to_thread(_write, file, chunk))


def _write(file: FileIO, chunk: bytes) -> None:
    with memoryview(chunk) as view:
        written = 0
        while written < len(view):
            written += file.write(view[written:])


def _sync(file: FileIO) -> None:
    with file:
        os.fsync(file.fileno())


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
