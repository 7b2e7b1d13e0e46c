"""What the roles of the Data API may do with the tables of a project.

A new table gets no grants, as on the platform since 30 October 2026
(https://supabase.com/changelog/45329-breaking-change-tables-not-exposed-to-data-and-graphql-api-automatically).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from amphibase.gateway.project import connected

_WITHOUT_GRANTS = """
SELECT
    format('%%I.%%I', nspname, relname),
    relkind IN ('v', 'm'),
    relrowsecurity OR relkind IN ('v', 'm'),
    ARRAY(
        SELECT DISTINCT sequence.oid::regclass::text
        FROM pg_depend JOIN pg_class AS sequence ON sequence.oid = objid
        WHERE classid = 'pg_class'::regclass AND refobjid = pg_class.oid
            AND deptype = 'a' AND sequence.relkind = 'S'
        ORDER BY 1
    )
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition AND nspname = ANY(%s)
    AND relname <> 'alembic_version' AND NOT starts_with(relname, 'amphibase_')
    AND NOT EXISTS (
        SELECT FROM unnest(ARRAY['anon', 'authenticated', 'service_role']) AS role
        WHERE has_any_column_privilege(role, pg_class.oid, 'SELECT, INSERT, UPDATE')
            OR has_table_privilege(role, pg_class.oid, 'DELETE')
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
ORDER BY 1
"""


class TableWithoutGrants(NamedTuple):
    """A table or view that no role of the Data API may use.

    Attributes:
        name: with its schema, as SQL writes it.
        is_view: of either kind.
        is_guarded: whether row level security can keep its rows from others.
        sequences: what `serial` columns take their values from.
    """

    name: str
    is_view: bool
    is_guarded: bool
    sequences: Sequence[str]


async def tables_without_grants(url: str, schemas: Iterable[str]) -> list[TableWithoutGrants]:
    """Return the tables and views of schemas that no role of the Data API may use.

    Args:
        url: of the project's database, as its owner.
        schemas: the exposed ones.

    Raises:
        Unavailable: the server cannot be reached.
    """
    async with connected(url) as connection:
        await connection.execute("SET search_path = ''")
        cursor = await connection.execute(_WITHOUT_GRANTS, (list(schemas),))
        return [TableWithoutGrants(*row) for row in await cursor.fetchall()]


def grants_sql(tables: Iterable[TableWithoutGrants]) -> str:
    """Write the statements that open tables, for a migration."""
    return "\n".join("\n".join([*_statements(table), ""]) for table in tables)


def _statements(table: TableWithoutGrants) -> list[str]:
    if table.is_view:
        return [f"GRANT SELECT ON {table.name} TO anon, authenticated, service_role;"]
    lines = []
    if not table.is_guarded:
        lines.append(
            f"-- {table.name} has no row level security: whoever may read it reads every row."
        )
    lines.append(f"GRANT SELECT ON {table.name} TO anon;")
    lines.append(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table.name} TO authenticated, service_role;"
    )
    return lines + [
        f"GRANT USAGE, SELECT ON SEQUENCE {name} TO authenticated, service_role;"
        for name in table.sequences
    ]
