"""Reads the row level security of a database: policies and privileges, as Postgres writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, text

from amphibase.schema.grants import COMMANDS, ROLES, Grant, grant, revoke_all
from amphibase.schema.policies import PREFIX, Policy, enable, needed


@dataclass(frozen=True, slots=True)
class TableSecurity:
    """The row level security of one table.

    Args:
        policies: those of Amphibase, by name, as Postgres writes them.
        by_hand: whether it has other policies, too.
        sequences: the columns that count up by a sequence.
        written: the policies as people would write them, where available.
        restricts_service: whether the connection's own user is restricted, too.
    """

    enabled: bool
    policies: dict[str, Policy]
    grants: frozenset[Grant]
    by_hand: bool = False
    sequences: frozenset[str] = frozenset()
    written: dict[str, Policy] = field(default_factory=dict)
    restricts_service: bool = False

    def restore(self, table: str) -> list[str]:
        """Return the statements that create it on a new table."""
        statements = [enable(table), revoke_all(table)] if self.enabled else []
        statements += [self.create(table, name) for name in sorted(self.policies, key=by_command)]
        return [
            *statements,
            *grant(table, self.grants & needed(self.policies.values(), self.sequences)),
        ]

    def create(self, table: str, name: str) -> str:
        """Return the statement that creates one of its policies."""
        return (self.written.get(name) or self.policies[name]).create(table)


_STATES = """
SELECT c.relname::text, c.relrowsecurity, row_security_active(c.oid) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
"""

_POLICIES = """
SELECT
    c.relname::text,
    p.polname::text,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
        WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    ARRAY(
        SELECT coalesce(r.rolname::text, 'public') FROM unnest(p.polroles) AS each(oid)
        LEFT JOIN pg_roles r ON r.oid = each.oid ORDER BY 1
    ),
    pg_get_expr(p.polqual, p.polrelid),
    pg_get_expr(p.polwithcheck, p.polrelid),
    p.polpermissive
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema
"""

_GRANTS = """
SELECT c.relname::text, r.rolname::text, privilege FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(CAST(:privileges AS text[])) AS privilege
JOIN pg_roles r ON r.rolname = ANY (:roles)
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
    AND has_table_privilege(r.oid, c.oid, privilege)
"""

_SEQUENCES = """
SELECT c.relname::text, a.attname::text, ARRAY(
    SELECT r.rolname::text FROM pg_roles r
    WHERE r.rolname = ANY (:roles) AND has_sequence_privilege(r.oid, s.oid, 'USAGE')
)
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_class c ON c.oid = d.refobjid
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.deptype = 'a' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
"""


def read_table_security(
    connection: Connection, spelling: Mapping[str | None, str | None] | None = None
) -> dict[str, TableSecurity]:
    """Return the row level security of every table of the default schema.

    Args:
        spelling: conditions as Postgres writes them, and as people do.
    """
    spellings = spelling or {}
    schema = connection.exec_driver_sql("SELECT current_schema()::text").scalar_one()
    policies = read_policies(connection, schema)
    roles = list(ROLES)
    grants: dict[str, set[Grant]] = {}
    columns: dict[str, set[str]] = {}
    parameters = {"privileges": list(COMMANDS), "roles": roles}
    for table, role, privilege in connection.execute(text(_GRANTS), parameters):
        grants.setdefault(table, set()).add(Grant(role, privilege))
    for table, column, holders in connection.execute(text(_SEQUENCES), {"roles": roles}):
        columns.setdefault(table, set()).add(column)
        held = grants.setdefault(table, set())
        held.update(Grant(role, "USAGE", column) for role in holders)
    states = {}
    for table, enabled, restricts_service in connection.exec_driver_sql(_STATES):
        own = {policy.name: policy for policy in policies.get(table, ()) if _is_own(policy)}
        states[table] = TableSecurity(
            enabled,
            own,
            frozenset(grants.get(table, ())),
            by_hand=len(own) < len(policies.get(table, ())),
            sequences=frozenset(columns.get(table, ())),
            written={
                name: replace(
                    policy,
                    using=spellings.get(policy.using, policy.using),
                    check=spellings.get(policy.check, policy.check),
                )
                for name, policy in own.items()
            },
            restricts_service=restricts_service,
        )
    return states


def _is_own(policy: Policy) -> bool:
    return policy.name.startswith(PREFIX)


def read_policies(connection: Connection, schema: str) -> dict[str, list[Policy]]:
    """Return the policies of the tables of a schema, by table, as Postgres writes them."""
    policies: dict[str, list[Policy]] = {}
    rows = connection.execute(text(_POLICIES), {"schema": schema})
    for table, name, command, roles, using, check, permissive in rows:
        policy = Policy(name, command, tuple(roles), using, check, permissive)
        policies.setdefault(table, []).append(policy)
    return policies


def by_command(name: str) -> int:
    """Return the place of a policy among those of its table, by its name."""
    command = name.rpartition("_")[2].upper()
    return [*COMMANDS, command].index(command)
