"""The bytes of an upload, kept until the project has them, so that they can be sent again."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

from amphibase.blobs.disk_errors import disk_errors

MEMORY_BYTES = 256 * 1024
"""The most that is held in memory; a larger upload is on the disk, in a file without a name."""


class Spool:
    """An upload whose bytes have all come.

    Attributes:
        size: in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.size = size

    async def read(self, start: int, length: int) -> bytes:
        """Read a part of the bytes; fewer at the end."""

        def read() -> bytes:
            self._file.seek(start)
            return self._file.read(length)

        with disk_errors():
            return await asyncio.to_thread(read)


@asynccontextmanager
async def spooled(content: AsyncIterable[bytes]) -> AsyncIterator[Spool]:
    """Read a stream to its end, and keep its bytes for the block.

    Raises:
        StorageFull: the disk has no room.
        Unavailable: the disk cannot be used.
    """
    with SpooledTemporaryFile(MEMORY_BYTES) as file:
        size = 0
        async for chunk in content:
            size += len(chunk)
            with disk_errors():
                if size <= MEMORY_BYTES:
                    file.write(chunk)
                else:
                    await asyncio.to_thread(file.write, chunk)
        yield Spool(file, size)
