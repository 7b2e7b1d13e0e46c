"""What the database says of the tables that change: columns, grants, keys, row level security."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from amphibase.database.statement import Call, Statement
from amphibase.gateway.realtime.changes.filters import EXACT
from amphibase.gateway.realtime.changes.policy_reading import (
    Function,
    PolicyReading,
    ReadPolicy,
    read_policies,
)
from amphibase.gateway.realtime.changes.possible_rows import ANY_ROW
from amphibase.gateway.realtime.changes.session import QuestionSession
from amphibase.replication.visibility import array_of

# The constant `true`; the server's own way to write an expression (`pg_get_expr`) waits for locks.
_TRUE = r"^\{CONST :consttype 16 .*:constisnull false .*:constvalue 1 \[ 1 "

_TABLES = """
SELECT
    c.oid::bigint,
    r.role,
    ARRAY[n.nspname, c.relname]::text[],
    c.relrowsecurity AND NOT coalesce(rolbypassrls OR rolsuper, false),
    c.relrowsecurity AND coalesce(s.shows_all, false) AND NOT EXISTS (
        SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND NOT p.polpermissive
            AND p.polcmd IN ('r', '*')
    ),
    s.shows_all IS NOT NULL,
    (
        SELECT coalesce(json_agg(json_build_object(
            'name', a.attname,
            'number', a.attnum,
            'type', t.typname,
            'sql_type', format_type(a.atttypid, -1),
            'is_composed', t.typtype IN ('c', 'd') OR t.typcategory = 'A',
            'is_exact', coalesce(l.collisdeterministic, true),
            'is_key', coalesce(
                a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]), false
            ),
            'is_of_policy', EXISTS (
                SELECT FROM pg_depend AS d JOIN pg_policy AS p ON p.oid = d.objid
                WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND p.polrelid = c.oid AND d.refobjid = c.oid AND (
                        d.refobjsubid = a.attnum OR d.refobjsubid IN (
                            SELECT e.adnum FROM pg_attrdef AS e JOIN pg_depend AS g
                                ON g.classid = 'pg_attrdef'::regclass AND g.objid = e.oid
                            WHERE e.adrelid = c.oid AND g.refclassid = 'pg_class'::regclass
                                AND g.refobjid = c.oid AND g.refobjsubid = a.attnum
                        )
                    )
            ),
            'is_generated', a.attgenerated <> '',
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
    ),
    coalesce(pg_has_role(o.oid, c.relowner, 'USAGE'), true),
    s.policies::text,
    (
        SELECT json_object_agg(f.oid, json_build_object(
            'name', CASE
                WHEN f.pronamespace = to_regnamespace('auth')
                    AND l.lanname = 'sql' AND f.proconfig IS NULL AND NOT f.prosecdef
                THEN f.proname
            END,
            'body', f.prosrc,
            'is_constant', f.provolatile = 'i' AND f.oid < 16384,
            'is_declared_immutable', f.provolatile = 'i' AND f.oid >= 16384,
            'names_table', f.oid >= 16384 AND (
                lower(c.relname) = ANY (regexp_split_to_array(lower(f.prosrc), '[^[:alnum:]_$]+'))
                OR c.relname ~ '[^[:alnum:]_$]' AND position(c.relname IN f.prosrc) > 0
                OR EXISTS (
                    SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                )
            )
        ))::text
        FROM pg_proc AS f JOIN pg_language AS l ON l.oid = f.prolang
        WHERE f.oid IN (
            SELECT m[1]::oid FROM pg_policy AS p,
                regexp_matches(p.polqual::text, 'funcid ([0-9]+)', 'g') AS m
            WHERE p.polrelid = c.oid
        )
    )
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN unnest(__ROLES__::text[]) AS r (role)
LEFT JOIN pg_roles AS o ON o.rolname = r.role
LEFT JOIN LATERAL (
    SELECT
        bool_or(p.polqual::text ~ __TRUE__) FILTER (WHERE p.polpermissive) AS shows_all,
        json_agg(json_build_object(
            'is_permissive', p.polpermissive, 'expression', p.polqual::text
        )) FILTER (WHERE p.polqual IS NOT NULL) AS policies
    FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*')
        AND EXISTS (
            SELECT FROM unnest(p.polroles) AS m (role)
            WHERE m.role = 0 OR pg_has_role(o.oid, m.role, 'USAGE')
        )
) AS s ON true
""".replace("__TRUE__", f"'{_TRUE}'")

_BY_OID = Statement(_TABLES.replace("__ROLES__", "$1") + "WHERE c.oid = ANY ($2::bigint[]::oid[])")
BY_NAME = Statement(
    _TABLES.replace("__ROLES__", "$1")
    + """
JOIN pg_publication_tables AS p ON p.pubname = $2
    AND p.schemaname = c.relnamespace::regnamespace::text AND p.tablename = c.relname
WHERE p.schemaname = $3 AND p.tablename = $4
"""
)

_OIDS = Statement("""
SELECT c.oid::bigint, n.nspname, c.relname
FROM unnest($1::text[], $2::text[]) AS t (schema, name)
JOIN pg_namespace AS n ON n.nspname = t.schema
JOIN pg_class AS c ON c.relname = t.name AND c.relnamespace = n.oid
""")

# Which versions the rows of the catalog have that `_TABLES` reads.
_VERSIONS = Statement("""
SELECT c.oid::bigint, concat_ws('/', c.xmin, n.xmin,
    (SELECT string_agg(concat(a.xmin, ',', t.xmin), ' ' ORDER BY a.attnum)
        FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0),
    (SELECT string_agg(concat(i.indexrelid, ',', i.xmin), ' ' ORDER BY i.indexrelid)
        FROM pg_index AS i WHERE i.indrelid = c.oid),
    (SELECT string_agg(concat(p.oid, ',', p.xmin), ' ' ORDER BY p.oid)
        FROM pg_policy AS p WHERE p.polrelid = c.oid),
    (SELECT string_agg(concat(o.oid, o.rolname, o.rolsuper, o.rolinherit, o.rolbypassrls), ' '
            ORDER BY o.oid)
        FROM pg_roles AS o),
    (SELECT string_agg(m.xmin::text, ' ' ORDER BY m.roleid, m.member, m.xmin::text)
        FROM pg_auth_members AS m),
    (SELECT string_agg(concat(f.oid, ',', f.xmin), ' ' ORDER BY f.oid)
        FROM pg_policy AS p
        JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
        JOIN pg_proc AS f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
        WHERE p.polrelid = c.oid))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1::bigint[]::oid[])
