"""Writes the scopes of rules as functions of Postgres.

A policy that reads memberships itself is limited by their own policies, and by none of them without
recursion (Postgres: 42P17). A function reads them as the tables' owner, once a statement:

    organisation_id = ANY ((SELECT amphibase.scope_memberships_organisation_id_5bd1e995())::uuid[])

It takes no arguments, so it shows nothing but the caller's own values, whoever calls it. It returns
an array, because a set of 500 values takes Postgres half as long again.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Column

from amphibase.access.conditions import ScopeQuery
from amphibase.schema.ddl import DIALECT, expression_sql, name_within, quoted
from amphibase.schema.generated_functions import (
    CALLER_ID,
    CALLER_VARIABLE,
    SCHEMA,
    GeneratedFunction,
)
from amphibase.schema.grants import AUTHENTICATED

PREFIX = "scope_"
"""The start of the names of scopes' functions."""

PLAIN_TYPES = {"TEXT": "^(VARCHAR|TEXT).*", "BPCHAR": r"^CHAR\b.*", "NUMERIC": r"^NUMERIC\(.*"}
"""Types without a length, precision or collation, and the patterns of those that may have one."""


@dataclass(frozen=True, slots=True)
class ScopeFunction:
    """The function of a scope.

    Args:
        name: without its schema; it ends in a hash of what the function selects.
        column: whose values it returns.
        body: the query, as SQL, which reads `CALLER_VARIABLE`.
    """

    name: str
    column: Column[object]
    body: str

    @classmethod
    def of(cls, query: ScopeQuery) -> "ScopeFunction":
        """Return the function of a scope."""
        return _function_of(query)

    @property
    def call(self) -> str:
        """The call of it, as SQL."""
        return f"{SCHEMA}.{quoted(self.name)}()"

    @property
    def returned(self) -> str:
        """The type of the array of values, as SQL: with a length, precision or collation, Postgres
        would convert all values for each row."""
        sql = self.column.type.compile(DIALECT)
        for plain, pattern in PLAIN_TYPES.items():
            sql = re.sub(pattern, plain, sql)
        return f"{sql}[]"

    @property
    def values(self) -> str:
        """The array of values, as SQL for a function that has the caller's variable."""
        return f"ARRAY({self.body})"

    def generated(self) -> GeneratedFunction:
        """Return the function as it is in the database."""
        body = f"RETURN {self.values};"
        variables = ((CALLER_VARIABLE, CALLER_ID),)
        return GeneratedFunction(
            self.name, "", self.returned, body, (AUTHENTICATED,), variables=variables
        )


@lru_cache(maxsize=1024)
def _function_of(query: ScopeQuery) -> ScopeFunction:
    table, column = quoted(query.table.name), quoted(query.column.name)
    conditions = [f"{table}.{quoted(query.user.name)} = {CALLER_VARIABLE}"]
    conditions += map(expression_sql, query.where)
    where = "\n    AND ".join(conditions)
    body = f"SELECT {table}.{column}\nFROM {table}\nWHERE {where}"
    # Functions of earlier versions returned sets, which CREATE OR REPLACE cannot change.
    digest = hashlib.sha256(f"ARRAY({body})".encode()).hexdigest()[:8]
    name = f"{query.table.name}_{query.column.name}"
    return ScopeFunction(name_within(PREFIX, name, f"_{digest}"), query.column, body)
