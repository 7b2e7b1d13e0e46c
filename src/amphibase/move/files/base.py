"""What the stage of files needs of a side: a database with a store of bytes, or a project."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from amphibase.backend.files import Bucket
from amphibase.errors import AmphibaseError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a side stores it.

    Args:
        name: below its bucket, as the side writes it.
        etag: without quotes; other bytes have another one.
        user_metadata: None where there are none, or the side did not say.
        owner_id: None for a file of nobody's, or where the side does not say.
        version: names the bytes in a store of blobs.
    """

    bucket: str
    name: str
    size: int
    content_type: str
    cache_control: str
    etag: str
    created_at: datetime
    updated_at: datetime
    owner_id: str | None = None
    user_metadata: Mapping[str, Any] | None = None
    version: str | None = None

    @property
    def mark(self) -> str:
        """What changes whenever the file does."""
        return f"{self.etag} {self.size} {self.updated_at.isoformat()}"

    @property
    def description(self) -> str:
        """What changes with the type, the owner and the metadata, in hex."""
        own = dict(self.user_metadata or {})
        values = [self.content_type, self.cache_control, self.owner_id, own]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class FileRejected(AmphibaseError):
    """Raised where a side does not take a file, or has lost its bytes; the others go on."""

    default = "The file cannot be moved"


class Content:
    """The bytes of a file, on their way: read from anywhere, and hashed where read as a whole.

    Args:
        read: yields the bytes from a position on.
    """

    def __init__(self, size: int, read: Callable[[int], AsyncIterator[bytes]]) -> None:
        self.size = size
        self._read = read
        self._digest = hashlib.sha256()
        self._hashed = 0

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes from a position on.

        Raises:
            FileRejected: there are more or fewer than were announced.
        """
        position = start
        if start == 0:
            self._digest, self._hashed = hashlib.sha256(), 0
        async for chunk in self._read(start):
            if self._hashed == position:
                self._digest.update(chunk)
                self._hashed += len(chunk)
            position += len(chunk)
            if position > self.size:
                break
            yield chunk
        if position != self.size:
            raise FileRejected(f"has another size than the {self.size} bytes that its row says")

    @property
    def sha256(self) -> str | None:
        """The hash in hex, once all bytes were read in order."""
        return self._digest.hexdigest() if self._hashed == self.size else None


class UploadState(Protocol):
    """Remembers durably how far an upload is, so that the next run goes on from there."""

    @property
    def state(self) -> str | None:
        """What was remembered last: an upload under way, or a blob."""

    def remember(self, state: str) -> None:
        """Remember a state, before the first byte is written."""


class FileSide(Protocol):
    """Reads and writes the buckets and files of a side; each method may be repeated.

    Attributes:
        owners: whether the owners of files are known and written.
        names_are_paths: whether a file may have any name, as in an application's own storage.
    """

    owners: bool
    names_are_paths: bool

    async def check(self) -> None:
        """Reach the store. Raises Unavailable."""

    async def keeps_times(self) -> bool:
        """Return whether the times of files are read, and written as they were."""

    async def buckets(self) -> Sequence[Bucket]:
        """Return all buckets, by their names."""

    async def make_bucket(self, bucket: Bucket) -> None:
        """Make a bucket that takes every file. Raises Conflict."""

    async def set_bucket(self, bucket: Bucket) -> None:
        """Give a bucket its visibility and its limits."""

    async def delete_bucket(self, id: str) -> bool:
        """Delete a bucket; return whether that was possible: one with files stays."""

    def files(self, bucket: str) -> AsyncIterator[StoredFile]:
        """Yield the files of a bucket; their own metadata are there after `find`."""

    async def find(self, bucket: str, name: str) -> StoredFile | None:
        """Return a file with all that is known of it."""

    def read(self, file: StoredFile, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes from a position on.

        Raises:
            FileRejected: they are lost, or the file is another by now.
        """

    async def write(self, file: StoredFile, content: Content, upload: UploadState) -> None:
        """Store a file, in the place of one with its name.

        Raises:
            FileRejected: the side does not take it; says why.
            StorageFull: there is no room.
        """

    async def discard(self, state: str) -> None:
        """Remove what an upload that was not finished has left."""

    async def delete(self, bucket: str, name: str) -> None:
        """Delete a file; no matter whether there was one."""

    async def close(self) -> None:
        """Close the connections."""
