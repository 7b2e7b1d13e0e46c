"""Grants the roles of callers privileges on tables."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Literal, NamedTuple

from amphibase.schema.ddl import literal, on_one_line, quoted

Command = Literal["SELECT", "INSERT", "UPDATE", "DELETE"]

COMMANDS: tuple[Command, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")

ANON, AUTHENTICATED = ROLES = ("anon", "authenticated")


class Grant(NamedTuple):
    """One privilege of a role on a table.

    Args:
        column: the one that it is for, and "" for the whole table; for `USAGE`, the integer key
            whose sequence is used.
    """

    role: str
    privilege: str
    column: str = ""

    @property
    def is_of_column(self) -> bool:
        """Whether it is for one column of the table alone."""
        return bool(self.column) and self.privilege != "USAGE"


def for_columns(grants: Iterable[Grant], columns: Mapping[str, Sequence[str]]) -> set[Grant]:
    """Return privileges for the columns alone that callers may use.

    Args:
        columns: by privilege, where they are not all.
    """
    return {
        each._replace(column=column) if each.privilege in columns else each
        for each in grants
        for column in columns.get(each.privilege, ("",))
    }


def among(grants: Iterable[Grant], needed: Set[Grant]) -> set[Grant]:
    """Return those privileges that are needed, of single columns too."""
    return {
        each
        for each in grants
        if each in needed or (each.is_of_column and each._replace(column="") in needed)
    }


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
        held = [each for each in ordered if each.role == role]
        if listed := ", ".join(filter(None, (_listed(command, held) for command in COMMANDS))):
            statements.append(f"{verb} {listed}\nON {quoted(table)} {to} {quoted(role)}")
        for each in held:
            if each.column and not each.is_of_column:
                statements.append(_on_sequence(verb, to, table, each))
    return [on_one_line(statement) for statement in statements]


def _listed(command: str, grants: Sequence[Grant]) -> str:
    """Return a privilege as GRANT takes it, with the columns that it is for."""
    columns = [each.column for each in grants if each.privilege == command]
    if not columns or "" in columns:
        return command if columns else ""
    return f"{command} ({', '.join(map(quoted, columns))})"


def _on_sequence(verb: str, to: str, table: str, each: Grant) -> str:
    # The name of the sequence is Postgres' own choice.
    name, column = literal(quoted(table)), literal(each.column)
    return (
        "DO $$ BEGIN EXECUTE format(\n"
        f"    '{verb} USAGE ON SEQUENCE %s {to} {each.role}',\n"
        f"    pg_get_serial_sequence({name}, {column})\n"
        "); END $$"
    )
