"""Change and read the bytes behind a row: bytes first, row second.

A blob is durable before the row that names it commits, and a row is gone before its blob is
deleted. Whatever fails in between leaves a blob without a row, which the sweep removes.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from amphibase.backend.files import ByteRange
from amphibase.background import uninterrupted
from amphibase.blobs.base import BlobMissing, Blobs, bounds, key_of, parse_uuid
from amphibase.errors import AmphibaseError, Contention, Unavailable
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.blobs")

Result = TypeVar("Result")
AnyRow = TypeVar("AnyRow")

ATTEMPTS = 3
"""How often to find the row again when its blob is swapped before it can be opened or copied."""


async def swap(
    blobs: Blobs, version: UUID, write_row: Callable[[], Awaitable[tuple[Result, str | None]]]
) -> Result:
    """Let a row name a blob that is stored, then delete the blob that the row named before.

    Runs to its end even when the task is cancelled, which is raised afterwards.

    Args:
        version: of the blob that the row is to name.
        write_row: commits the row; returns a result, and the version that the row named before.

    Returns:
        The result of `write_row`.

    Raises:
        Exception: what `write_row` raises. The new blob is deleted, unless it is unknown whether
            the row was committed.
    """
    return await uninterrupted(_swap(blobs, version, write_row))


async def _swap(
    blobs: Blobs, version: UUID, write_row: Callable[[], Awaitable[tuple[Result, str | None]]]
) -> Result:
    try:
        result, replaced = await write_row()
    except Exception as error:
        if _is_rolled_back(error):
            await discard(blobs, [str(version)])
        raise
    await discard(blobs, [replaced])
    return result


def _is_rolled_back(error: Exception) -> bool:
    """Whether nothing was committed. A lost connection may have lost the response to a COMMIT that
    was carried out; everything else, also an unexpected error, rolls back."""
    return isinstance(error, Contention) or not isinstance(error, Unavailable)


async def release(
    blobs: Blobs, delete_rows: Callable[[], Awaitable[tuple[Result, Iterable[str | None]]]]
) -> Result:
    """Delete rows, then the blobs that they named; runs to its end as `swap` does.

    Args:
        delete_rows: commits the deletion; returns a result, and the versions that the rows named.
    """

    async def delete() -> Result:
        result, versions = await delete_rows()
        await discard(blobs, versions)
        return result

    return await uninterrupted(delete())


async def discard(blobs: Blobs, versions: Iterable[str | None]) -> None:
    """Delete blobs that no row names; one that cannot be deleted now is left to the sweep."""
    for version in versions:
        id = parse_uuid(version)
        if id is None:
            continue
        try:
            await blobs.delete(key_of(id))
        except AmphibaseError:
            logger.warning("A blob without a row is left for `amphibase files sweep`")


async def open_blob(
    blobs: Blobs,
    row: AnyRow,
    find_again: Callable[[], Awaitable[AnyRow]],
    describe: Callable[[AnyRow], tuple[str | None, int]],
    part: ByteRange | None,
) -> tuple[AnyRow, int, int, AsyncIterator[bytes]]:
    """Open the blob that a row names.

    Args:
        find_again: finds the row once more, where its blob was swapped in the meantime.
        describe: the version and the size in bytes that a row names.
        part: of the bytes; None for all.

    Returns:
        The row whose blob is open, the first byte and the one after the last, and the bytes.

    Raises:
        BlobMissing: the bytes are lost.
        RangeNotSatisfiable: the blob has no such part.
    """
    for _ in range(ATTEMPTS):
        text, size = describe(row)
        version = parse_uuid(text)
        if version is None:  # a row that was written by others, and has no bytes
            break
        start, stop = bounds(part, size)
        with suppress(BlobMissing):
            return row, start, stop, await blobs.read(version, start, stop)
        row = await find_again()
    raise BlobMissing


async def copy_blob(
    blobs: Blobs,
    row: AnyRow,
    find_again: Callable[[], Awaitable[AnyRow]],
    version_of: Callable[[AnyRow], str | None],
    copy: UUID,
) -> AnyRow:
    """Copy the blob that a row names.

    Args:
        find_again: finds the row once more, where its blob was swapped in the meantime.
        version_of: the version that a row names.
        copy: the version of the copy.

    Returns:
        The row whose blob was copied.

    Raises:
        BlobMissing: the bytes are lost.
    """
    for _ in range(ATTEMPTS):
        version = parse_uuid(version_of(row))
        if version is None:  # a row that was written by others, and has no bytes
            break
        with suppress(BlobMissing):
            await blobs.copy(version, copy)
            return row
        row = await find_again()
    raise BlobMissing
