"""Files: what is the same on every backend. Paths, limits, and types held against the bytes."""

import re
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from amphibase.backend import Caller, Page
from amphibase.backend.files import Bucket, ByteRange, File, Files, OpenFile, SignedUrl
from amphibase.blobs.resumable import UploadInfo
from amphibase.blobs.types import HEAD_BYTES, checked_type, is_allowed
from amphibase.errors import (
    IncompleteUpload,
    InvalidPath,
    NotFound,
    PayloadTooLarge,
    Unauthenticated,
    UnsupportedFileType,
)

UPLOADS = "uploads"
"""The bucket that is there from the start."""

MAX_PATH_BYTES = 1024
"""The longest key of S3, which is what object stores agree on."""

MAX_NAME_BYTES = 200
MISSING = "There is no such file"
NO_BUCKET = "There is no such bucket"
RESERVED = ("buckets", "copy", "move", "sign", "tus")
"""Names of buckets that would hide routes."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DRIVE = re.compile(r"[A-Za-z]:")
LOST = "\ufffd"
"""What stands for bytes that are no UTF-8: different names would become one."""

_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of writing, and make one name look like another."""


class FileService:
    """What can be done with files, beside what the backend does.

    Args:
        max_bytes: the most bytes of a file, whatever its bucket allows.
        allowed_types: such as `image/*`; empty for any.
    """

    def __init__(self, files: Files, *, max_bytes: int, allowed_types: Sequence[str]) -> None:
        self._files = files
        self.max_bytes = max_bytes
        self._allowed_types = tuple(allowed_types)

    async def put(
        self,
        caller: Caller,
        bucket: str,
        path: str,
        content: AsyncIterable[bytes],
        *,
        content_type: str | None = None,
        size: int | None = None,
        overwrite: bool = True,
    ) -> File:
        """Store a file, if its path, size and type are in order.

        Args:
            content_type: as the sender declares it; detected by default.
            size: how many bytes will come, if that is known.
            overwrite: False to fail instead of replacing a file.

        Raises:
            Unauthenticated, NotFound, Forbidden, PreconditionFailed: as `Files.put`.
            InvalidPath, PayloadTooLarge, UnsupportedFileType, IncompleteUpload: nothing is stored.
        """
        path = checked_path(path)
        room = await self.admit(caller, bucket, size)
        limit = self._limit(room)
        incoming = _Incoming(content, limit, size)
        kind = checked_type(await incoming.head(), content_type, path)
        self._check_type(kind, room)
        return await self._files.put(
            caller, bucket, path, incoming.chunks(), content_type=kind, overwrite=overwrite
        )

    async def admit(self, caller: Caller, bucket: str, size: int | None) -> Bucket:
        """Return whether the caller may send so many bytes to the bucket, before they are sent.

        Raises:
            Unauthenticated, NotFound, PayloadTooLarge
        """
        if caller.role == "anon":
            raise Unauthenticated
        room = await self.bucket(bucket)
        limit = self._limit(room)
        if size is not None and size > limit:
            raise _too_large(limit)
        return room

    async def stat(self, caller: Caller, bucket: str, path: str) -> File:
        """Return what is known of a file. Raises NotFound."""
        file = await self._files.stat(caller, _known(bucket), checked_path(path))
        if file is None:
            raise NotFound(MISSING)
        return file

    async def open(
        self, caller: Caller, bucket: str, path: str, part: ByteRange | None = None
    ) -> OpenFile:
        """Return a file's bytes, or a part of them. See `Files.open`."""
        return await self._files.open(caller, _known(bucket), checked_path(path), part)

    async def list(
        self,
        caller: Caller,
        bucket: str = UPLOADS,
        prefix: str = "",
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[File]:
        """Return files whose path begins with the prefix. Raises NotFound, InvalidCursor."""
        if await self._files.bucket(_known(bucket)) is None:
            raise NotFound(NO_BUCKET)
        prefix = unicodedata.normalize("NFC", prefix)
        return await self._files.list(caller, bucket, prefix, cursor=cursor, limit=limit)

    async def delete(self, caller: Caller, bucket: str, path: str) -> None:
        """Delete a file. Raises NotFound, Forbidden."""
        if not await self._files.delete(caller, _known(bucket), checked_path(path)):
            raise NotFound(MISSING)

    async def signed_url(
        self, caller: Caller, bucket: str, path: str, expires_in: timedelta
    ) -> SignedUrl:
        """Return a URL that opens the file without signing in. Raises NotFound."""
        return await self._files.signed_url(caller, _known(bucket), checked_path(path), expires_in)

    def admitted_by(self, signature: str, bucket: str, path: str) -> Caller:
        """Return who the bearer of a signed URL reads as. Raises InvalidSignature."""
        return self._files.signer(bucket, checked_path(path), signature)

    def public_url(self, file: File) -> str | None:
        """Return where everybody can read the file; None in a private bucket."""
        return self._files.public_url(file.bucket, file.path) if file.public else None

    async def move(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        """Give a file another path, where its size and type are in order. See `Files.move`."""
        path, to_path = checked_path(path), checked_path(to_path)
        await self._check_fit(caller, bucket, path, to_bucket)
        return await self._files.move(caller, bucket, path, to_path, to_bucket=to_bucket)

    async def copy(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        """Copy a file to where its size and type are in order. See `Files.copy`."""
        path, to_path = checked_path(path), checked_path(to_path)
        await self._check_fit(caller, bucket, path, to_bucket)
        return await self._files.copy(caller, bucket, path, to_path, to_bucket=to_bucket)

    async def bucket(self, id: str) -> Bucket:
        """Return one bucket. Raises NotFound."""
        bucket = await self._files.bucket(_known(id))
        if bucket is None:
            raise NotFound(NO_BUCKET)
        return bucket

    async def buckets(self) -> Sequence[Bucket]:
        """Return all buckets, by name."""
        return await self._files.buckets()

    async def create_bucket(
        self, id: str, *, public: bool, file_size_limit: int | None, allowed_types: Sequence[str]
    ) -> Bucket:
        """Make a bucket. Raises InvalidPath, Conflict."""
        if not _BUCKET.fullmatch(id) or id in RESERVED:
            raise InvalidPath(
                "A bucket's name has 1 to 100 letters, digits, dots, hyphens and underscores, and "
                f"is none of {', '.join(RESERVED)}"
            )
        return await self._files.create_bucket(
            id, public=public, file_size_limit=file_size_limit, allowed_types=allowed_types
        )

    async def update_bucket(self, id: str, **changes: Any) -> Bucket:
        """Change some rules of a bucket. Raises NotFound."""
        room = await self.bucket(id)
        rules = {
            "public": room.public,
            "file_size_limit": room.file_size_limit,
            "allowed_types": room.allowed_types,
        }
        return await self._files.update_bucket(id, **(rules | changes))

    async def delete_bucket(self, id: str) -> None:
        """Delete an empty bucket. Raises NotFound, ForeignKeyViolation."""
        if not await self._files.delete_bucket(_known(id)):
            raise NotFound(NO_BUCKET)

    async def _check_fit(
        self, caller: Caller, bucket: str, path: str, to_bucket: str | None
    ) -> None:
        if to_bucket is None or to_bucket == bucket:
            return
        file = await self.stat(caller, bucket, path)
        room = await self.admit(caller, to_bucket, file.size)
        self._check_type(file.content_type, room)

    def _limit(self, bucket: Bucket) -> int:
        return min(self.max_bytes, bucket.file_size_limit or self.max_bytes)

    def _check_type(self, kind: str, bucket: Bucket) -> None:
        for patterns in (self._allowed_types, bucket.allowed_types):
            if not is_allowed(kind, patterns):
                raise UnsupportedFileType(
                    f"Files of the type {kind} are not taken here; {', '.join(patterns)} are"
                )


class FileDestination:
    """Where complete resumable uploads are stored (`UploadDestination`)."""

    def __init__(self, files: FileService) -> None:
        self._files = files

    def name_of(self, sender: Caller) -> str:
        return str(sender.user_id or sender.role)

    async def admit(self, sender: Caller, info: UploadInfo) -> None:
        await self._files.admit(sender, info.bucket, info.size)

    async def store(self, sender: Caller, info: UploadInfo, content: AsyncIterable[bytes]) -> None:
        await self._files.put(
            sender,
            info.bucket,
            info.path,
            content,
            content_type=info.content_type,
            size=info.size,
            overwrite=info.overwrite,
        )


class _Incoming:
    """A sender's bytes: looked at, counted, and cut off at the limit."""

    def __init__(self, content: AsyncIterable[bytes], limit: int, size: int | None) -> None:
        self._source = aiter(content)
        self._limit = limit
        self._size = size
        self._held: list[bytes] = []

    async def head(self) -> bytes:
        """The first bytes, which `chunks` gives again."""
        length = 0
        async for chunk in self._source:
            self._held.append(chunk)
            length += len(chunk)
            if length >= HEAD_BYTES:
                break
        return b"".join(self._held)[:HEAD_BYTES]

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes. Raises PayloadTooLarge, IncompleteUpload."""
        received = 0
        async for chunk in self._all():
            received += len(chunk)
            if received > self._limit:
                raise _too_large(self._limit)
            yield chunk
        if self._size is not None and received != self._size:
            raise IncompleteUpload(f"{self._size} bytes were announced and {received} came")

    async def _all(self) -> AsyncIterator[bytes]:
        for chunk in self._held:
            yield chunk
        self._held.clear()
        async for chunk in self._source:
            yield chunk


def checked_path(path: str) -> str:
    """Return the path in the one form in which it is stored (Unicode's NFC).

    Raises:
        InvalidPath: says why.
    """
    path = unicodedata.normalize("NFC", path)
    if any(unicodedata.category(character) in _UNSEEN for character in path):
        raise InvalidPath("A path has no control characters")
    if LOST in path:
        raise InvalidPath("A path is written in UTF-8")
    if not _TURNING.isdisjoint(path):
        raise InvalidPath("A path does not turn the direction of writing")
    if "\\" in path or path.startswith("/") or _DRIVE.match(path):
        raise InvalidPath("A path is relative, with / between its parts")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise InvalidPath("The parts of a path are not empty, and not . or ..")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidPath(f"A path has at most {MAX_PATH_BYTES} bytes")
    return path


def default_path(file_name: str) -> str:
    """Return a new path that ends in a safe form of a name."""
    return f"{uuid4()}/{safe_name(file_name)}"


def safe_name(file_name: str) -> str:
    """Return a safe form of a client's file name: no folders, no control characters, short."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", file_name))[-1]
    name = "".join(
        character
        for character in name
        if unicodedata.category(character) not in _UNSEEN
        and character not in _TURNING
        and character != LOST
    ).strip(" .")
    stem, dot, ending = name.rpartition(".")
    ending = (dot + ending if stem else "").encode()[:20].decode(errors="ignore")
    stem = name.removesuffix(ending)
    stem = stem.encode()[: MAX_NAME_BYTES - len(ending.encode())].decode(errors="ignore")
    name = re.sub(_DRIVE, "", stem + ending)
    return name or "file"


def _known(bucket: str) -> str:
    if len(bucket) > 100 or not bucket.isprintable():
        raise NotFound(NO_BUCKET)
    return bucket


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The file must have at most {limit} bytes")
