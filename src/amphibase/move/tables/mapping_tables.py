"""Tables of the target that hold which old id became which new one.

Such a table is copied, compared and undone as any other: its source is the column of the old ids,
once as it is and once mapped.
"""

import asyncio
import sqlite3
from contextlib import closing
from typing import LiteralString
from uuid import UUID

from psycopg.sql import SQL

from amphibase.database.errors import translated_errors
from amphibase.errors import MoveFailed
from amphibase.move.catalog import DatabaseCatalog, TableName
from amphibase.move.endpoints import Endpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import MappingPlan, Plan, TablePlan
from amphibase.move.tables.base import Selection, TablePair
from amphibase.move.tables.moved_table import MovedTable, find_table
from amphibase.move.tables.postgres_session import connect, qualified
from amphibase.move.tables.sqlite_catalog import quoted
from amphibase.move.tables.types import postgres_type

CREATED = "mapping table"
OLD, NEW = "old_id", "new_id"

ON_POSTGRES: LiteralString = (
    "CREATE TABLE {} (old_id text PRIMARY KEY, new_id uuid NOT NULL UNIQUE)"
)
ON_SQLITE = "CREATE TABLE {} (old_id TEXT PRIMARY KEY NOT NULL, new_id CHAR(32) NOT NULL UNIQUE)"


def mapping_tables(
    plan: Plan, source: DatabaseCatalog, target: DatabaseCatalog
) -> list[MovedTable]:
    """Return the mapping tables that the target has.

    Raises:
        MoveFailed: a table of that name is another one, or the source lacks the column.
    """
    tables = []
    for mapping in plan.mappings.values():
        table = target.table(mapping_name(mapping, target))
        if table is None:
            continue
        if not {OLD, NEW} <= {column.name for column in table.columns}:
            raise MoveFailed(
                f"{table.name} of the target has no columns {OLD} and {NEW}: name another table in "
                "the plan's mappings, which the run creates"
            )
        own = find_table(source, mapping.source)
        try:
            column = own.column(mapping.column)
        except KeyError:
            raise MoveFailed(
                f"{mapping.source} has no column {mapping.column}, which the plan's mappings name"
            ) from None
        old = column.base_type if own.name.schema else postgres_type(column.type)
        pair = TablePair(
            Selection(own, (column.name, column.name), (column.name,), (old, old)),
            Selection(table, (OLD, NEW), (OLD,), ("text", "uuid")),
        )
        as_plan = TablePlan(
            source=str(table.name), target=str(table.name), key=(OLD,), columns={OLD: OLD}
        )
        tables.append(MovedTable(as_plan, pair, ((1, UUID(mapping.namespace)),), (None, None)))
    return tables


def missing_mapping_tables(plan: Plan, target: DatabaseCatalog) -> list[TableName]:
    """Return the mapping tables that the target lacks."""
    names = [mapping_name(mapping, target) for mapping in plan.mappings.values()]
    return [name for name in names if target.table(name) is None]


def mapping_name(mapping: MappingPlan, target: DatabaseCatalog) -> TableName:
    """Return the name of a mapping table; its schema is `public` unless the plan has another."""
    schema, _, name = mapping.table.rpartition(".")
    if any(table.name.schema for table in target.tables):
        return TableName(schema or "public", name)
    return TableName(None, mapping.table)


async def create_mapping_tables(
    endpoint: Endpoint, names: list[TableName], journal: Journal
) -> bool:
    """Create mapping tables in a database; return False where none is within reach.

    On Postgres nobody but their owner reads them, whatever an API exposes.
    """
    for name in names:
        if endpoint.database is None:
            return False
        journal.put(CREATED, str(name), list(name))
        if name.schema is None:
            await _run_on_sqlite(endpoint, ON_SQLITE.format(quoted(name.name)))
            continue
        with translated_errors():
            async with await connect(endpoint.database) as connection, connection.transaction():
                await connection.execute(SQL(ON_POSTGRES).format(qualified(name)))
                protect = SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY")
                await connection.execute(protect.format(qualified(name)))
    return True


async def drop_mapping_tables(endpoint: Endpoint, journal: Journal) -> None:
    """Drop the mapping tables that the move has created, once their rows are gone."""
    for text, (schema, name) in list(journal.entries(CREATED)):
        table = TableName(schema, name)
        assert endpoint.database is not None
        if schema is None:
            await _run_on_sqlite(endpoint, f"DROP TABLE IF EXISTS {quoted(name)}")
        else:
            with translated_errors():
                async with await connect(endpoint.database) as connection:
                    await connection.execute(
                        SQL("DROP TABLE IF EXISTS {}").format(qualified(table))
                    )
        journal.delete(CREATED, text)


async def _run_on_sqlite(endpoint: Endpoint, statement: str) -> None:
    assert endpoint.database is not None
    path = endpoint.database.database or ""

    def run() -> None:
        with translated_errors(), closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute(statement)

    await asyncio.to_thread(run)
