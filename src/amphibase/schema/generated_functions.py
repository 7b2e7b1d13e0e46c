"""Functions of Postgres that are made of access declarations, in a schema that no API shows.

They run as their owner, who owns the tables. With `row_security` off, an owner whom the policies of
a table limit gets an error, and not silently nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from amphibase.schema.ddl import quoted
from amphibase.schema.grants import ROLES

SCHEMA = "amphibase"

CALLER_VARIABLE = "amphibase_caller"
CALLER_ID = "uuid := auth.uid()"
"""The variable of the caller's id, and its declaration: quicker than a subquery."""

MOVE_SCHEMA_AWAY = f"""\
DO $$ BEGIN
    IF to_regnamespace('{SCHEMA}') IS NOT NULL THEN
        ALTER SCHEMA {SCHEMA} RENAME TO {SCHEMA}_of_application;
    END IF;
END $$"""
"""Gives the schema another name, so that revisions can run once more in a transaction that is
rolled back. Functions stay what they are to the policies that call them."""


@dataclass(frozen=True, slots=True)
class GeneratedFunction:
    """A function in PL/pgSQL, whose plan a connection keeps: before Postgres 18, SQL is planned at
    each call.

    Args:
        name: without its schema; it ends in a hash of what the function does.
        arguments: their types, as SQL.
        returns: its type, as SQL.
        body: its statements, as SQL.
        callers: the roles that may call it.
        is_definer: whether it runs as its owner, and not as its caller.
        options: what else it is created with, as SQL.
        variables: what is declared before the body, by name.
    """

    name: str
    arguments: str
    returns: str
    body: str
    callers: tuple[str, ...]
    is_definer: bool = True
    options: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    def create(self, schema: str = SCHEMA) -> str:
        """Return the statement that creates it or makes it what it should be."""
        head = f"CREATE OR REPLACE FUNCTION {schema}.{quoted(self.name)}({self.arguments})"
        security = " SECURITY DEFINER" if self.is_definer else ""
        settings = "SET search_path TO %1$I, extensions, pg_temp"
        settings += " SET row_security TO off" if self.is_definer else ""
        settings += f" {self.options}" if self.options else ""
        declared = "".join(f"\n    {name} {value};" for name, value in self.variables)
        declared = f"DECLARE{declared}\n" if declared else ""
        body = dollar_quoted(f" {declared}BEGIN\n{self.body}\nEND ", "").replace("%", "%%")
        return in_default_schema(
            f"{head}\nRETURNS {self.returns} LANGUAGE plpgsql STABLE{security}\n{settings}\n"
            f"AS {body}"
        )

    def restrict(self) -> list[str]:
        """Return the statements that let nobody but its callers call it."""
        return restrict(self.name, self.arguments, self.callers)


def create_schema(callers: Iterable[str]) -> str:
    """Return the statement that creates the schema where it is missing, and opens it to roles."""
    grants = "\n".join(
        f"    IF NOT has_schema_privilege('{role}', '{SCHEMA}', 'USAGE') THEN\n"
        f"        GRANT USAGE ON SCHEMA {SCHEMA} TO {role};\n"
        "    END IF;"
        for role in _in_order(callers)
    )
    return (
        "DO $$ BEGIN\n"
        f"    IF to_regnamespace('{SCHEMA}') IS NULL THEN\n"
        f"        CREATE SCHEMA {SCHEMA};\n"
        f"    END IF;\n{grants}\nEND $$"
    )


def in_default_schema(definition: str) -> str:
    """Return the statement that runs another in which `%1$I` is the schema of the tables."""
    text = dollar_quoted(f"\n{definition}\n", "f")
    body = f" BEGIN EXECUTE format({text}, current_schema()); END "
    return f"DO {dollar_quoted(body, 'do')}"


def dollar_quoted(text: str, tag: str) -> str:
    """Return text as SQL, between tags that are not in it."""
    while f"${tag}$" in text:
        tag += "_"
    return f"${tag}${text}${tag}$"


def restrict(name: str, arguments: str, callers: Iterable[str]) -> list[str]:
    """Return the statements that let nobody but some roles call a function."""
    function = f"{SCHEMA}.{quoted(name)}({arguments})"
    revoked = f"REVOKE ALL ON FUNCTION {function}\nFROM PUBLIC, {', '.join(ROLES)}"
    granted = ", ".join(_in_order(callers))
    return (
        [revoked, f"GRANT EXECUTE ON FUNCTION {function}\nTO {granted}"] if granted else [revoked]
    )


def drop(name: str, arguments: str) -> str:
    """Return the statement that drops a function where it exists."""
    return f"DROP FUNCTION IF EXISTS {SCHEMA}.{quoted(name)}({arguments})"


def _in_order(callers: Iterable[str]) -> list[str]:
    among = {*callers}
    return [role for role in ROLES if role in among]
