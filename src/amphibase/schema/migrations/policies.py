"""Row level security in a database beside what the models declare: compared, and brought in line.

Both sides are compared as Postgres writes them back, so that spelling does not matter: the wanted
policies are made on temporary tables, in a savepoint that is rolled back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sqlalchemy import Connection, text

from amphibase.access import Access, admin, owner
from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.differences import Difference
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
    run,
)

OTHER_DECLARATIONS = (
    Access(read=owner, write=owner),
    Access(read=owner | admin, write=admin),
    Access(read=owner, write=admin),
)
"""Between them they have every condition that there is."""


@dataclass(frozen=True, slots=True)
class State:
    """The row level security of one table.

    Args:
        policies: our own, by name, as Postgres writes them.
        by_hand: whether it has policies of others.
        sequences: the columns that count up by a sequence.
        written: the policies as people would write them, where that is known.
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
        """What makes it on a new table."""
        made = [enable(table)] if self.enabled else []
        made += [self.create(table, name) for name in sorted(self.policies, key=_by_command)]
        return [*made, *grant(table, self.grants & needed(self.policies.values(), self.sequences))]

    def create(self, table: str, name: str) -> str:
        """What makes one of its policies."""
        return (self.written.get(name) or self.policies[name]).create(table)


@dataclass(slots=True)
class Changes:
    """What brings row level security in line, and back again.

    Args:
        before: what is to run before columns and tables change, since a column that a policy
            speaks of cannot be dropped.
        after: what is to run after that.
        undo_before: the reverse of `after`, before columns and tables change back.
        undo_after: the reverse of `before`.
    """

    found: list[Difference] = field(default_factory=list)
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
        """Note a difference."""
        self.found.append(Difference("application", kind, subject, table, detail))


def compare_policies(connection: Connection, chain: Chain) -> Changes:
    """What the database has to change to be as the models declare, table by table.

    Tables that are not there yet are part of it: a revision makes them.
    """
    rules = declared(chain.metadata)
    wanted, spelling = _wanted(connection, rules)
    actual = read_states(connection, spelling)
    changes = Changes()
    for table in sorted(actual.keys() | wanted.keys()):
        if chain.owns(None, table):
            _compare(changes, table, wanted.get(table), actual.get(table))
    return changes


def policy_differences(connection: Connection, chain: Chain) -> list[Difference]:
    """How the row level security of tables that are there differs from what the models declare."""
    return compare_policies(connection, chain).found


def bring_in_line(connection: Connection, chain: Chain) -> None:
    """Make a database what the models declare; policies that others wrote stay.

    All tables of the models must be there.
    """
    changes = compare_policies(connection, chain)
    run(connection, *changes.before, *changes.after)


def adopt(connection: Connection, made: dict[str, State]) -> None:
    """Give the tables that are there the policies that the revisions make.

    Args:
        made: what the revisions make, by table.
    """
    actual = read_states(connection)
    changes = Changes()
    for table in sorted(made.keys() & actual.keys()):
        wanted, present = made[table], actual[table]
        # What is there beyond the revisions waits for a revision of its own.
        known = {name: each for name, each in present.policies.items() if name in wanted.policies}
        _compare(changes, table, wanted, replace(present, policies=known))
    run(connection, *changes.before, *changes.after)


def _compare(changes: Changes, table: str, wanted: State | None, actual: State | None) -> None:
    if wanted is None:
        if actual is not None:
            changes.undo_after += actual.restore(table)  # the table itself is dropped
        return
    if actual is None:
        changes.after += wanted.restore(table)
        return
    if wanted.enabled and not actual.enabled:
        changes.add("off", f"row level security of {table}", table)
        changes.after.append(enable(table))
        changes.undo_before.insert(0, disable(table))
    if actual.restricts_service:
        detail = "it restricts the service too, whose user should own the table"
        changes.add("changed", f"row level security of {table}", table, detail)
    for name in sorted(wanted.policies.keys() | actual.policies.keys(), key=_by_command):
        _compare_policy(changes, table, name, wanted, actual)
    known = wanted.grants & needed(wanted.policies.values(), actual.sequences)
    lacking = known - actual.grants
    for each in sorted(lacking):
        where = f"the sequence of {table}.{each.column}" if each.column else table
        changes.add("missing", f"privilege {each.privilege} on {where} for {each.role}", table)
    changes.after += grant(table, sorted(lacking))
    changes.undo_before[:0] = revoke(table, sorted(lacking))
    if not actual.by_hand:
        # What is opened beyond this may serve somebody else, and opens no row by itself.
        before = needed(actual.policies.values(), actual.sequences)
        ended = sorted((before - known) & actual.grants)
        changes.before += revoke(table, ended)
        changes.undo_after += grant(table, ended)


