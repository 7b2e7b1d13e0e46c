"""Files: their bytes in the store, their rows in the database.

A row is written as whoever sends the file, so that policies decide; before the bytes are read, the
same statement is tried and undone, so that nobody sends what will be refused. Bytes first, row
second, and a row is gone before its bytes: what fails between leaves bytes without a row, for the
sweep.
"""

import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend.files import ByteRange
from amphibase.background import uninterrupted
from amphibase.blobs.base import BlobMissing, Blobs, bounds, key_of
from amphibase.blobs.rows import uuid_of
from amphibase.errors import AmphibaseError, Unavailable
from amphibase.gateway.storage import bucket_rows, rows
from amphibase.gateway.storage.acting import Acting, become
from amphibase.gateway.storage.errors import no_bucket, no_object, too_large
from amphibase.gateway.storage.identity import Identity
from amphibase.gateway.storage.incoming import Incoming, Measured, facts
from amphibase.gateway.storage.rules import check_key, check_type
from amphibase.models import uuid7

logger = logging.getLogger("amphibase.gateway.storage")

Place = tuple[str, str]
"""A bucket and a path in it."""

LOOKS = 3
"""How often to look again when a file is replaced between finding its row and opening its bytes."""


class _Undone(Exception):
    """The way out of a transaction that leaves nothing."""


