"""Where the bytes of files are stored, apart from the rows that name them.

A blob is written once under a random key, never a name from a client, and never
changed: a file that is overwritten gets a new blob. So a reader sees the old bytes or the new ones,
and what a crash leaves behind is a blob without a row, which the sweep removes.
"""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from amphibase.backend.files import ByteRange
from amphibase.errors import RangeNotSatisfiable

CHUNK_BYTES = 1024 * 1024
"""How much is read and written at once: a hop to a thread costs as much as copying 64 KB."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What a listing says of a blob.

    Args:
        version: None for a leftover that is no whole blob.
    """

    key: str
    version: UUID | None
    size: int
    modified_at: datetime


class BlobMissing(Exception):
    """There is no such blob: its file was deleted or overwritten a moment ago, or it is lost."""


class Blobs(Protocol):
    """A store of blobs.

    Every method raises StorageFull where there is no room, and Unavailable where the store cannot
    be reached.
    """

    async def write(self, version: UUID, content: AsyncIterable[bytes]) -> int:
        """Store a blob durably, all or nothing; its size in bytes."""

    async def read(self, version: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `stop`. Raises BlobMissing, before the first
        byte."""

    async def copy(self, version: UUID, to: UUID) -> None:
        """Store the same bytes again. Raises BlobMissing."""

    async def delete(self, key: str) -> None:
        """Delete a blob, or a leftover; no matter whether there was one."""

    async def exists(self, version: UUID) -> bool:
        """Return whether the blob is there."""

    def all(self) -> AsyncIterator[Blob]:
        """Yield all blobs and leftovers, in no order; nothing that others keep there too."""

    async def check(self) -> None:
        """Reach the store. Raises Unavailable."""


FOLDERS = tuple(f"{number:02x}" for number in range(256))
"""The folders that `key_of` spreads blobs over."""


def key_of(version: UUID) -> str:
    """Return where a blob is: spread over 256 folders by the end of its random version."""
    return f"{version.hex[-2:]}/{version}"


def version_of(key: str) -> UUID | None:
    """Return the version whose key this is; None for anything else."""
    try:
        version = UUID(key.rpartition("/")[2])
    except ValueError:
        return None
    return version if key_of(version) == key else None


def parse_uuid(text: str | None) -> UUID | None:
    """Read a column of text that holds an id, such as a row's version or owner; None where it holds
    something else, as in rows that others have written."""
    try:
        return UUID(text or "")
    except ValueError:
        return None


def bounds(part: ByteRange | None, size: int) -> tuple[int, int]:
    """Return where a part begins and ends, as Python counts. Raises RangeNotSatisfiable."""
    match part:
        case None:
            return 0, size
        case (None, int(length)) if length > 0 and size > 0:
            return max(0, size - length), size
        case (int(first), None) if 0 <= first < size:
            return first, size
        case (int(first), int(last)) if 0 <= first < size and first <= last:
            return first, min(last + 1, size)
    raise RangeNotSatisfiable(size)
