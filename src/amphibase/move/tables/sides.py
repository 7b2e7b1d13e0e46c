"""Opens the tables of an end, whatever it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amphibase.errors import NotSupported
from amphibase.move.endpoints import Endpoint
from amphibase.move.tables.base import TableWriter
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.sqlite import SqliteTables


@asynccontextmanager
async def open_tables(endpoint: Endpoint, plan: str) -> AsyncIterator[TableWriter]:
    """Open the tables of an end for the block.

    Args:
        plan: the name of the move's plan.

    Raises:
        Unavailable: the end cannot be reached.
    """
    url = endpoint.database
    if url is not None:
        is_postgres = url.get_backend_name() == "postgresql"
        async with PostgresTables(url, plan) if is_postgres else SqliteTables(url, plan) as tables:
            yield tables
        return
    raise NotSupported(f"the tables of {endpoint.address} cannot be moved yet")
