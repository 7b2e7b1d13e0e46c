"""Copies what goes from one Postgres to another without being looked at."""

from collections.abc import Sequence

from sqlalchemy.engine import URL

from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint
from amphibase.move.tables.constraints import Constraints
from amphibase.move.tables.copy import BEGUN, COPIED
from amphibase.move.tables.moved_table import MovedTable
from amphibase.move.tables.passthrough import Passthrough


def postgres_url(endpoint: Endpoint) -> URL | None:
    """Return the URL of an end that is reached as a Postgres; None of another."""
    url = endpoint.database
    return url if url is not None and url.get_backend_name() == "postgresql" else None


def passes_through(table: MovedTable, context: MoveContext) -> bool:
    """Return whether a table's rows go as they are, to a table that holds no others."""
    if postgres_url(context.source) is None or postgres_url(context.target) is None:
        return False
    return not table.plan.merge and not table.namespaces


async def copy_directly(tables: Sequence[MovedTable], context: MoveContext) -> None:
    """Copy tables that pass through, and that no earlier run has copied to the end.

    Raises:
        MoveFailed: it cannot go on; says what to do.
    """
    source, target = postgres_url(context.source), postgres_url(context.target)
    assert source is not None
    assert target is not None
    journal = context.journal
    tables = [table for table in tables if journal.get("table", table.name) != COPIED]
    if not tables:  # an earlier run may have been killed while it put keys back
        await Constraints(target, journal, context.progress).put_back()
        return
    for table in tables:
        journal.put("table", table.name, BEGUN)
    passthrough = Passthrough(source, target, context.plan.name, journal, progress=context.progress)
    await passthrough.copy([table.pair for table in tables])
    for table in tables:
        journal.put("table", table.name, COPIED)
