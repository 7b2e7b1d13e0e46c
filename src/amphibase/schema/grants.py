"""Grants the roles of callers privileges on tables."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from amphibase.schema.ddl import literal, on_one_line, quoted

Command = Literal["SELECT", "INSERT", "UPDATE", "DELETE"]

COMMANDS: tuple[Command, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")

ANON, AUTHENTICATED = ROLES = ("anon", "authenticated")


class Grant(NamedTuple):
    """One privilege of a role on a table.

    Args:
        column: for `USAGE`: the integer key whose sequence is used.
    """

    role: str
    privilege: str
    column: str = ""


def revoke_all(table: str) -> str:
    """Return the statement that takes what default privileges give callers on each new table.

    Those of many Supabase projects include TRUNCATE, which no policy limits.
    """
    return on_one_line(f"REVOKE ALL ON {quoted(table)}\nFROM {', '.join(ROLES)}")


def grant(table: str, grants: Iterable[Grant]) -> list[str]:
    """Return the statements that grant privileges."""
    return _on_privileges("GRANT", "TO", table, grants)


def revoke(table: str, grants: Iterable[Grant]) -> list[str]:
    """Return the statements that revoke privileges."""
    return _on_privileges("REVOKE", "FROM", table, grants)


def _on_privileges(verb: str, to: str, table: str, grants: Iterable[Grant]) -> list[str]:
    ordered = sorted(grants)
    statements = []
    for role in sorted({each.role for each in ordered}):
        held = {each.privilege for each in ordered if each.role == role}
        if listed := ", ".join(command for command in COMMANDS if command in held):
            statements.append(f"{verb} {listed}\nON {quoted(table)} {to} {quoted(role)}")
        for each in ordered:
            if each.role == role and each.column:
                statements.append(_on_sequence(verb, to, table, each))
    return [on_one_line(statement) for statement in statements]


def _on_sequence(verb: str, to: str, table: str, each: Grant) -> str:
    # The name of the sequence is Postgres' own choice.
    name, column = literal(quoted(table)), literal(each.column)
    return (
        "DO $$ BEGIN EXECUTE format(\n"
        f"    '{verb} USAGE ON SEQUENCE %s {to} {each.role}',\n"
        f"    pg_get_serial_sequence({name}, {column})\n"
        "); END $$"
    )
