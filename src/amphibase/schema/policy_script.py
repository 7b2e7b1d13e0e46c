"""Writes the access that models declare as one SQL script, for who runs it by hand."""

from sqlalchemy import MetaData

from amphibase.schema import soft_delete, triggers
from amphibase.schema.ddl import quoted
from amphibase.schema.generated_functions import create_schema
from amphibase.schema.grants import ROLES
from amphibase.schema.policies import declared, drop_policies, generated_functions


def script(metadata: MetaData) -> str:
    """Return an SQL script that makes the policies of a database those of the models.

    Raises:
        ConfigurationError: a model's declaration is wrong.
    """
    usage = f"GRANT USAGE ON SCHEMA public, auth TO {', '.join(ROLES)};"
    return "\n".join(["BEGIN;", usage, body(metadata), "", "COMMIT;"])


def body(metadata: MetaData) -> str:
    """Return the statements of `script` for functions, tables and triggers alone."""
    rules = declared(metadata)
    lines = ["", "-- Policies of earlier declarations", f"{drop_policies(rules)};"]
    if functions := generated_functions(rules):
        callers = {role for function in functions for role in function.callers}
        lines += ["", "-- The scopes of the caller, and searches", f"{create_schema(callers)};"]
        for function in functions:
            lines += [f"{each};" for each in (function.create(), *function.restrict())]
    for each in rules:
        lines += ["", f"-- {each.table}: {each.declared}".replace("\n", " ")]
        lines += [f"{statement};" for statement in each.statements(each.policies(), each.grants())]
    for each in rules:
        if each.deleted_at is not None:  # what an earlier declaration needed would still deny
            trigger = quoted(soft_delete.function_name(each))
            lines.append(f"DROP TRIGGER IF EXISTS {trigger} ON {quoted(each.table)};")
    if guards := triggers.statements(triggers.guard_triggers(rules)):
        lines += ["", "-- What no caller changes, and what only deletes"]
        lines += [f"{statement};" for statement in guards]
    return "\n".join(lines)
