"""What the database says of the tables that change: columns, grants, keys, row level security."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

_TABLES = """
SELECT
    c.oid::bigint,
    r.role,
    c.relrowsecurity AND NOT coalesce(rolbypassrls OR rolsuper, false),
    (
        SELECT coalesce(json_agg(json_build_object(
            'name', a.attname,
            'type', t.typname,
            'sql_type', format_type(a.atttypid, a.atttypmod),
            'is_composed', t.typtype IN ('c', 'd') OR t.typcategory = 'A',
            'is_exact', coalesce(l.collisdeterministic, true),
            'is_key', coalesce(a.attnum = ANY (i.indkey), false),
            'is_of_policy', EXISTS (
                SELECT FROM pg_depend AS d JOIN pg_policy AS p ON p.oid = d.objid
                WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND p.polrelid = c.oid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
            ),
            'is_selectable', coalesce(
                pg_has_role('authenticator', o.oid, 'MEMBER')
                AND has_schema_privilege(o.oid, c.relnamespace, 'USAGE')
                AND has_column_privilege(o.oid, c.oid, a.attnum, 'SELECT'), false)
        ) ORDER BY a.attnum), '[]')::text
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    )
FROM pg_class AS c
CROSS JOIN unnest(%s::text[]) AS r (role)
LEFT JOIN pg_roles AS o ON o.rolname = r.role
"""

BY_OID = _TABLES + "WHERE c.oid = ANY (%s::bigint[]::oid[])"
BY_NAME = (
    _TABLES
    + """
JOIN pg_publication_tables AS p ON p.pubname = %s
    AND p.schemaname = c.relnamespace::regnamespace::text AND p.tablename = c.relname
WHERE p.schemaname = %s AND p.tablename = %s
"""
)


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column, as a role may see it.

    Attributes:
        type: its name in `pg_type`.
        sql_type: as SQL writes it.
        is_composed: whether its values are written by the database: arrays, composites, domains.
        is_exact: whether equal values have equal texts, as far as its collation says.
        is_of_policy: whether a policy of the table mentions it.
    """

    name: str
    type: str
    sql_type: str
    is_composed: bool
    is_exact: bool
    is_key: bool
    is_of_policy: bool
    is_selectable: bool


@dataclass(frozen=True)
class RoleTable:
    """A table, as a role may see it.

    Attributes:
        is_restricted: whether policies decide which rows.
        columns: by name, in the table's order.
    """

    role: str
    is_restricted: bool
    columns: Mapping[str, TableColumn]

    @cached_property
    def key(self) -> Sequence[TableColumn]:
        """The columns of the primary key."""
        return [column for column in self.columns.values() if column.is_key]

    @cached_property
    def policy_columns(self) -> Sequence[TableColumn]:
        """The columns that policies mention."""
        return [column for column in self.columns.values() if column.is_of_policy]


def read_table(row: Sequence[Any]) -> tuple[tuple[int, str], RoleTable]:
    """Read a row of the query, by the table's oid and the role."""
    oid, role, is_restricted, columns = row
    by_name = {column["name"]: TableColumn(**column) for column in orjson.loads(columns)}
    return (oid, role), RoleTable(role, is_restricted, by_name)
