"""Uploads that survive a cut connection: what has come is kept in a folder until all of it is
there, and is then put where it belongs.

An upload is two files: what is to become of it, and the bytes that have come. How many have come is
the length of the second, and when somebody last went on is its age, so that nothing has to be kept
in step, whatever is killed. Processes that share the folder share the uploads.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout

from amphibase.background import uninterrupted
from amphibase.blobs.disk_errors import disk_errors
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    IncompleteUpload,
    NotFound,
    PayloadTooLarge,
    Retryable,
    UploadBusy,
)
from amphibase.models import utc_now

LIFETIME = timedelta(hours=24)
"""How long an upload that nobody goes on with is kept."""

SILENCE = timedelta(minutes=1)
"""How long a sender may be silent. A connection that is lost without a word would hold its upload
for good, and its sender could not go on with another."""

CHUNK_BYTES = 1024 * 1024

_ID = re.compile(r"[0-9a-f]{32}")


Sender = TypeVar("Sender", contravariant=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of an upload.

    Args:
        size: of the whole file, in bytes.
        metadata: as the sender wrote it.
        overwrite: whether it may replace a file.
        owner: who began it; nobody else may see it.
        done: whether the file is where it belongs.
    """

    bucket: str
    path: str
    size: int
    content_type: str | None
    metadata: str
    overwrite: bool = True
    owner: str = ""
    done: bool = False


class Destination(Protocol[Sender]):
    """Where uploads go when all of them is there, and who sends them."""

    def name_of(self, sender: Sender) -> str:
        """What tells this sender from others."""

    async def admit(self, sender: Sender, plan: Plan) -> None:
        """Whether this may be sent, before it is sent. Raises AmphibaseError if not."""

    async def take(self, sender: Sender, plan: Plan, content: AsyncIterable[bytes]) -> None:
        """Put the whole file where it belongs. Raises AmphibaseError: one that is Retryable may
        pass, any other refuses it for good."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that may go on.

    Args:
        received: how many bytes have come.
        expires_at: when that is thrown away, unless somebody goes on.
    """

    id: str
    plan: Plan
    received: int
    expires_at: datetime


