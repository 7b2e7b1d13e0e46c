"""The contract of files: what every backend offers, and the values that cross it."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from amphibase.backend.caller import Caller
from amphibase.backend.records import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket: a namespace of files with rules of its own.

    Args:
        public: whether everybody may read its files.
        file_size_limit: in bytes; None where only `MAX_UPLOAD_MB` limits.
        allowed_types: such as `image/png` or `image/*`; empty for any.
    """

    id: str
    public: bool
    file_size_limit: int | None
    allowed_types: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file without its bytes.

    Args:
        size: in bytes.
        etag: changes with the bytes; without quotes.
        owner_id: who may read and change it; None where the service alone may change it.
        public: whether its bucket is.
    """

    bucket: str
    path: str
    size: int
    content_type: str
    etag: str
    owner_id: UUID | None
    public: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file with its bytes, or a part of them, to be read once.

    Args:
        start: of the part, counted from 0.
        stop: the first byte after the part.
    """

    file: File
    start: int
    stop: int
    chunks: AsyncIterator[bytes]


ByteRange = tuple[int | None, int | None]
"""First and last byte, as in HTTP: (0, 9) the first ten, (10, None) all from there, (None, 10) the
last ten."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL that opens one file for its holder, until it expires."""

    url: str
    expires_at: datetime


GRACE = timedelta(hours=1)
"""Bytes that are younger may belong to an upload whose row is about to come."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Bytes and rows that do not belong together.

    Args:
        kind: `orphan` is a blob without a row, or what is left of one; `lost` a row without a blob.
        name: the blob's key, or bucket and path of the row.
        size: in bytes.
    """

    kind: Literal["orphan", "lost"]
    name: str
    size: int


class Sweep(Protocol):
    """A search for bytes without rows and rows without bytes, under way.

    Attributes:
        examined: how many blobs and rows have been compared so far.
    """

    examined: int

    def findings(self) -> AsyncIterator[Finding]:
        """Yield each row or blob without the other, and delete it. Raises Unavailable."""


class Files(Protocol):
    """Files, addressed by bucket and path, as one caller may see and change them.

    Everybody reads what is in a public bucket; other files are their owners' and the service's.
    What a caller may not see does not exist for them.
    """

    async def put(
        self,
        caller: Caller,
        bucket: str,
        path: str,
        content: AsyncIterable[bytes],
        *,
        content_type: str,
        overwrite: bool = True,
    ) -> File:
        """Store a file; it is visible when all of it is durable, and not before.

        Args:
            overwrite: False to fail instead of replacing a file.

        Raises:
            Unauthenticated: an anonymous caller.
            NotFound: no such bucket, or the path is another's.
            Forbidden: the path is another's, in a public bucket.
            PreconditionFailed: the file exists, and must not be replaced.
            StorageFull, Unavailable: nothing is stored.
        """

    async def stat(self, caller: Caller, bucket: str, path: str) -> File | None:
        """Return the metadata of a file; None where the caller sees no such file."""

    async def open(
        self, caller: Caller, bucket: str, path: str, part: ByteRange | None = None
    ) -> OpenFile:
        """Open a file's bytes, or a part of them. Raises NotFound, RangeNotSatisfiable."""

    async def list(
        self,
        caller: Caller,
        bucket: str,
        prefix: str = "",
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[File]:
        """Return a page of files whose path begins with the prefix, in the order of their paths.

        Raises:
            InvalidCursor: not one of this list.
        """

    async def move(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        """Give a file another path, or bucket. Raises NotFound, Forbidden, Conflict."""

    async def copy(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        """Store the same bytes again, as the caller's. Raises NotFound, Conflict."""

    async def delete(self, caller: Caller, bucket: str, path: str) -> bool:
        """Delete a file; return whether it existed. Raises Forbidden where another's is visible."""

    async def signed_url(
        self, caller: Caller, bucket: str, path: str, expires_in: timedelta
    ) -> SignedUrl:
        """Sign a URL that opens the file without signing in. Raises NotFound."""

    def signer(self, bucket: str, path: str, signature: str) -> Caller:
        """Return the caller that a signed URL reads the file as: who signed it, so that it does not
        open what another user stores there later. Raises InvalidSignature."""

    def public_url(self, bucket: str, path: str) -> str:
        """Return where everybody can read a file of a public bucket."""

    # Buckets, for the service and administrators.

    async def bucket(self, id: str) -> Bucket | None:
        """Return the bucket with that name."""

    async def buckets(self) -> Sequence[Bucket]:
        """Return all buckets, by name."""

    async def create_bucket(
        self,
        id: str,
        *,
        public: bool = False,
        file_size_limit: int | None = None,
        allowed_types: Sequence[str] = (),
    ) -> Bucket:
        """Create a bucket. Raises Conflict when the name is taken."""

    async def update_bucket(
        self, id: str, *, public: bool, file_size_limit: int | None, allowed_types: Sequence[str]
    ) -> Bucket:
        """Change a bucket's rules; files that are in it stay. Raises NotFound."""

    async def delete_bucket(self, id: str) -> bool:
        """Delete an empty bucket; return whether it existed. Raises ForeignKeyViolation."""

    def sweep(
        self,
        *,
        grace: timedelta = GRACE,
        delete_orphans: bool = False,
        delete_lost: bool = False,
    ) -> Sweep:
        """Search for bytes without rows and rows without bytes.

        Args:
            grace: blobs that changed less than this ago are left alone.
            delete_orphans: whether blobs without a row are deleted.
            delete_lost: whether rows without a blob are deleted; those files cannot be read any
                more, unless their bytes come back from a backup.

        Raises:
            NotSupported: the backend keeps bytes and rows together itself.
        """
