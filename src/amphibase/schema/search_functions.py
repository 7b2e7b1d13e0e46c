"""Writes full text search under access rules as functions of Postgres.

`@@` is not LEAKPROOF, so Postgres applies a policy before it: it reads every row that the policy
admits, and not the search index. A function that runs as the tables' owner has the rule in its own
statement, where the index counts, and returns the keys of the rows that match:

    SELECT … FROM tickets WHERE id IN (SELECT id FROM amphibase.search_tickets_5bd1e995('refund'))

The policies apply to the rows of such a statement as well. Whoever calls the function by hand gets
the keys of rows that the rule for reading admits, and that the search would have shown anyway.

Where somebody wrote a policy by hand for one of the tables and the callers, the declaration is not
all that decides. Then the function returns what its caller finds without the index.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Column, Table

from amphibase.access.conditions import Always, Condition, Never
from amphibase.records.column_access import column_access
from amphibase.schema.condition_sql import Row, condition_sql, tables_read, variables
from amphibase.schema.ddl import DIALECT, literal, name_within, quoted
from amphibase.schema.ddl import PREFIX as OWN_PREFIX
from amphibase.schema.generated_functions import SCHEMA, GeneratedFunction
from amphibase.schema.grants import ROLES
from amphibase.schema.role_conditions import for_role
from amphibase.search import SearchVector, search_vectors

PREFIX = "search_"
"""The start of the names of searches' functions."""

BY_INDEX_OPTIONS = "SET plan_cache_mode TO force_custom_plan SET client_min_messages TO error"
"""How many rows have a word decides about the plan. What is reported of words that are too long
may be about rows of others."""

SEARCH_OPTIONS = "ROWS 10"
"""With the 1,000 that Postgres takes otherwise, it reads the rows of each statement by the policy
and not by the keys that were found."""

BY_HAND = """\
EXISTS (
    SELECT FROM pg_policy
    WHERE polrelid = ANY (ARRAY[{tables}]::regclass[]) AND polcmd IN ('r', '*')
        AND NOT starts_with(polname, {prefix})
        AND EXISTS (
            SELECT FROM unnest(polroles) AS holder, unnest(ARRAY[{callers}]::regrole[]) AS caller
            WHERE holder = 0 OR pg_has_role(caller, holder, 'USAGE')
                OR pg_has_role(holder, caller, 'MEMBER')
        )
)"""
"""Whether a policy by hand applies to the callers, or to roles that have their privileges."""

BY_INDEX = """\
IF NOT {by_hand} THEN
RETURN QUERY {statement}
    AND {rule};
END IF;"""

SEARCH = """\
RETURN QUERY SELECT * FROM {function}($1);
IF NOT FOUND AND {by_hand} THEN
RETURN QUERY {statement};
END IF;"""
"""Where the index found something, no policy by hand applies."""


@dataclass(frozen=True, slots=True)
class SearchFunction:
    """The function of a search vector, for the roles to which the same rule applies.

    Args:
        name: without its schema; it ends in a hash of what the function does.
        keys: the columns that it returns: the table's primary key.
        callers: the roles.
        statement: which keys match, as SQL.
        rule: which rows the callers may read, as SQL.
        variables: what the rule reads beside rows, by name, and the value as SQL.
        tables: those whose policies the rule stands for.
    """

    name: str
    keys: tuple[Column[object], ...]
    callers: tuple[str, ...]
    statement: str
    rule: str
    variables: tuple[tuple[str, str], ...]
    tables: tuple[str, ...]

    def generated(self) -> list[GeneratedFunction]:
        """Return the function that reads the index, and the one that statements call."""
        columns = ", ".join(f"{quoted(key.name)} {key.type.compile(DIALECT)}" for key in self.keys)
        by_index = f"{self.name}_by_index"
        tables = ", ".join(literal(quoted(table)) for table in self.tables)
        parts = {
            "by_hand": BY_HAND.format(
                callers=", ".join(map(literal, self.callers)),
                tables=tables,
                prefix=literal(OWN_PREFIX),
            ),
            "statement": self.statement,
            "rule": self.rule,
            "function": f"{SCHEMA}.{quoted(by_index)}",
        }
        returns = f"TABLE({columns})"
        return [
            GeneratedFunction(
                by_index,
                "text",
                returns,
                BY_INDEX.format(**parts),
                self.callers,
                options=BY_INDEX_OPTIONS,
                variables=self.variables,
            ),
            GeneratedFunction(
                self.name,
                "text",
                returns,
                SEARCH.format(**parts),
                self.callers,
                is_definer=False,
                options=SEARCH_OPTIONS,
            ),
        ]


def search_functions(table: Table, read: Condition) -> Iterator[SearchFunction]:
    """Yield the functions of a table's search indexes.

    Args:
        read: the condition of rows that callers may read.
    """
    for vector in search_vectors(table):
        functions = (search_function(table, read, vector, role) for role in ROLES)
        yield from dict.fromkeys(filter(None, functions))


@lru_cache(maxsize=1024)
def search_function(
    table: Table, read: Condition, vector: SearchVector, role: str
) -> SearchFunction | None:
    """Return the function by which a role searches; None where it needs none, or may not search.

    It needs none where it reads all rows or no row of the table.

    Args:
        read: the condition of rows that callers may read.
        vector: of one of the table's search indexes.
        role: `anon` or `authenticated`.
    """
    conditions = {each: for_role(read, each) for each in ROLES}
    condition, keys = conditions[role], tuple(table.primary_key.columns)
    if isinstance(condition, Always | Never) or not keys:
        return None
    if any(column_access(table.c[name]).read for name in vector.columns):
        return None
    row = Row(table, quoted(table.name), for_owner=True)
    rules = {
        each: f"({condition_sql(of_role, row)})"
        for each, of_role in conditions.items()
        if not isinstance(of_role, Never)
    }
    selected = ", ".join(f"{row.name}.{quoted(key.name)}" for key in keys)
    statement = f"SELECT {selected}\nFROM {row.name}\nWHERE {vector.matches_sql(row.name, '$1')}"
    tables = (table.name, *sorted({each.name for each in tables_read(condition)} - {table.name}))
    digest = hashlib.sha256("\n".join((statement, rules[role], *tables)).encode()).hexdigest()[:8]
    # Room is left for the end of the other function's name.
    name = name_within(PREFIX, table.name[:36], f"_{digest}")
    callers = tuple(each for each, rule in rules.items() if rule == rules[role])
    declared = tuple(variables(condition).items())
    return SearchFunction(name, keys, callers, statement, rules[role], declared, tables)
