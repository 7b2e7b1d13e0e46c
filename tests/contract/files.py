"""What the tests of files share."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from amphibase import Caller
from amphibase.backend import Backend, File, Finding
from amphibase.backend.files import ByteRange

ANN = Caller("authenticated", UUID(int=1))
BOB = Caller("authenticated", UUID(int=2))
TEN = b"0123456789"


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def put(
    store: Backend,
    path: str = "a.txt",
    content: bytes = TEN,
    *,
    caller: Caller = ANN,
    bucket: str = "uploads",
    **options: Any,
) -> File:
    return await store.files.put(
        caller, bucket, path, stream(content), content_type="text/plain", **options
    )


async def read(
    store: Backend,
    path: str = "a.txt",
    part: ByteRange | None = None,
    *,
    caller: Caller = ANN,
    bucket: str = "uploads",
) -> bytes:
    opened = await store.files.open(caller, bucket, path, part)
    content = b"".join([chunk async for chunk in opened.chunks])
    assert len(content) == opened.stop - opened.start
    return content


async def misfits(store: Backend) -> list[Finding]:
    """The bytes without a row, and the rows without bytes, where these are apart."""
    if not store.capabilities.file_sweep:
        return []
    return [finding async for finding in store.files.sweep(grace=timedelta(0)).findings()]


async def paths(store: Backend, caller: Caller, bucket: str = "uploads") -> list[str]:
    return [file.path for file in (await store.files.list(caller, bucket)).items]
