"""Reads the row level security of a database: policies and privileges, as Postgres writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, text

from amphibase.schema.ddl import PREFIX
from amphibase.schema.generated_functions import SCHEMA, in_default_schema, restrict
from amphibase.schema.grants import COMMANDS, ROLES, Grant, among, grant, revoke_all
from amphibase.schema.policies import Policy, enable, needed
from amphibase.schema.scope_functions import PREFIX as SCOPE_PREFIX
from amphibase.schema.search_functions import PREFIX as SEARCH_PREFIX
from amphibase.schema.triggers import Trigger, existing, is_guard


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
            *grant(table, among(self.grants, needed(self.policies.values(), self.sequences))),
        ]

    def create(self, table: str, name: str) -> str:
        """Return the statement that creates one of its policies."""
        return (self.written.get(name) or self.policies[name]).create(table)


@dataclass(frozen=True, slots=True)
class FunctionSecurity:
    """A function of a scope or of a search.

    Args:
        definition: the statement that creates it, as Postgres writes it, for `in_default_schema`.
        callers: the roles of callers that may call it, and `public` for all roles.
        arguments: their types, as SQL.
        limited_by: the tables whose policies limit the function's owner, too.
        written: the statement as people would write it, where available.
    """

    definition: str
    callers: frozenset[str]
    arguments: str = ""
    limited_by: tuple[str, ...] = ()
    written: str = ""

    def equals(self, other: "FunctionSecurity | None") -> bool:
        """Return whether another does the same; revisions indent the lines of a body."""
        return (
            other is not None
            and self.callers == other.callers
            and self.definition.split() == other.definition.split()
        )

    def create(self, name: str) -> list[str]:
        """Return the statements that create it."""
        created = self.written or in_default_schema(self.definition)
        return [created, *restrict(name, self.arguments, self.callers)]


@dataclass(frozen=True, slots=True)
class Security:
    """The row level security of a database.

    Args:
        tables: by their names.
        functions: of scopes and searches, by their names.
        triggers: by table and function.
    """

    tables: dict[str, TableSecurity] = field(default_factory=dict)
    functions: dict[str, FunctionSecurity] = field(default_factory=dict)
    triggers: dict[tuple[str, str], Trigger] = field(default_factory=dict)


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

# Functions that have another schema in their search path are another application's.
_FUNCTIONS = """
SELECT
    p.proname::text,
    replace(
        replace(pg_get_functiondef(p.oid), '%', '%%'),
        'SET search_path TO ' || quote_literal(current_schema()) || ',',
        'SET search_path TO %1$I,'
    ),
    ARRAY(
        SELECT DISTINCT coalesce(r.rolname::text, 'public')
        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE a.privilege_type = 'EXECUTE' AND (
            a.grantee = 0
            OR r.rolname = ANY (:roles) AND has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
        )
    ),
    pg_get_function_identity_arguments(p.oid),
    ARRAY(
        SELECT c.relname::text FROM pg_class c JOIN pg_roles o ON o.oid = p.proowner
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relrowsecurity
            AND strpos(p.prosrc, 'FROM ' || quote_ident(c.relname) || E'\\n') > 0
            AND NOT (o.rolsuper OR o.rolbypassrls)
            AND (c.relforcerowsecurity OR NOT pg_has_role(o.oid, c.relowner, 'USAGE'))
        ORDER BY 1
    )
FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(:schema) AND p.proname ^@ ANY (:prefixes)
    AND EXISTS (
        SELECT FROM unnest(p.proconfig) AS setting
        WHERE starts_with(setting, 'search_path=' || quote_ident(current_schema()) || ',')
    )
"""

_COLUMN_GRANTS = """
SELECT c.relname::text, r.rolname::text, acl.privilege_type, a.attname::text
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(a.attacl) AS acl
JOIN pg_roles r ON r.oid = acl.grantee
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT a.attisdropped
    AND r.rolname = ANY (:roles) AND acl.privilege_type = ANY (:privileges)
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


def read_security(
    connection: Connection, spelling: Mapping[str | None, str | None] | None = None
) -> Security:
    """Return the row level security of the default schema.

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
    for table, role, privilege, column in connection.execute(text(_COLUMN_GRANTS), parameters):
        grants.setdefault(table, set()).add(Grant(role, privilege, column))
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
    triggers = {
        (each.table, each.function): each for each in existing(connection) if is_guard(each)
    }
    return Security(states, read_functions(connection), triggers)


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


def read_functions(connection: Connection, schema: str = SCHEMA) -> dict[str, FunctionSecurity]:
    """Return the functions of scopes and searches that are in a schema, by name."""
    prefixes = [SCOPE_PREFIX, SEARCH_PREFIX]
    parameters = {"schema": schema, "prefixes": prefixes, "roles": list(ROLES)}
    return {
        name: FunctionSecurity(definition, frozenset(callers), arguments, tuple(limited_by))
        for name, definition, callers, arguments, limited_by in connection.execute(
            text(_FUNCTIONS), parameters
        )
    }


def by_command(name: str) -> int:
    """Return the place of a policy among those of its table, by its name."""
    command = name.removesuffix("_anon").rpartition("_")[2].upper()
    return [*COMMANDS, command].index(command)
