"""What an end of a move has: the application's tables, accounts, and buckets of files."""

from dataclasses import dataclass

from amphibase.backend import SERVICE
from amphibase.errors import Unavailable
from amphibase.move.catalog import CatalogTable, DatabaseCatalog, TableName
from amphibase.move.endpoints import Endpoint, SupabaseEndpoint
from amphibase.move.project import client_of
from amphibase.move.tables.base import Selection, TableReader
from amphibase.move.tables.sides import open_tables
from amphibase.schema.tables import tables as own_tables

OWN_SCHEMAS = frozenset((
    "_analytics", "_realtime", "amphibase", "amphibase_freeze", "amphibase_move", "auth", "cron",
    "dbdev", "extensions", "graphql", "graphql_public", "net", "pgbouncer", "pgmq_public",
    "pgsodium", "pgsodium_masks", "pgtle", "realtime", "storage", "supabase_functions",
    "supabase_migrations", "tiger", "tiger_data", "topology", "vault",
))  # fmt: skip
"""Of Supabase, its extensions and Amphibase: accounts and files have stages of their own, and the
rest belongs to the server."""

QUEUES = "pgmq"
"""The schema in which a project keeps queues: these are the application's tables, and the functions
and the list of queues are Supabase's."""

OWN_TABLES = frozenset((
    "alembic_version", "amphibase_changes", "amphibase_freeze", "amphibase_messages",
    "amphibase_presence_processes", "amphibase_presences",
    "auth_amphibase_version", "storage_amphibase_version",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an end has.

    Args:
        buckets: the names of those of its files.
    """

    endpoint: Endpoint
    catalog: DatabaseCatalog
    buckets: tuple[str, ...] = ()

    @property
    def has_accounts(self) -> bool:
        return self._has("auth", "users")

    @property
    def has_files(self) -> bool:
        return self._has("storage", "objects")

    def tables(self) -> list[CatalogTable]:
        """Return the application's own tables."""
        return [table for table in self.catalog.tables if not is_own(table.name)]

    def sequences(self) -> list[TableName]:
        """Return the application's own sequences that no column counts by."""
        return [name for name in self.catalog.sequences if not is_own(name)]

    def _has(self, schema: str, name: str) -> bool:
        if isinstance(self.endpoint, SupabaseEndpoint):
            return True
        names = (TableName(schema, name), TableName(None, f"{schema}_{name}"))
        return any(self.catalog.table(each) is not None for each in names)


def is_own(name: TableName) -> bool:
    """Return whether a table is Amphibase's or Supabase's, and not the application's."""
    if name.name in OWN_TABLES or name.schema in OWN_SCHEMAS or name == (QUEUES, "meta"):
        return True
    return name.schema is None and name.name in _own_names()


def _own_names() -> frozenset[str]:
    own = own_tables("sqlite")
    return frozenset(
        table.name for chain in (own.auth, own.storage) for table in chain.sorted_tables
    )


async def read_inventory(endpoint: Endpoint, plan: str) -> Inventory:
    """Read what an end has.

    Args:
        plan: the name of the plan that is to be made.

    Raises:
        AmphibaseError: the end cannot be reached or read; says why.
    """
    try:
        async with open_tables(endpoint, plan) as tables:
            catalog = await tables.catalog()
            if isinstance(endpoint, SupabaseEndpoint):
                buckets = await _buckets_of_project(endpoint)
            else:
                buckets = await _buckets_of_database(tables, catalog)
    except Unavailable as error:
        where = f"The {endpoint.role}, {endpoint.address}: "
        raise Unavailable(where + error.detail, retry_after=error.retry_after) from error
    return Inventory(endpoint, catalog, buckets)


async def _buckets_of_database(tables: TableReader, catalog: DatabaseCatalog) -> tuple[str, ...]:
    names = (TableName("storage", "buckets"), TableName(None, "storage_buckets"))
    table = next((each for each in map(catalog.table, names) if each is not None), None)
    if table is None:
        return ()
    selection = Selection(table, ("id",), ("id",), ("text",))
    return tuple([row[0] or "" async for chunk in tables.read(selection) for row in chunk.rows])


async def _buckets_of_project(endpoint: SupabaseEndpoint) -> tuple[str, ...]:
    client = client_of(endpoint)
    try:
        response = await client.request("storage", "GET", "/bucket", SERVICE)
    finally:
        await client.close()
    return tuple(sorted(bucket["id"] for bucket in response.json()))