class Store:
    """The files of a project.

    Args:
        max_bytes: the most bytes of a file, whatever its bucket allows.
    """

    def __init__(self, acting: Acting, blobs: Blobs, max_bytes: int) -> None:
        self._acting = acting
        self._blobs = blobs
        self._max_bytes = max_bytes

    async def bucket(self, id: str) -> RowMapping:
        """A bucket, whoever asks. Raises StorageError."""
        async with self._acting.owner() as connection:
            found = await bucket_rows.find(connection, id)
        if found is None:
            raise no_bucket()
        return found

    async def may_put(
        self,
        identity: Identity,
        place: Place,
        operation: str,
        *,
        overwrite: bool,
        content_type: str | None = None,
        announced: int | None = None,
    ) -> int:
        """Whether such a file may be sent; how many bytes it may have.

        Raises:
            StorageError: it may not, or there is a file already that may not be replaced.
        """
        check_key(place[1])
        bucket = await self.bucket(place[0])
        limit = min(self._max_bytes, bucket["file_size_limit"] or self._max_bytes)
        if announced is not None and announced > limit:
            raise too_large()
        if content_type is not None:
            check_type(content_type, bucket["allowed_mime_types"])
        about = facts(content_type or "", "", announced, "")
        values = self._values(identity, place, uuid7(), about, None)
        with suppress(_Undone):
            async with self._acting.sender(identity, operation) as connection:
                await rows.add(connection, values, overwrite=overwrite)
                raise _Undone
        return limit

    async def put(
        self,
        identity: Identity,
        place: Place,
        incoming: Incoming,
        operation: str,
        *,
        overwrite: bool,
        size: int | None = None,
    ) -> UUID:
        """Store a file; the id of its row.

        Args:
            size: how many bytes have to come, where that is known.

        Raises:
            StorageError: it may not be stored; nothing of it is kept.
        """
        limit = await self.may_put(
            identity,
            place,
            operation,
            overwrite=overwrite,
            content_type=incoming.content_type,
            announced=incoming.announced,
        )
        version = uuid7()
        measured = Measured(incoming.chunks(), limit, size)
        await self._blobs.write(version, measured.chunks())

        async def name() -> tuple[UUID, str | None]:
            about = measured.facts(incoming.content_type, incoming.cache_control)
            values = self._values(identity, place, version, about, incoming.user_metadata)
            return await self._write_row(identity, place, values, operation, overwrite=overwrite)

        return await uninterrupted(self._named(version, name()))

    async def find(self, identity: Identity | None, place: Place, operation: str) -> RowMapping:
        """What is known of a file.

        Args:
            identity: who reads; None where that has been decided.

        Raises:
            StorageError: there is none that they may see.
        """
        async with self._reading(identity, operation) as connection:
            found = await rows.find(connection, *place)
        if found is None:
            raise no_object()
        return found

    async def find_shown(
        self, identity: Identity | None, place: Place, operation: str
    ) -> tuple[RowMapping, Identity | None]:
        """What is known of a file that everybody may read, or else the sender; and as whom it is
        read, None where everybody may.

        Args:
            identity: None for a sender who is nobody.

        Raises:
            StorageError: there is none that they may see.
        """
        async with self._acting.owner() as connection:
            bucket = await bucket_rows.find(connection, place[0])
            if bucket is None or not (bucket["public"] or identity):
                raise no_bucket()
            reader = None if bucket["public"] else identity
            if reader is not None:
                await become(connection, reader, operation)
            found = await rows.find(connection, *place)
        if found is None:
            raise no_object()
        return found, reader

    async def find_many(
        self, identity: Identity, bucket: str, names: Sequence[str], operation: str
    ) -> set[str]:
        """Which of the files the sender may see."""
        async with self._reading(identity, operation) as connection:
            return {row["name"] for row in await rows.find_many(connection, bucket, names)}

    async def open(
        self, identity: Identity | None, found: RowMapping, part: ByteRange | None, operation: str
    ) -> tuple[RowMapping, int, int, AsyncIterator[bytes]]:
        """A file's bytes, or a part of them: its row as it is now, where the part begins and ends,
        and the bytes.

        Raises:
            StorageError: there is no such file any more, or its bytes are gone.
            RangeNotSatisfiable: the file has no such part.
        """
        for _ in range(LOOKS):
            version = uuid_of(found["version"])
            if version is None:  # a row that was not written here, and has no bytes
                break
            start, stop = bounds(part, size_of(found))
            with suppress(BlobMissing):
                return found, start, stop, await self._blobs.read(version, start, stop)
            found = await self.find(identity, (found["bucket_id"], found["name"]), operation)
        logger.error("The bytes of %s/%s are missing", found["bucket_id"], found["name"])
        raise no_object()

    async def move(self, identity: Identity, place: Place, to: Place, operation: str) -> UUID:
        """Give a file another path; the id of its row. Raises StorageError."""
        check_key(to[1])
        if to[0] != place[0]:
            await self._check_fit(identity, place, to[0], operation)
        async with self._acting.owner() as connection:
            await rows.reserve(connection, place, to)
            await become(connection, identity, operation)
            id = await rows.move(connection, *place, *to)
        if id is None:
            raise no_object()
        return id

    async def copy(
        self,
        identity: Identity,
        place: Place,
        to: Place,
        operation: str,
        *,
        overwrite: bool,
        changes: dict[str, Any],
        user_metadata: dict[str, Any] | None,
        keeps_metadata: bool,
    ) -> RowMapping:
        """Copy a file; its new row, as far as the database has not filled it in.

        Args:
            changes: of the column `metadata`.
            user_metadata: in place of the one that the file has.
            keeps_metadata: whether what is not changed is taken over.

        Raises:
            StorageError: it cannot be read, or not be written there.
        """
        check_key(to[1])
        kind = changes.get("mimetype")
        found = await self._check_fit(identity, place, to[0], operation, kind=kind)
        if place == to:
            overwrite = True
        await self.may_put(identity, to, operation, overwrite=overwrite)
        source, version = uuid_of(found["version"]), uuid7()
        if source is None:
            raise no_object()
        try:
            await self._blobs.copy(source, version)
        except BlobMissing:
            raise no_object() from None
        about = {**facts_of(found), **changes}
        theirs = (
            found["user_metadata"] if keeps_metadata and user_metadata is None else user_metadata
        )
        values = self._values(identity, to, version, about, theirs)
        work = self._write_row(identity, to, values, operation, overwrite=overwrite)
        id = await uninterrupted(self._named(version, work))
        async with self._acting.owner() as connection:
            stored = await rows.find(connection, *to)
        if stored is None or stored["id"] != id:
            raise no_object()
        return stored

    async def remove(
        self, identity: Identity, bucket: str, names: Sequence[str], operation: str
    ) -> list[RowMapping]:
        """Delete the files that the sender may delete; their rows."""

        async def work() -> list[RowMapping]:
            async with self._acting.sender(identity, operation) as connection:
                removed = await rows.remove(connection, bucket, names)
            for row in removed:
                await self._forget(row["version"])
            return removed

        return await uninterrupted(work())

    async def _check_fit(
        self,
        identity: Identity,
        place: Place,
        to_bucket: str,
        operation: str,
        *,
        kind: str | None = None,
    ) -> RowMapping:
        """The file, if the sender sees it and the bucket it is to go to takes it.

        Args:
            kind: the type that it is to have there, where it is another.
        """
        found = await self.find(identity, place, operation)
        bucket = await self.bucket(to_bucket)
        if to_bucket != place[0] or kind is not None:
            check_type(kind or type_of(found), bucket["allowed_mime_types"])
        limit = bucket["file_size_limit"] or self._max_bytes
        if to_bucket != place[0] and size_of(found) > limit:
            raise too_large()
        return found

    @asynccontextmanager
    async def _reading(
        self, identity: Identity | None, operation: str
    ) -> AsyncIterator[AsyncConnection]:
        if identity is None:
            async with self._acting.owner() as connection:
                yield connection
        else:
            async with self._acting.sender(identity, operation) as connection:
                yield connection

    def _values(
        self,
        identity: Identity,
        place: Place,
        version: UUID,
        about: dict[str, Any],
        user_metadata: dict[str, Any] | None,
    ) -> dict[str, Any]:
        return {
            "id": uuid7(),
            "bucket_id": place[0],
            "name": place[1],
            "owner": uuid_of(identity.subject),
            "owner_id": identity.subject,
            "version": str(version),
            "metadata": about,
            "user_metadata": user_metadata,
        }

    async def _write_row(
        self,
        identity: Identity,
        place: Place,
        values: dict[str, Any],
        operation: str,
        *,
        overwrite: bool,
    ) -> tuple[UUID, str | None]:
        """The id of the row, and the version of the bytes that it named before."""
        async with self._acting.owner() as connection:
            # As the owner: whoever writes may not see the row that is in the way.
            await rows.reserve(connection, place)
            before = await rows.find(connection, *place, lock=True)
            await become(connection, identity, operation)
            await rows.add(connection, values, overwrite=overwrite)
        if before is None:
            return values["id"], None
        return before["id"], before["version"]

    async def _named(
        self, version: UUID, work: Coroutine[Any, Any, tuple[UUID, str | None]]
    ) -> UUID:
        """Let a row name the bytes, and forget those that they replace, or these where the row is
        refused."""
        try:
            id, replaced = await work
        except Unavailable:
            # Perhaps the row was committed and only the answer was lost: the sweep will know.
            raise
        except Exception:
            await self._forget(str(version))
            raise
        await self._forget(replaced)
        return id

    async def _forget(self, version: str | None) -> None:
        id = uuid_of(version)
        if id is None:
            return
        try:
            await self._blobs.delete(key_of(id))
        except AmphibaseError:
            logger.warning("Bytes without a row are left for `amphibase files sweep`")


def facts_of(found: RowMapping) -> dict[str, Any]:
    """What the column `metadata` holds, which others may write too."""
    about = found["metadata"]
    return about if isinstance(about, dict) else {}


def size_of(found: RowMapping) -> int:
    """How many bytes a file has."""
    size = facts_of(found).get("size")
    return size if isinstance(size, int) and size >= 0 else 0


def type_of(found: RowMapping) -> str:
    """The type of a file."""
    kind = facts_of(found).get("mimetype")
    return kind if isinstance(kind, str) and kind else "application/octet-stream"
