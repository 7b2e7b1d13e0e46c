"""Reads the row level security that models declare as a database would have it.

The policies are created on temporary tables, in a savepoint that is rolled back, and read back, so
that another spelling of the same condition is no difference.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from amphibase.access import Access, admin, everyone, owner
from amphibase.schema.ddl import quoted, run
from amphibase.schema.migrations.security_of_database import TableSecurity, read_policies
from amphibase.schema.policies import PREFIX, TableRules

OTHER_DECLARATIONS = (
    Access(read=owner, write=owner),
    Access(read=owner | admin, write=admin),
    Access(read=owner, write=admin),
    Access(read=owner, write=everyone),
)
"""Between them they have every condition that there is."""


def declared_security(
    connection: Connection, rules: Sequence[TableRules]
) -> tuple[dict[str, TableSecurity], dict[str | None, str | None]]:
    """Return what the models declare, as Postgres writes it, and its spelling of conditions."""
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
        created = read_policies(connection, temporary_schema) if temporary_schema else {}
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
