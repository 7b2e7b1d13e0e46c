"""Uploads that survive a cut connection: what has come is kept in a folder until all of it is
there, and is then put where it belongs.

An upload is two files: what is to become of it, and the bytes that have come. How many have come is
the length of the second, so that nothing has to be kept in step, whatever is killed. Processes that
share the folder share the uploads.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from amphibase.backend import Caller
from amphibase.background import uninterrupted
from amphibase.errors import (
    Conflict,
    NotFound,
    PayloadTooLarge,
    Retryable,
    StorageFull,
)
from amphibase.models import utc_now
from amphibase.services.files import FileService, checked_path

LIFETIME = timedelta(hours=24)
"""How long an upload that nobody goes on with is kept."""

CHUNK_BYTES = 1024 * 1024

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that may go on.

    Args:
        size: of the whole file, in bytes.
        owner: who began it; nobody else may see it.
        done: whether the file is where it belongs.
    """

    id: str
    owner: str
    bucket: str
    path: str
    size: int
    content_type: str | None
    expires: float
    done: bool = False

    @property
    def expires_at(self) -> datetime:
        """When what has come of it is thrown away."""
        return datetime.fromtimestamp(self.expires, UTC)


class ResumableUploads:
    """Uploads under way.

    Args:
        folder: where they are kept; made where it is missing.
    """

    def __init__(self, folder: Path, files: FileService) -> None:
        self._folder = folder
        self._files = files

    async def begin(
        self, caller: Caller, bucket: str, path: str, size: int, content_type: str | None
    ) -> Upload:
        """Make room for an upload.

        Raises:
            Unauthenticated, NotFound, InvalidPath, PayloadTooLarge
        """
        path = checked_path(path)
        await self._files.admit(caller, bucket, size)
        expires = (utc_now() + LIFETIME).timestamp()
        upload = Upload(uuid4().hex, _name(caller), bucket, path, size, content_type, expires)
        with _room():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._bytes(upload.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._note(upload)
        await asyncio.to_thread(self.expire)
        return upload

    async def find(self, caller: Caller, id: str) -> tuple[Upload, int]:
        """An upload of the caller's, and how many bytes of it have come. Raises NotFound."""
        upload = self._read(caller, id)
        return upload, upload.size if upload.done else self._bytes(id).stat().st_size

    async def go_on(
        self, caller: Caller, id: str, offset: int, content: AsyncIterable[bytes]
    ) -> tuple[Upload, int]:
        """Take more bytes; what has come when the connection is cut is kept.

        Args:
            offset: how many bytes the sender believes have come.

        Raises:
            NotFound: no such upload of the caller's, or it has expired.
            Conflict: another number of bytes has come, or another request is sending.
            PayloadTooLarge: more bytes come than were announced.
            UnsupportedFileType, Forbidden: the whole file is refused; the upload is over.
            StorageFull, Unavailable: what has come is kept.
        """
        upload = self._read(caller, id)
        if upload.done:
            raise Conflict("The upload is complete")
        with self._alone(id) as descriptor:
            received = os.fstat(descriptor).st_size
            if offset != received:
                raise Conflict(f"{received} bytes have come, not {offset}")
            try:
                async for chunk in content:
                    if received + len(chunk) > upload.size:
                        raise PayloadTooLarge("More bytes came than were announced")
                    with _room():
                        await uninterrupted(asyncio.to_thread(_append, descriptor, chunk))
                    received += len(chunk)
            finally:
                with _room():
                    os.fsync(descriptor)
            if received == upload.size:
                upload = await self._finish(caller, upload)
        return upload, received

    async def drop(self, caller: Caller, id: str) -> None:
        """Throw away what has come. Raises NotFound."""
        self._read(caller, id)
        self._remove(id)

    def expire(self) -> int:
        """Throw away what has expired; how many uploads that were."""
        now = utc_now().timestamp()
        expired = 0
        for note in self._folder.glob("*.json"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                if json.loads(note.read_bytes())["expires"] <= now:
                    self._remove(note.stem)
                    expired += 1
        return expired

    async def _finish(self, caller: Caller, upload: Upload) -> Upload:
        try:
            await self._files.put(
                caller,
                upload.bucket,
                upload.path,
                _chunks(self._bytes(upload.id)),
                content_type=upload.content_type,
                size=upload.size,
            )
        except Retryable:
            raise
        except Exception:
            self._remove(upload.id)
            raise
        done = Upload(**(asdict(upload) | {"done": True}))
        self._note(done)
        self._bytes(upload.id).unlink(missing_ok=True)
        return done

    def _read(self, caller: Caller, id: str) -> Upload:
        if not _ID.fullmatch(id):
            raise NotFound
        try:
            upload = Upload(**json.loads(self._about(id).read_bytes()))
        except FileNotFoundError:
            raise NotFound("There is no such upload") from None
        if upload.owner != _name(caller) or upload.expires_at <= utc_now():
            raise NotFound("There is no such upload")
        return upload

    def _note(self, upload: Upload) -> None:
        temporary = self._folder / f".{upload.id}.{uuid4().hex}"
        temporary.write_text(json.dumps(asdict(upload)))
        temporary.replace(self._about(upload.id))

    def _remove(self, id: str) -> None:
        self._about(id).unlink(missing_ok=True)
        self._bytes(id).unlink(missing_ok=True)

    def _about(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    def _bytes(self, id: str) -> Path:
        return self._folder / f"{id}.bytes"

    @contextmanager
    def _alone(self, id: str) -> Iterator[int]:
        """The bytes, opened to append; one request at a time."""
        try:
            descriptor = os.open(self._bytes(id), os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            raise NotFound("There is no such upload") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        except BlockingIOError:
            raise Conflict("Another request is sending this upload") from None
        finally:
            os.close(descriptor)


def _name(caller: Caller) -> str:
    return str(caller.user_id or caller.role)


def _append(descriptor: int, chunk: bytes) -> None:
    written = 0
    while written < len(chunk):
        written += os.write(descriptor, chunk[written:])


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull from error
