"""Compares the row level security of a database with what the models declare, and applies it.

Both sides are compared as Postgres writes them back, so that spelling does not matter.
"""

from dataclasses import replace

from sqlalchemy import Connection

from amphibase.schema.ddl import run
from amphibase.schema.generated_functions import SCHEMA
from amphibase.schema.migrations.chains import Chain
from amphibase.schema.migrations.compare_functions import compare_functions, compare_triggers
from amphibase.schema.migrations.compare_grants import compare_grants
from amphibase.schema.migrations.compare_tables import Difference
from amphibase.schema.migrations.policy_changes import PolicyChanges, differing
from amphibase.schema.migrations.security_of_database import (
    Security,
    TableSecurity,
    by_command,
    read_security,
)
from amphibase.schema.migrations.security_of_models import declared_security
from amphibase.schema.policies import Policy, declared, disable, enable


def compare_policies(connection: Connection, chain: Chain) -> PolicyChanges:
    """Return the changes that make the database as the models declare, table by table.

    Tables that do not exist yet are part of it: a revision creates them.
    """
    wanted, spelling = declared_security(connection, declared(chain.metadata))
    actual = read_security(connection, spelling)
    changes = PolicyChanges()
    for table in sorted(actual.tables.keys() | wanted.tables.keys()):
        if chain.owns_name(table):
            _compare(changes, table, wanted.tables.get(table), actual.tables.get(table))
    compare_functions(changes, wanted.functions, actual.functions)
    compare_triggers(changes, wanted.triggers, actual.triggers, actual.tables)
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


def apply_policies(connection: Connection, created: Security) -> None:
    """Give existing tables the policies that the revisions create.

    Args:
        created: what the revisions create.
    """
    actual = read_security(connection)
    changes = PolicyChanges()
    for table in sorted(created.tables.keys() & actual.tables.keys()):
        wanted, present = created.tables[table], actual.tables[table]
        # What exists beyond the revisions waits for a revision of its own.
        policies = {
            name: policy for name, policy in present.policies.items() if name in wanted.policies
        }
        _compare(changes, table, wanted, replace(present, policies=policies))
    functions = {
        name: function for name, function in actual.functions.items() if name in created.functions
    }
    compare_functions(changes, created.functions, functions)
    existing = {key: each for key, each in actual.triggers.items() if key in created.triggers}
    compare_triggers(changes, created.triggers, existing, actual.tables)
    run(connection, *changes.before, *changes.after)


def _compare(
    changes: PolicyChanges, table: str, wanted: TableSecurity | None, actual: TableSecurity | None
) -> None:
    if wanted is None:
        if actual is not None:  # the table itself is dropped
            changes.before += _drop_readers(table, actual)
            changes.undo_after += actual.restore(table)
        return
    if actual is None:
        changes.after += wanted.restore(table)
        changes.undo_before += _drop_readers(table, wanted)
        return
    is_new = wanted.enabled and not actual.enabled
    if is_new:
        changes.add("off", f"row level security of {table}", table)
        changes.after.append(enable(table))
        changes.undo_before.insert(0, disable(table))
    if actual.restricts_service:
        detail = "it restricts the service too, whose user should own the table"
        changes.add("changed", f"row level security of {table}", table, detail)
    for name in sorted(wanted.policies.keys() | actual.policies.keys(), key=by_command):
        _compare_policy(changes, table, name, wanted, actual)
    compare_grants(changes, table, wanted, actual, is_new=is_new)


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


def _drop_readers(table: str, security: TableSecurity) -> list[str]:
    """Return the statements that drop the policies of a table that read more than its row.

    A table is dropped with its policies; but what these read may be dropped before it.
    """
    return [
        policy.drop(table)
        for _, policy in sorted(security.policies.items())
        if any(word in f"{policy.using} {policy.check}" for word in (" FROM ", f"{SCHEMA}."))
    ]


def _details(should_be: Policy, is_: Policy) -> list[str]:
    pairs = [
        ("its command should be {}, is {}", should_be.command, is_.command),
        ("its roles should be {}, are {}", ", ".join(should_be.roles), ", ".join(is_.roles)),
        ("its condition should be {}, is {}", should_be.using, is_.using),
        ("its check should be {}, is {}", should_be.check, is_.check),
        ("it should be {}, is {}", _kind(should_be), _kind(is_)),
    ]
    return differing(pairs)


def _kind(policy: Policy) -> str:
    return "permissive" if policy.permissive else "restrictive"
