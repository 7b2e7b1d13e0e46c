"""Copies a table from one side to the other, chunk by chunk, going on where it was interrupted."""

import asyncio
from collections import deque
from contextlib import aclosing

from amphibase.move.context import MoveContext
from amphibase.move.tables.base import Chunk, TableReader, TableWriter
from amphibase.move.tables.merge import WrittenKeys
from amphibase.move.tables.moved_table import MovedTable

COPIED = "copied"
BEGUN = "begun"


async def copy_table(
    table: MovedTable, source: TableReader, target: TableWriter, context: MoveContext
) -> None:
    """Copy the rows after the checkpoint.

    Rows that the target rejects are left to the comparison that follows, since what they refer to
    may come later.
    """
    journal = context.journal
    if journal.get("table", table.name) == COPIED:
        return
    written = WrittenKeys(journal, table)
    journal.put("table", table.name, BEGUN)
    name = table.pair.target.table.name
    after = await target.checkpoint(name)
    if after is not None and not table.plan.key:  # nothing tells which rows are there
        await target.clear(table.pair.target.table)
        after = None
    expected = table.pair.source.table.rows
    context.progress.start(table.name, expected or None, "rows")
    writing: deque[asyncio.Task[None]] = deque()

    async def write(chunk: Chunk) -> None:
        await target.insert(table.pair.target, chunk)
        context.progress.advance(table.name, len(chunk.rows))

    try:
        async with aclosing(source.read(table.pair.source, after)) as chunks:
            async for chunk in chunks:
                if len(writing) >= target.in_flight:
                    await writing.popleft()
                rows = await written.claim(target, table.for_target(chunk.rows))
                arriving = table.without_postponed(rows)
                writing.append(asyncio.create_task(write(Chunk(arriving, chunk.last))))
        while writing:
            await writing.popleft()
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
    context.progress.finish(table.name)
    journal.put("table", table.name, COPIED)
