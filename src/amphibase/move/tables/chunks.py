"""Gathers rows into chunks, in a thread that is one chunk ahead of what is done with them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any

from amphibase.move.tables.base import CHUNK_BYTES, CHUNK_ROWS, Chunk, Key, Row, Selection


def in_chunks(selection: Selection, rows: Iterable[Row]) -> Generator[Chunk, None, None]:
    """Gather rows until there are `CHUNK_ROWS` of them or `CHUNK_BYTES` of text."""
    indexes = selection.key_indexes
    gathered: list[Row] = []
    size = 0
    for row in rows:
        gathered.append(row)
        size += sum([len(value) for value in row if value])
        if len(gathered) >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield Chunk(gathered, key_of(row, indexes))
            gathered, size = [], 0
    if gathered:
        yield Chunk(gathered, key_of(gathered[-1], indexes))


def key_of(row: Row, indexes: tuple[int, ...]) -> Key:
    """Return the key of a row, of which no part is NULL."""
    return tuple([row[index] for index in indexes])  # type: ignore[misc]


async def iterate_in_thread(
    generate: Callable[[], Generator[Chunk, None, None]],
) -> AsyncGenerator[Chunk, None]:
    """Yield what a generator yields, which runs in a thread, one chunk ahead.

    It is closed with this one, also where the consumer ends early.
    """
    generator = generate()
    following = asyncio.ensure_future(asyncio.to_thread(next, generator, None))
    try:
        while (chunk := await asyncio.shield(following)) is not None:
            following = asyncio.ensure_future(asyncio.to_thread(next, generator, None))
            yield chunk
    finally:
        await _ended(following)
        await asyncio.to_thread(generator.close)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Wait until a thread has ended its step: a generator cannot be closed while it runs."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # which is raised where it is awaited, or is of no interest any more
