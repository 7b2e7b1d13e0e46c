"""Keeps the source's application from writing while the last pass reads.

A trigger on each table rejects writes, on connections that are open already too, and of every role.
To create one waits for the transactions that have written to its table; so once all are there, no
write is on its way. The freeze is a lease: the triggers let writes pass when it is not renewed, so
that an application writes again though the move was killed and never run again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from amphibase.errors import MoveFailed, Retryable
from amphibase.move import freezers
from amphibase.move.catalog import TableName
from amphibase.move.endpoints import Endpoint
from amphibase.move.freezers import Freezer, build_freezer
from amphibase.move.journal import Journal

RENEW_SECONDS = 15


class Freeze:
    """A freeze that lasts.

    Attributes:
        unguarded: the tables that could still be written to, since the role may not guard them.
        seconds: how long writes were rejected; 0 until it has ended.
        remaining: what of it could not be removed, although writes pass again, and why.
    """

    def __init__(self) -> None:
        self.unguarded: list[TableName] = []
        self.seconds = 0.0
        self.remaining: str | None = None


@asynccontextmanager
async def frozen(
    endpoint: Endpoint, tables: Sequence[TableName], journal: Journal
) -> AsyncIterator[Freeze]:
    """Reject writes to tables of the source for the block.

    Raises:
        MoveFailed: it is not possible, or the lease ended before the block did.
    """
    freezer = build_freezer(endpoint)
    journal.put("freeze", "tables", [list(table) for table in tables])
    freeze = Freeze()
    began = time.monotonic()
    try:
        freeze.unguarded = await freezer.freeze(tables)
        lease = Lease(freezer)
        keeping = asyncio.create_task(lease.keep())
        try:
            yield freeze
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await lease.check()
    finally:
        try:
            await thaw(endpoint, journal)
        except MoveFailed as error:
            freeze.remaining = error.detail
        freeze.seconds = time.monotonic() - began


async def thaw(endpoint: Endpoint, journal: Journal) -> None:
    """Let the source write again, where this run or one that was killed has frozen it."""
    names = journal.get("freeze", "tables")
    if names is not None:
        await build_freezer(endpoint).thaw([TableName(*name) for name in names])
        journal.delete("freeze", "tables")


class Lease:
    """The time until which writes are rejected."""

    def __init__(self, freezer: Freezer) -> None:
        self._freezer = freezer
        self._ends = time.monotonic() + freezers.LEASE_SECONDS
        self._is_lost = False

    async def keep(self) -> None:
        """Renew it again and again, until it has ended."""
        while not self._is_lost:
            await self._renew()
            await asyncio.sleep(RENEW_SECONDS)

    async def check(self) -> None:
        """Check that it has lasted until now. Raises MoveFailed where it has not."""
        await self._renew()
        if self._is_lost:
            raise MoveFailed(
                "The freeze of the source ended before the move did, as it could not be renewed "
                "or another move has ended it, so that writes may have been missed; run again"
            )

    async def _renew(self) -> None:
        began = time.monotonic()
        ends = self._ends
        with suppress(Retryable):
            is_there = await self._freezer.renew()
            ends = began + freezers.LEASE_SECONDS
            self._is_lost |= not is_there
        self._is_lost |= time.monotonic() >= self._ends
        self._ends = ends
