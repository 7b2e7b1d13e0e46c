"""Reads the row level security that models declare as a database would have it.

Functions and policies are created on temporary tables, in a savepoint that is rolled back, and read
back, so that another spelling of the same condition is no difference.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from amphibase.schema.condition_sql import columns_read
from amphibase.schema.ddl import quoted, run
from amphibase.schema.generated_functions import SCHEMA, GeneratedFunction
from amphibase.schema.migrations.security_of_database import (
    FunctionSecurity,
    Security,
    TableSecurity,
    read_functions,
    read_policies,
)
from amphibase.schema.migrations.temporary_tables import temporary_tables
from amphibase.schema.policies import Policy, TableRules, generated_functions
from amphibase.schema.triggers import guard_triggers

_HEADER = re.compile(r"^(CREATE OR REPLACE FUNCTION )\w+\.")

Spelling = Mapping[str | None, str | None]
"""Conditions as Postgres writes them, and as Amphibase does."""


def declared_security(
    connection: Connection, rules: Sequence[TableRules]
) -> tuple[Security, Spelling]:
    """Return what the models declare, as Postgres writes it, and its spelling of conditions."""
    written = {each.table: {policy.name: policy for policy in each.policies()} for each in rules}
    functions = {function.name: function for function in generated_functions(rules)}
    columns = {
        column
        for each in rules
        for condition in each.conditions()
        for column in columns_read(condition)
    }
    guarded = [table for table, policies in written.items() if policies]
    with temporary_tables(connection, guarded, columns) as schema:
        read = _created(connection, schema, written, functions) if schema else Security()
    spelling: dict[str | None, str | None] = {}
    tables: dict[str, TableSecurity] = {}
    for each in rules:
        policies = read.tables[each.table].policies if each.table in read.tables else {}
        for name, policy in policies.items():
            spelling[policy.using] = written[each.table][name].using
            spelling[policy.check] = written[each.table][name].check
        tables[each.table] = TableSecurity(
            True,
            policies,
            frozenset(each.grants()),
            sequences=frozenset([each.key] if each.key else []),
            written=written[each.table],
        )
    triggers = {(each.table, each.function): each for each in guard_triggers(rules)}
    return Security(tables, read.functions, triggers), spelling


def _created(
    connection: Connection,
    schema: str,
    policies: Mapping[str, Mapping[str, Policy]],
    functions: Mapping[str, GeneratedFunction],
) -> Security:
    """Create functions and policies in the temporary schema, and read them back."""
    run(connection, *(function.create("pg_temp") for function in functions.values()))
    for table, by_name in policies.items():
        for policy in by_name.values():
            run(connection, _in_schema(policy, "pg_temp", functions).create(table))
    tables = {
        table: TableSecurity(
            True,
            {policy.name: _in_schema(policy, SCHEMA, functions, schema) for policy in created},
            frozenset(),
        )
        for table, created in read_policies(connection, schema).items()
    }
    return Security(
        tables,
        {
            name: FunctionSecurity(
                _HEADER.sub(rf"\1{SCHEMA}.", function.definition),
                frozenset(functions[name].callers),
                functions[name].arguments,
                written=functions[name].create(),
            )
            for name, function in read_functions(connection, schema).items()
        },
    )


def _in_schema(
    policy: Policy, schema: str, functions: Mapping[str, GeneratedFunction], *others: str
) -> Policy:
    """Return a policy that calls the functions in another schema."""
    schemas = "|".join(map(re.escape, (SCHEMA, "pg_temp", *others)))
    names = "|".join(re.escape(quoted(name)) for name in functions)
    if not names:
        return policy

    def moved(condition: str | None) -> str | None:
        if condition is None:
            return None
        return re.sub(rf"\b(?:{schemas})\.({names})\(\)", rf"{schema}.\1()", condition)

    return replace(policy, using=moved(policy.using), check=moved(policy.check))