class ResumableUploads(Generic[Sender]):
    """Uploads under way.

    Args:
        folder: where they are kept; made where it is missing.
    """

    def __init__(self, folder: Path, destination: Destination[Sender]) -> None:
        self._folder = folder
        self._destination = destination

    async def begin(self, caller: Sender, plan: Plan) -> Upload:
        """Make room for an upload.

        Raises:
            StorageFull, Unavailable, and what the destination refuses with.
        """
        await self._destination.admit(caller, plan)
        id = uuid4().hex
        plan = replace(plan, owner=self._destination.name_of(caller))
        with disk_errors():
            await asyncio.to_thread(self._make, id, plan)
            await asyncio.to_thread(self.expire)
        return Upload(id, plan, 0, utc_now() + LIFETIME)

    async def find(self, caller: Sender, id: str) -> Upload:
        """An upload of the caller's.

        Raises:
            NotFound: no such upload of the caller's, or it has expired.
        """
        if not _ID.fullmatch(id):
            raise NotFound("There is no such upload")
        try:
            plan = Plan(**json.loads(self._about(id).read_bytes()))
            facts = (self._about(id) if plan.done else self._bytes(id)).stat()
        except (FileNotFoundError, ValueError):
            raise NotFound("There is no such upload") from None
        expires_at = datetime.fromtimestamp(facts.st_mtime, UTC) + LIFETIME
        if plan.owner != self._destination.name_of(caller) or expires_at <= utc_now():
            raise NotFound("There is no such upload")
        return Upload(id, plan, plan.size if plan.done else facts.st_size, expires_at)

    async def go_on(
        self, caller: Sender, id: str, offset: int, content: AsyncIterable[bytes]
    ) -> Upload:
        """Take more bytes; what has come when the connection is cut is kept.

        Args:
            offset: how many bytes the sender believes have come.

        Raises:
            NotFound: as `find`.
            UploadBusy: another request is sending.
            Conflict: another number of bytes has come.
            PayloadTooLarge: more bytes come than were announced.
            IncompleteUpload: the sender is silent for too long.
            AmphibaseError: the whole file is refused; the upload is over.
            StorageFull, Unavailable: what has come is kept.
        """
        await self.find(caller, id)
        with self._alone(id):
            upload = await self.find(caller, id)
            if upload.plan.done:
                raise Conflict("The upload is complete")
            if offset != upload.received:
                raise Conflict(f"{upload.received} bytes have come, not {offset}")
            with disk_errors():
                file = self._bytes(id).open("ab", buffering=0)
            try:
                await _append(file, content, upload.plan.size - offset)
            finally:
                with disk_errors():
                    await uninterrupted(asyncio.to_thread(_settle, file))
            upload = await self.find(caller, id)
            return await self._finish(caller, upload) if _is_whole(upload) else upload

    async def drop(self, caller: Sender, id: str) -> None:
        """Throw away what has come. Raises NotFound, UploadBusy."""
        await self.find(caller, id)
        with self._alone(id):
            self._remove(id)

    def expire(self) -> int:
        """Throw away what nobody has gone on with, and what a crash has left; how many uploads
        that were."""
        touched: dict[str, float] = {}
        for path in self._folder.glob("*"):
            id = path.name.partition(".")[0]
            with contextlib.suppress(FileNotFoundError):
                if _ID.fullmatch(id):
                    touched[id] = max(touched.get(id, 0), path.stat().st_mtime)
        oldest = (utc_now() - LIFETIME).timestamp()
        expired = [id for id, time in touched.items() if time <= oldest]
        for id in expired:
            for path in self._folder.glob(f"{id}.*"):
                path.unlink(missing_ok=True)
        return len(expired)

    async def _finish(self, caller: Sender, upload: Upload) -> Upload:
        plan = upload.plan
        try:
            await self._destination.take(caller, plan, _chunks(self._bytes(upload.id)))
        except Retryable:
            raise
        except AmphibaseError:
            self._remove(upload.id)
            raise
        done = replace(plan, done=True)
        with disk_errors():
            await asyncio.to_thread(self._note, upload.id, done)
            self._bytes(upload.id).unlink(missing_ok=True)
        return replace(upload, plan=done)

    def _make(self, id: str, plan: Plan) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bytes(id).touch(mode=0o600, exist_ok=False)
        self._note(id, plan)

    def _note(self, id: str, plan: Plan) -> None:
        """Write the plan, so that it is there as a whole or not at all."""
        temporary = self._folder / f"{id}.new"
        with temporary.open("w") as file:
            json.dump(asdict(plan), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._about(id))

    def _remove(self, id: str) -> None:
        self._about(id).unlink(missing_ok=True)
        self._bytes(id).unlink(missing_ok=True)

    def _about(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    def _bytes(self, id: str) -> Path:
        return self._folder / f"{id}.bytes"

    @contextmanager
    def _alone(self, id: str) -> Iterator[None]:
        """One request at a time, of all processes. Raises UploadBusy."""
        lock = FileLock(self._folder / f"{id}.lock", timeout=0, mode=0o600, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise UploadBusy from None
        try:
            yield
        finally:
            lock.release()


def _is_whole(upload: Upload) -> bool:
    return upload.received == upload.plan.size


async def _append(file: FileIO, content: AsyncIterable[bytes], room: int) -> None:
    source = aiter(content)
    while chunk := await _next(source):
        room -= len(chunk)
        if room < 0:
            raise PayloadTooLarge("More bytes came than were announced")
        with disk_errors():
            await uninterrupted(asyncio.to_thread(_write, file, chunk))


async def _next(source: AsyncIterator[bytes]) -> bytes:
    """The next bytes that are some; none at the end."""
    try:
        async with asyncio.timeout(SILENCE.total_seconds()):
            async for chunk in source:
                if chunk:
                    return chunk
    except TimeoutError:
        raise IncompleteUpload("Nothing came for too long; go on with the upload") from None
    return b""


def _write(file: FileIO, chunk: bytes) -> None:
    with memoryview(chunk) as view:
        written = 0
        while written < len(view):
            written += file.write(view[written:])


def _settle(file: FileIO) -> None:
    with file:
        os.fsync(file.fileno())


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
