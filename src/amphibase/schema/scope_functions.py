"""Writes the scopes of rules as functions of Postgres.

A policy that reads memberships itself is limited by their own policies, and by none of them without
recursion (Postgres: 42P17). A function reads them as the tables' owner, once a statement:

    organisation_id = ANY (ARRAY(SELECT amphibase.scope_memberships_organisation_id_5bd1e995()))

It takes no arguments, so it shows nothing but the caller's own values, whoever calls it.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Column

from amphibase.access.conditions import ScopeQuery
from amphibase.schema.ddl import DIALECT, expression_sql, name_within, quoted
from amphibase.schema.grants import AUTHENTICATED, ROLES

SCHEMA = "amphibase"
PREFIX = "scope_"
"""The start of the names of scopes' functions."""

CREATE_SCHEMA = f"""\
DO $$ BEGIN
    IF to_regnamespace('{SCHEMA}') IS NULL THEN
        CREATE SCHEMA {SCHEMA};
    END IF;
    IF NOT has_schema_privilege('{AUTHENTICATED}', '{SCHEMA}', 'USAGE') THEN
        GRANT USAGE ON SCHEMA {SCHEMA} TO {AUTHENTICATED};
    END IF;
END $$"""
"""Creates the schema of the functions, which no API shows, where it is missing."""

MOVE_SCHEMA_AWAY = f"""\
DO $$ BEGIN
    IF to_regnamespace('{SCHEMA}') IS NOT NULL THEN
        ALTER SCHEMA {SCHEMA} RENAME TO {SCHEMA}_of_application;
    END IF;
END $$"""
"""Gives the schema another name, so that revisions can run once more in a transaction that is
rolled back. Functions stay what they are to the policies that call them."""


@dataclass(frozen=True, slots=True)
class ScopeFunction:
    """The function of a scope.

    Args:
        name: without its schema; it ends in a hash of what the function selects.
        column: whose values it returns.
        body: the query, as SQL.
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

    def create(self, schema: str = SCHEMA) -> str:
        """Return the statement that creates it or makes it what it should be.

        It is PL/pgSQL, whose plan a connection keeps: before Postgres 18, SQL is planned at each
        call. With `row_security` off, a user whom the policies of the table limit gets an error
        from it, and not silently nothing.
        """
        returned = self.column.type.compile(DIALECT)
        return in_default_schema(
            f"CREATE OR REPLACE FUNCTION {schema}.{quoted(self.name)}()\n"
            f"RETURNS SETOF {returned} LANGUAGE plpgsql STABLE SECURITY DEFINER\n"
            "SET search_path TO %1$I, extensions, pg_temp SET row_security TO off\n"
            f"AS $$ BEGIN\nRETURN QUERY {self.body.replace('%', '%%')};\nEND $$"
        )


def in_default_schema(definition: str) -> str:
    """Return the statement that runs another in which `%1$I` is the schema of the tables."""
    return f"DO $do$ BEGIN EXECUTE format($f$\n{definition}\n$f$, current_schema()); END $do$"


def restrict(name: str) -> list[str]:
    """Return the statements that let nobody but signed-in callers call a function."""
    function = f"{SCHEMA}.{quoted(name)}()"
    return [
        f"REVOKE ALL ON FUNCTION {function}\nFROM PUBLIC, {', '.join(ROLES)}",
        f"GRANT EXECUTE ON FUNCTION {function}\nTO {AUTHENTICATED}",
    ]


def drop(name: str) -> str:
    """Return the statement that drops a function where it exists."""
    return f"DROP FUNCTION IF EXISTS {SCHEMA}.{quoted(name)}()"


@lru_cache(maxsize=1024)
def _function_of(query: ScopeQuery) -> ScopeFunction:
    table, column = quoted(query.table.name), quoted(query.column.name)
    conditions = [f"{table}.{quoted(query.user.name)} = (SELECT auth.uid())"]
    conditions += map(expression_sql, query.where)
    where = "\n    AND ".join(conditions)
    body = f"SELECT {table}.{column}\nFROM {table}\nWHERE {where}"
    digest = hashlib.sha256(body.encode()).hexdigest()[:8]
    name = f"{query.table.name}_{query.column.name}"
    return ScopeFunction(name_within(PREFIX, name, f"_{digest}"), query.column, body)
