"""Compares the functions of scopes and searches, and triggers, with what the models declare."""

from collections.abc import Collection, Mapping

from amphibase.schema.generated_functions import SCHEMA, create_schema, drop
from amphibase.schema.migrations.policy_changes import PolicyChanges, differing
from amphibase.schema.migrations.security_of_database import FunctionSecurity
from amphibase.schema.triggers import Trigger


def compare_functions(
    changes: PolicyChanges,
    wanted: Mapping[str, FunctionSecurity],
    actual: Mapping[str, FunctionSecurity],
) -> None:
    """Add the changes of functions: before the policies that call them, and dropped after these."""
    created: list[str] = []
    recreated: list[str] = []
    callers = {role for each in (*wanted.values(), *actual.values()) for role in each.callers}
    for name in sorted(wanted.keys() | actual.keys()):
        should_be, is_ = wanted.get(name), actual.get(name)
        subject = f"function {SCHEMA}.{name}"
        if should_be is not None and is_ is not None and is_.limited_by:
            tables = ", ".join(is_.limited_by)
            detail = f"the policies of {tables} limit its owner too, who should own the tables"
            changes.add("changed", subject, "", detail)
        if should_be is not None and should_be.equals(is_):
            continue
        created += should_be.create(name) if should_be is not None else []
        recreated += is_.create(name) if is_ is not None else []
        if should_be is not None and is_ is not None:
            changes.add("changed", subject, "", "; ".join(_function_details(should_be, is_)))
        elif should_be is not None:
            changes.add("missing", subject, "")
            changes.undo_before.append(drop(name, should_be.arguments))
        elif is_ is not None:
            changes.add("extra", subject, "")
            changes.before.append(drop(name, is_.arguments))
    changes.after[:0] = [create_schema(callers), *created] if created else []
    changes.undo_after[:0] = [create_schema(callers), *recreated] if recreated else []


def _function_details(should_be: FunctionSecurity, is_: FunctionSecurity) -> list[str]:
    definitions = [_shown(each.definition) for each in (should_be, is_)]
    callers = [", ".join(sorted(each.callers)) for each in (should_be, is_)]
    return differing(
        [
            ("it should be {}, is {}", definitions[0], definitions[1]),
            ("its callers should be {}, are {}", callers[0], callers[1]),
        ]
    )


def _shown(definition: str) -> str:
    """Return a definition on one line, without what `in_default_schema` replaces."""
    line = " ".join(definition.split()).replace("%1$I", "(the schema of the tables)")
    return line.replace("%%", "%")


def compare_triggers(
    changes: PolicyChanges,
    wanted: Mapping[tuple[str, str], Trigger],
    actual: Mapping[tuple[str, str], Trigger],
    tables: Collection[str],
) -> None:
    """Add the changes of triggers.

    Args:
        wanted: by table and function.
        actual: the same.
        tables: that there are already.
    """
    for key in sorted(wanted.keys() | actual.keys()):
        should_be, is_ = wanted.get(key), actual.get(key)
        if should_be is not None and should_be.equals(is_):
            continue
        subject = f"trigger {key[1]} of {key[0]}"
        if should_be is not None:
            changes.after += [should_be.create_function(), should_be.create()]
        if is_ is not None:
            changes.undo_after += [is_.create_function(), is_.create()]
        if is_ is None and should_be is not None:
            changes.undo_before += _drop(should_be)
            if should_be.table in tables:
                changes.add("missing", subject, should_be.table)
        elif should_be is None and is_ is not None:
            changes.before += _drop(is_)
            changes.add("extra", subject, is_.table)
        elif should_be is not None:
            changes.add("changed", subject, should_be.table, "it should be as the models declare")


def _drop(trigger: Trigger) -> list[str]:
    function = [trigger.drop_function()] if trigger.is_of_one_table else []
    return [trigger.drop(), *function]