""")


TableName = tuple[str, str]
"""A schema, and a table in it."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column, as a role may see it.

    Attributes:
        number: its own in the table.
        type: its name in `pg_type`.
        sql_type: as SQL writes it, without a length or precision, which would change what is
            compared with its values.
        is_composed: whether its values are written by the database: arrays, composites, domains.
        is_exact: whether equal values have equal texts, as far as its collation says.
        is_of_policy: whether a policy of the table mentions it, or a column that is generated from
            it.
    """

    name: str
    number: int
    type: str
    sql_type: str
    is_composed: bool
    is_exact: bool
    is_key: bool
    is_of_policy: bool
    is_generated: bool
    is_selectable: bool


@dataclass(frozen=True)
class RoleTable:
    """A table, as a role may see it.

    Attributes:
        name: its schema and its own, by now: a change may be of the time before it was renamed.
        is_restricted: whether policies decide which rows.
        has_policy: whether a policy lets the role read some rows.
        shows_all_rows: whether a policy is `true`, so that no row needs to be asked about.
        is_owner: whether the role has the rights of the table's owner, for whom policies may not
            count.
        columns: by name, in the table's order.
        policies: those for the role.
        functions: that policies of the table call, by their oids.
    """

    role: str
    name: TableName
    is_restricted: bool
    shows_all_rows: bool
    has_policy: bool
    is_owner: bool
    columns: Mapping[str, TableColumn]
    policies: Sequence[ReadPolicy]
    functions: Mapping[str, Function]

    @cached_property
    def key(self) -> Sequence[TableColumn]:
        """The columns of the primary key."""
        return [column for column in self.columns.values() if column.is_key]

    @cached_property
    def has_known_key(self) -> bool:
        """Whether there is a primary key, all of which the role may select."""
        return bool(self.key) and all(column.is_selectable for column in self.key)

    @property
    def is_readable(self) -> bool:
        """Whether the role may select anything."""
        return any(column.is_selectable for column in self.columns.values())

    @property
    def asks_policies(self) -> bool:
        """Whether the database decides for each caller which rows there are."""
        return self.is_restricted and not self.shows_all_rows and self.has_known_key

    @cached_property
    def policy_columns(self) -> Sequence[TableColumn]:
        """The columns by which policies decide."""
        takes_row = self._reading.takes_row
        return [each for each in self.columns.values() if takes_row or each.is_of_policy]

    @cached_property
    def reading(self) -> PolicyReading:
        """What is known of the policies without asking them."""
        # A column that the role may not select may have had another value than the change has.
        is_shown = all(column.is_selectable for column in self.policy_columns)
        reading = self._reading
        return reading if is_shown and not self.is_owner else reading._replace(condition=ANY_ROW)

    @cached_property
    def _reading(self) -> PolicyReading:
        columns = {
            str(column.number): column.name
            for column in self.columns.values()
            if column.type in EXACT and column.is_exact
        }
        return read_policies(self.policies, self.functions, columns)


Tables = Mapping[tuple[int, str], RoleTable]
"""By the oid and the role."""


class TableCatalog:
    """Tables as roles may see them, read again where the catalog's rows have changed."""

    def __init__(self) -> None:
        self._versions: dict[int, str] = {}
        self._tables: dict[tuple[int, str], RoleTable] = {}

    async def read(
        self,
        session: QuestionSession,
        versions: Mapping[int, str],
        roles: Collection[str],
    ) -> Tables:
        """Return the tables that are there.

        Args:
            versions: of the tables by their oids, as `versions_call` has just read them: a
                right that was taken away before that is not there any more.
        """
        if any(version != self._versions.get(oid, version) for oid, version in versions.items()):
            await session.run(Call(Statement("DISCARD PLANS")))
            self._versions.clear()
            self._tables.clear()
        if any((oid, role) not in self._tables for oid in versions for role in roles):
            (rows,) = await session.run(Call(_BY_OID, [[*roles], [*versions]]))
            self._tables.update(map(read_table, rows))
            self._versions.update(versions)
        return {
            (oid, role): table
            for oid in versions
            for role in roles
            if (table := self._tables.get((oid, role))) is not None
        }

    def latest(
        self, oids: Collection[int], roles: Collection[str]
    ) -> tuple[Mapping[int, str], Tables] | None:
        """Return the versions and the tables as they were read last; None where one was not."""
        try:
            versions = {oid: self._versions[oid] for oid in oids}
            return versions, {
                (oid, role): self._tables[oid, role] for oid in oids for role in roles
            }
        except KeyError:
            return None


def oids_call(names: Collection[TableName]) -> Call:
    """Return the call that reads the oids of tables, beside their schemas and names."""
    return Call(_OIDS, [[schema for schema, _ in names], [table for _, table in names]])


def versions_call(oids: Collection[int]) -> Call:
    """Return the call that reads the versions of tables, by their oids."""
    return Call(_VERSIONS, [array_of(oids)])


def read_table(row: Sequence[Any]) -> tuple[tuple[int, str], RoleTable]:
    """Read a row of the query, by the table's oid and the role."""
    oid, role, name, is_restricted, shows_all_rows, has_policy, columns, is_owner, *of_policies = (
        row
    )
    policies, functions = (orjson.loads(each or "null") for each in of_policies)
    return (oid, role), RoleTable(
        role,
        tuple(name),
        is_restricted,
        shows_all_rows,
        has_policy,
        is_owner,
        {column["name"]: TableColumn(**column) for column in orjson.loads(columns)},
        [ReadPolicy(**each) for each in policies or ()],
        {oid: Function(**each) for oid, each in (functions or {}).items()},
    )