def _compare_policy(changes: Changes, table: str, name: str, wanted: State, actual: State) -> None:
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


def read_states(
    connection: Connection, spelling: Mapping[str | None, str | None] | None = None
) -> dict[str, State]:
    """The row level security of every table of the default schema.

    Args:
        spelling: conditions as Postgres writes them, and as people do.
    """
    known = spelling or {}
    here = connection.exec_driver_sql("SELECT current_schema()::text").scalar_one()
    policies = _read_policies(connection, here)
    roles = list(ROLES)
    grants: dict[str, set[Grant]] = {}
    columns: dict[str, set[str]] = {}
    asked = {"privileges": list(COMMANDS), "roles": roles}
    for table, role, privilege in connection.execute(text(_GRANTS), asked):
        grants.setdefault(table, set()).add(Grant(role, privilege))
    for table, column, holders in connection.execute(text(_SEQUENCES), {"roles": roles}):
        columns.setdefault(table, set()).add(column)
        held = grants.setdefault(table, set())
        held.update(Grant(role, "USAGE", column) for role in holders)
    found = {}
    for table, enabled, restricts_service in connection.exec_driver_sql(_STATES):
        mine = {policy.name: policy for policy in policies.get(table, ()) if _is_ours(policy)}
        found[table] = State(
            enabled,
            mine,
            frozenset(grants.get(table, ())),
            by_hand=len(mine) < len(policies.get(table, ())),
            sequences=frozenset(columns.get(table, ())),
            written={
                name: replace(
                    policy,
                    using=known.get(policy.using, policy.using),
                    check=known.get(policy.check, policy.check),
                )
                for name, policy in mine.items()
            },
            restricts_service=restricts_service,
        )
    return found


def _is_ours(policy: Policy) -> bool:
    return policy.name.startswith(PREFIX)


def _read_policies(connection: Connection, schema: str) -> dict[str, list[Policy]]:
    found: dict[str, list[Policy]] = {}
    rows = connection.execute(text(_POLICIES), {"schema": schema})
    for table, name, command, roles, using, check, permissive in rows:
        policy = Policy(name, command, tuple(roles), using, check, permissive)
        found.setdefault(table, []).append(policy)
    return found


def _by_command(name: str) -> int:
    command = name.rpartition("_")[2].upper()
    return [*COMMANDS, command].index(command)


def _wanted(
    connection: Connection, rules: Sequence[TableRules]
) -> tuple[dict[str, State], dict[str | None, str | None]]:
    """What the models declare, as Postgres writes it; and its spelling of all conditions."""
    owners = {each.owner.name: each for each in rules if each.owner is not None}
    others = [
        replace(each, access=access) for each in owners.values() for access in OTHER_DECLARATIONS
    ]
    temporary = {f"{PREFIX}wanted_{number}": each for number, each in enumerate([*rules, *others])}
    savepoint = connection.begin_nested()
    try:
        for name, each in temporary.items():
            _make(connection, name, each)
        schema = "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()"
        here = connection.exec_driver_sql(schema).scalar()
        made = _read_policies(connection, here) if here else {}
    finally:
        savepoint.rollback()
    wanted: dict[str, State] = {}
    spelling: dict[str | None, str | None] = {}
    for name, each in temporary.items():
        policies = {policy.name: policy for policy in made.get(name, ())}
        written = {policy.name: policy for policy in each.policies()}
        for policy in policies.values():
            spelling[policy.using] = written[policy.name].using
            spelling[policy.check] = written[policy.name].check
        if each.table not in wanted:
            sequences = frozenset([each.key] if each.key else [])
            grants = frozenset(each.grants())
            wanted[each.table] = State(True, policies, grants, sequences=sequences, written=written)
    return wanted, spelling


def _make(connection: Connection, name: str, rules: TableRules) -> None:
    policies = rules.policies()
    if not policies:
        return
    column = f"{quoted(rules.owner.name)} uuid" if rules.owner is not None else ""
    run(connection, f"CREATE TEMPORARY TABLE {name} ({column})")
    run(connection, *(policy.create(name) for policy in policies))
