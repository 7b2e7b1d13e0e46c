"""Connections to a database that the services of many tests share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from amphibase.database.pipeline_database import PipelineDatabase


class SharedDatabase(PipelineDatabase):
    """Stays open when a service that uses it closes it, until `end`."""

    async def close(self) -> None:
        pass

    async def end(self) -> None:
        await super().close()


@asynccontextmanager
async def shared_database(url: str, module: str) -> AsyncIterator[None]:
    """Let all services that a module opens on the database use the same connections, until the
    block ends.

    A service of a test's own would connect, and each new connection read the catalog again, which
    takes longer than most tests do.

    Args:
        module: opens the databases of its services by the name `PipelineDatabase`.
    """
    opened: dict[int, SharedDatabase] = {}

    def open_database(of: str, size: int) -> PipelineDatabase:
        if of != url:
            return PipelineDatabase(of, size)
        if size not in opened:
            opened[size] = SharedDatabase(url, size)
        return opened[size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{module}.PipelineDatabase", open_database)
        yield
    for database in opened.values():
        await database.end()
