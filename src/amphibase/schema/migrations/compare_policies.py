"""Compares the row level security of a database with what the models declare, and applies it.

Both sides are compared as Postgres writes them back, so that spelling does not matter: the wanted
policies are created on temporary tables, in a savepoint that is rolled back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sqlalchemy import Connection, text

from amphibase.access import Access, admin, everyone, owner
from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.compare_tables import Difference
from amphibase.schema.policies import (
    COMMANDS,
    PREFIX,
    ROLES,
    Grant,
    Policy,
    TableRules,
    declared,
    disable,
    enable,
    grant,
    needed,
    quoted,
    revoke,
    revoke_all,
    run,
)

OTHER_DECLARATIONS = (
    Access(read=owner, write=owner),
    Access(read=owner | admin, write=admin),
    Access(read=owner, write=admin),
    Access(read=owner, write=everyone),
)
"""Between them they have every condition that there is."""


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
        statements += [self.create(table, name) for name in sorted(self.policies, key=_by_command)]
        return [
            *statements,
            *grant(table, self.grants & needed(self.policies.values(), self.sequences)),
        ]

    def create(self, table: str, name: str) -> str:
        """Return the statement that creates one of its policies."""
        return (self.written.get(name) or self.policies[name]).create(table)


@dataclass(slots=True)
class PolicyChanges:
    """The statements that change row level security to what is declared, and back.

    Args:
        before: run before columns and tables change, since a column that a policy
            uses cannot be dropped.
        after: run after that.
        undo_before: the reverse of `after`, before columns and tables change back.
        undo_after: the reverse of `before`.
    """

    differences: list[Difference] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    undo_before: list[str] = field(default_factory=list)
    undo_after: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.undo_before or self.undo_after)

    def add(
        self,
        kind: Literal["missing", "extra", "changed", "off"],
        subject: str,
        table: str,
        detail: str = "",
    ) -> None:
        """Add a difference."""
        self.differences.append(Difference("application", kind, subject, table, detail))


def compare_policies(connection: Connection, chain: Chain) -> PolicyChanges:
    """Return the changes that make the database as the models declare, table by table.

    Tables that do not exist yet are part of it: a revision creates them.
    """
    rules = declared(chain.metadata)
    wanted, spelling = _wanted(connection, rules)
    actual = read_table_security(connection, spelling)
    changes = PolicyChanges()
    for table in sorted(actual.keys() | wanted.keys()):
        if chain.owns_name(table):
            _compare(changes, table, wanted.get(table), actual.get(table))
    return changes


def policy_differences(connection: Connection, chain: Chain) -> list[Difference]:
    """Return how the row level security of existing tables differs from what the models declare."""
    return compare_policies(connection, chain).differences


def apply_declared_policies(connection: Connection, chain: Chain) -> None:
    """Change a database to what the models declare; policies written by hand stay.

    All tables of the models must exist.
    """
    changes = compare_policies(connection, chain)
    run(connection, *changes.before, *changes.after)


def apply_policies(connection: Connection, created: dict[str, TableSecurity]) -> None:
    """Give existing tables the policies that the revisions create.

    Args:
        created: what the revisions create, by table.
    """
    actual = read_table_security(connection)
    changes = PolicyChanges()
    for table in sorted(created.keys() & actual.keys()):
        wanted, present = created[table], actual[table]
        # What exists beyond the revisions waits for a revision of its own.
        policies = {
            name: policy for name, policy in present.policies.items() if name in wanted.policies
        }
        _compare(changes, table, wanted, replace(present, policies=policies))
    run(connection, *changes.before, *changes.after)


def _compare(
    changes: PolicyChanges, table: str, wanted: TableSecurity | None, actual: TableSecurity | None
) -> None:
    if wanted is None:
        if actual is not None:
            changes.undo_after += actual.restore(table)  # the table itself is dropped
        return
    if actual is None:
        changes.after += wanted.restore(table)
        return
    is_new = wanted.enabled and not actual.enabled
    if is_new:
        changes.add("off", f"row level security of {table}", table)
        changes.after.append(enable(table))
        changes.undo_before.insert(0, disable(table))
    if actual.restricts_service:
        detail = "it restricts the service too, whose user should own the table"
        changes.add("changed", f"row level security of {table}", table, detail)
    for name in sorted(wanted.policies.keys() | actual.policies.keys(), key=_by_command):
        _compare_policy(changes, table, name, wanted, actual)
    held = wanted.grants & needed(wanted.policies.values(), actual.sequences)
    lacking = held - actual.grants
    for each in sorted(lacking):
        where = f"the sequence of {table}.{each.column}" if each.column else table
        changes.add("missing", f"privilege {each.privilege} on {where} for {each.role}", table)
    excess = actual.grants - held
    if is_new and excess and not actual.by_hand:
        # Default privileges gave more than is declared when the table was created.
        changes.after += [revoke_all(table), *grant(table, sorted(held))]
        changes.undo_before[:0] = grant(table, sorted(excess))
    else:
        changes.after += grant(table, sorted(lacking))
    changes.undo_before[:0] = revoke(table, sorted(lacking))
    if not actual.by_hand:
        # Other privileges may serve others, and open no row by themselves.
        before = needed(actual.policies.values(), actual.sequences)
        ended = sorted((before - held) & actual.grants)
        changes.before += revoke(table, ended)
        changes.undo_after += grant(table, ended)


def _compare_policy(
    changes: PolicyChanges, table: str, name: str, wanted: TableSecurity, actual: TableSecurity
) -> None:
    subject = f"policy {name} of {table}"
    should_be, is_ = wanted.policies.get(name), actual.policies.get(name)
    if should_be == is_:
        return
    if is_ is not None:
        changes.before.append(is_.drop(table))
        changes.undo_after.append(actual.create(table, name))
    if should_be is not None:
        changes.after.append(wanted.create(table, name))
        changes.undo_before.append(should_be.drop(table))
    if is_ is None:
        changes.add("missing", subject, table)
    elif should_be is None:
        changes.add("extra", subject, table)
    else:
        changes.add("changed", subject, table, "; ".join(_details(should_be, is_)))


def _details(should_be: Policy, is_: Policy) -> list[str]:
    pairs = [
        ("its command should be {}, is {}", should_be.command, is_.command),
        ("its roles should be {}, are {}", ", ".join(should_be.roles), ", ".join(is_.roles)),
        ("its condition should be {}, is {}", should_be.using, is_.using),
        ("its check should be {}, is {}", should_be.check, is_.check),
        ("it should be {}, is {}", _kind(should_be), _kind(is_)),
    ]
    return [
        words.format(first or "none", second or "none")
        for words, first, second in pairs
        if first != second
    ]


def _kind(policy: Policy) -> str:
    return "permissive" if policy.permissive else "restrictive"


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
    policies = _read_policies(connection, schema)
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


def _read_policies(connection: Connection, schema: str) -> dict[str, list[Policy]]:
    policies: dict[str, list[Policy]] = {}
    rows = connection.execute(text(_POLICIES), {"schema": schema})
    for table, name, command, roles, using, check, permissive in rows:
        policy = Policy(name, command, tuple(roles), using, check, permissive)
        policies.setdefault(table, []).append(policy)
    return policies


def _by_command(name: str) -> int:
    command = name.rpartition("_")[2].upper()
    return [*COMMANDS, command].index(command)


def _wanted(
    connection: Connection, rules: Sequence[TableRules]
) -> tuple[dict[str, TableSecurity], dict[str | None, str | None]]:
    """What the models declare, as Postgres writes it; and its spelling of all conditions."""
    owners = {each.owner.name: each for each in rules if each.owner is not None}
    others = [
        replace(each, access=access) for each in owners.values() for access in OTHER_DECLARATIONS
    ]
    temporary = {f"{PREFIX}wanted_{number}": each for number, each in enumerate([*rules, *others])}
    savepoint = connection.begin_nested()
    try:
        for name, each in temporary.items():
            _create_policies(connection, name, each)
        schema = "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()"
        temporary_schema = connection.exec_driver_sql(schema).scalar()
        created = _read_policies(connection, temporary_schema) if temporary_schema else {}
    finally:
        savepoint.rollback()
    wanted: dict[str, TableSecurity] = {}
    spelling: dict[str | None, str | None] = {}
    for name, each in temporary.items():
        policies = {policy.name: policy for policy in created.get(name, ())}
        written = {policy.name: policy for policy in each.policies()}
        for policy in policies.values():
            spelling[policy.using] = written[policy.name].using
            spelling[policy.check] = written[policy.name].check
        if each.table not in wanted:
            sequences = frozenset([each.key] if each.key else [])
            grants = frozenset(each.grants())
            wanted[each.table] = TableSecurity(
                True, policies, grants, sequences=sequences, written=written
            )
    return wanted, spelling


def _create_policies(connection: Connection, name: str, rules: TableRules) -> None:
    policies = rules.policies()
    if not policies:
        return
    column = f"{quoted(rules.owner.name)} uuid" if rules.owner is not None else ""
    run(connection, f"CREATE TEMPORARY TABLE {name} ({column})")
    run(connection, *(policy.create(name) for policy in policies))
