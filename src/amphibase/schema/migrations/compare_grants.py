"""Compares the privileges of callers on a table with what the models declare."""

from collections.abc import Iterable

from amphibase.schema.grants import Grant, among, grant, revoke, revoke_all
from amphibase.schema.migrations.policy_changes import PolicyChanges
from amphibase.schema.migrations.security_of_database import TableSecurity
from amphibase.schema.policies import needed


def compare_grants(
    changes: PolicyChanges,
    table: str,
    wanted: TableSecurity,
    actual: TableSecurity,
    *,
    is_new: bool,
) -> None:
    """Add the changes of the privileges on a table.

    Args:
        is_new: whether the table gets its row level security now.
    """
    held = among(wanted.grants, needed(wanted.policies.values(), actual.sequences))
    lacking = held - actual.grants
    beyond = _beyond(held, actual.grants)
    # A privilege on the table takes those on its columns with it when it is revoked.
    whole = {(each.role, each.privilege) for each in beyond if not each.column}
    granted = lacking | {each for each in held if (each.role, each.privilege) in whole}
    missing = [each for each in lacking if (each.role, each.privilege) not in whole]
    for each in sorted(missing):
        changes.add("missing", _described(each, table), table)
    for each in sorted(beyond):
        changes.add("extra", _described(each, table), table)
    excess = actual.grants - held
    if is_new and excess and not actual.by_hand:
        # Default privileges gave more than is declared when the table was created.
        changes.after += [revoke_all(table), *grant(table, sorted(held))]
        changes.undo_before[:0] = grant(table, sorted(excess))
    else:
        changes.before += revoke(table, sorted(beyond))
        changes.after += grant(table, sorted(granted))
        changes.undo_after += grant(table, sorted(beyond))
    changes.undo_before[:0] = revoke(table, sorted(granted))
    if not actual.by_hand:
        # Other privileges may serve others, and open no row by themselves.
        before = needed(actual.policies.values(), actual.sequences)
        ended = sorted(((before - held) & actual.grants) - beyond)
        changes.before += revoke(table, ended)
        changes.undo_after += grant(table, ended)


def _described(grant: Grant, table: str) -> str:
    where = table
    if grant.column:
        owner = "" if grant.is_of_column else "the sequence of "
        where = f"{owner}{table}.{grant.column}"
    return f"privilege {grant.privilege} on {where} for {grant.role}"


def _beyond(held: set[Grant], actual: Iterable[Grant]) -> set[Grant]:
    """Return the privileges that go beyond the columns which callers may use."""
    limited = {(each.role, each.privilege) for each in held if each.is_of_column}
    return {each for each in actual if (each.role, each.privilege) in limited} - held
