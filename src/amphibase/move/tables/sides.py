"""Both sides of the tables, and how an end's are opened, whatever it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from amphibase.move.catalog import TableName
from amphibase.move.endpoints import Endpoint, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.project import client_of
from amphibase.move.tables.base import TableReader, TableWriter
from amphibase.move.tables.constraint_definitions import TakenOff
from amphibase.move.tables.data_api import DataApiTables
from amphibase.move.tables.moved_table import MovedTable
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.referrers import Referrers
from amphibase.move.tables.sequences import Counters, PostgresCounters, SqliteCounters
from amphibase.move.tables.sqlite import SqliteTables


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, open, and the tables of the plan in the order in which they are written.

    Args:
        unsatisfied: foreign keys that no order satisfies.
        missing: mapping tables that the target lacks.
        sequences: those of the plan, which no column counts by.
        taken_off: what a run that was killed has left off the target, and the tables do not show.
    """

    source: TableReader
    target: TableWriter
    tables: list[MovedTable]
    unsatisfied: list[str]
    referrers: Referrers
    missing: list[TableName]
    sequences: list[TableName]
    taken_off: list[TakenOff]


@asynccontextmanager
async def open_tables(
    endpoint: Endpoint, plan: str, journal: Journal | None = None
) -> AsyncIterator[TableWriter]:
    """Open the tables of an end for the block.

    Args:
        plan: the name of the move's plan.
        journal: of the move, where rows will be written by an API.

    Raises:
        Unavailable: the end cannot be reached.
    """
    url = endpoint.database
    if url is not None:
        is_postgres = url.get_backend_name() == "postgresql"
        async with PostgresTables(url, plan) if is_postgres else SqliteTables(url, plan) as tables:
            yield tables
        return
    if isinstance(endpoint, SupabaseEndpoint):
        async with DataApiTables(client_of(endpoint), journal) as api:
            yield api


def counters_of(endpoint: Endpoint) -> Counters | None:
    """Return the counters of an end; None where it is reached by an API alone."""
    url = endpoint.database
    if url is None:
        return None
    is_postgres = url.get_backend_name() == "postgresql"
    return PostgresCounters(url) if is_postgres else SqliteCounters(url)
