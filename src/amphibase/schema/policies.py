"""Writes the access declarations of models as row level security of Postgres.

Callers come as the roles `anon` and `authenticated`, with their claims in `request.jwt.claims`, as
on Supabase. The service is the connection's own user, who owns the tables and is not restricted.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.orm import Mapper

from amphibase.access import OWNER_COLUMN, SERVER_ONLY, Access, Who, callers_of, declaration_of
from amphibase.errors import ConfigurationError
from amphibase.records.adoption import mappers_by_table
from amphibase.schema.ddl import DIALECT, LINE_LENGTH, on_one_line, quoted
from amphibase.schema.grants import AUTHENTICATED, COMMANDS, ROLES, Command, Grant, grant

PREFIX = "amphibase_"
"""The start of the names of Amphibase's policies; all others were written by hand."""

EVERYONE = frozenset({Who.EVERYONE})
SIGNED_IN = frozenset({Who.AUTHENTICATED})
IS_ADMIN = "((SELECT auth.jwt()) #>> '{app_metadata,role}') = 'admin'"
MAX_NAME_BYTES = 63
"""Longer names are cut by Postgres (its docs, "Identifiers and Key Words")."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of a table.

    Args:
        command: the command that it is for; `ALL` occurs in policies written by hand.
        using: the condition of rows that may be seen, changed or deleted.
        check: the condition of rows that may be written.
    """

    name: str
    command: str
    roles: tuple[str, ...]
    using: str | None = None
    check: str | None = None
    permissive: bool = True

    def create(self, table: str) -> str:
        """Return the statement that creates it."""
        kind = "" if self.permissive else " AS RESTRICTIVE"
        lines = [
            f"CREATE POLICY {quoted(self.name)}",
            f"ON {quoted(table)}{kind}",
            f"FOR {self.command} TO {', '.join(map(quoted, self.roles))}",
        ]
        if self.using is not None:
            lines.append(f"USING ({self.using})")
        if self.check is not None:
            lines.append(f"WITH CHECK ({self.check})")
        if len(lines[0]) + len(lines[1]) < LINE_LENGTH:
            lines[:2] = [" ".join(lines[:2])]
        return "\n".join(lines)

    def drop(self, table: str) -> str:
        """Return the statement that drops it where it exists."""
        return on_one_line(f"DROP POLICY IF EXISTS {quoted(self.name)}\nON {quoted(table)}")


@dataclass(frozen=True, slots=True)
class TableRules:
    """The access that models declare for a table.

    Args:
        owner: the column of the owner, if any.
        key: the integer key that a sequence counts up, if any.
    """

    table: str
    access: Access
    owner: Column[Any] | None = None
    key: str | None = None

    def policies(self) -> list[Policy]:
        """Return the table's policies; a rule that admits the service alone needs none."""
        read, write = _plain(callers_of(self.access.read)), _plain(self._writers)
        # Postgres adds the policy for SELECT where a statement reads the rows it changes, which
        # `UPDATE notes SET title = ''` does not: invisible rows are not changed either.
        both = self._both(read, write)
        policies = [
            self._policy("SELECT", read, using=self._condition(read)),
            self._policy("INSERT", write, check=self._insert_check()),
        ]
        if both is not None:
            writers = write if Who.EVERYONE in read else read if Who.EVERYONE in write else write
            check = self._condition(write)
            policies.append(self._policy("UPDATE", writers, using=both, check=check))
            policies.append(self._policy("DELETE", writers, using=both))
        return [policy for policy in policies if policy is not None]

    @property
    def _writers(self) -> frozenset[Who]:
        return callers_of(self.access.change.old)

    def grants(self) -> list[Grant]:
        """Return the privileges that the policies need to have an effect, and no others."""
        return sorted(needed(self.policies(), [self.key] if self.key else []))

    def statements(self, policies: Iterable[Policy], grants: Iterable[Grant]) -> list[str]:
        """Return the statements that give row level security to a table without it."""
        created = [policy.create(self.table) for policy in policies]
        return [enable(self.table), *created, *grant(self.table, grants)]

    def _policy(
        self,
        command: Command,
        who: frozenset[Who],
        *,
        using: str | None = None,
        check: str | None = None,
    ) -> Policy | None:
        if not who:
            return None
        roles = ROLES if Who.EVERYONE in who else (AUTHENTICATED,)
        return Policy(policy_name(self.table, command), command, roles, using, check)

    def _both(self, read: frozenset[Who], write: frozenset[Who]) -> str | None:
        """Return the condition of rows that may be seen and written, None for no rows."""
        if not read or not write:
            return None
        if _covers(read, write):
            return self._condition(write)
        if _covers(write, read):
            return self._condition(read)
        first, second = self._condition(read), self._condition(write)
        return f"\n    ({_indented(first)})\n    AND ({_indented(second)})\n"

    def _condition(self, who: frozenset[Who]) -> str:
        parts = []
        if Who.OWNER in who and self.owner is not None:
            parts.append(self._is_own())
        if Who.ADMIN in who:
            parts.append(IS_ADMIN)
        return _any_of(parts)

    def _insert_check(self) -> str:
        """Return the condition of new rows: they are the caller's, unless an administrator may
        write rows of others."""
        admits = self._writers
        if self.owner is None or admits == {Who.ADMIN}:
            return self._condition(_plain(admits))
        of_anonymous = Who.EVERYONE in admits and self.owner.nullable
        is_own = self._is_own("IS NOT DISTINCT FROM" if of_anonymous else "=")
        return _any_of([is_own, IS_ADMIN] if Who.ADMIN in admits else [is_own])

    def _is_own(self, operator: str = "=") -> str:
        assert self.owner is not None
        return f"{quoted(self.owner.name)} {operator} (SELECT auth.uid())"


def declared(metadata: MetaData) -> list[TableRules]:
    """Return what the models declare for every table of the application, in the order of names.

    A table that no model maps is the service's alone.

    Raises:
        ConfigurationError: a declaration is wrong, or two models of a table declare different ones.
    """
    # A model may be of any base, SQLModel's for one, if its table is among the application's.
    mappers = mappers_by_table()
    tables = [table for table in metadata.tables.values() if table.schema is None]
    return [
        _rules(table, sorted(mappers.get(table, ()), key=lambda mapper: mapper.class_.__name__))
        for table in sorted(tables, key=lambda table: table.name)
    ]


def script(metadata: MetaData) -> str:
    """Return an SQL script that makes the policies of a database those of the models."""
    usage = f"GRANT USAGE ON SCHEMA public, auth TO {', '.join(ROLES)};"
    return "\n".join(["BEGIN;", usage, body(metadata), "", "COMMIT;"])


def body(metadata: MetaData) -> str:
    """Return the statements of `script` for the tables alone."""
    lines = []
    for rules in declared(metadata):
        lines += ["", f"-- {rules.table}: {rules.access}".replace("\n", " ")]
        lines += [f"{Policy(name, '', ()).drop(rules.table)};" for name in names_of(rules.table)]
        lines += [
            f"{statement};" for statement in rules.statements(rules.policies(), rules.grants())
        ]
    return "\n".join(lines)


def policy_name(table: str, command: Command) -> str:
    """Return the name of the policy for a command; a long table's name is cut and gets a hash."""
    end = f"_{command.lower()}"
    room = MAX_NAME_BYTES - len(PREFIX) - len(end)
    raw = table.encode()
    if len(raw) > room:
        mark = hashlib.sha256(raw).hexdigest()[:8]
        table = f"{raw[: room - 9].decode(errors='ignore')}_{mark}"
    return f"{PREFIX}{table}{end}"


def names_of(table: str) -> list[str]:
    """Return the names of all policies that a declaration can create for a table."""
    return [policy_name(table, command) for command in COMMANDS]


def enable(table: str) -> str:
    """Return the statement that enables row level security, for all but the table's owner."""
    return on_one_line(f"ALTER TABLE {quoted(table)}\nENABLE ROW LEVEL SECURITY")


def disable(table: str) -> str:
    """Return the statement that disables row level security."""
    return on_one_line(f"ALTER TABLE {quoted(table)}\nDISABLE ROW LEVEL SECURITY")


def needed(policies: Iterable[Policy], sequences: Iterable[str]) -> set[Grant]:
    """Return the privileges without which policies have no effect.

    Args:
        sequences: the columns that count up by a sequence.
    """
    grants: set[Grant] = set()
    columns = list(sequences)
    for policy in policies:
        for role in policy.roles:
            grants.add(Grant(role, policy.command))
            if policy.command in ("UPDATE", "DELETE"):
                grants.add(Grant(role, "SELECT"))
            if policy.command == "INSERT":
                grants |= {Grant(role, "USAGE", column) for column in columns}
    return grants


def _plain(who: frozenset[Who]) -> frozenset[Who]:
    """Return the same callers without those that others of them include."""
    if Who.EVERYONE in who:
        return EVERYONE
    return SIGNED_IN if Who.AUTHENTICATED in who else who


def _covers(wide: frozenset[Who], narrow: frozenset[Who]) -> bool:
    if Who.EVERYONE in wide or narrow <= wide:
        return True
    return Who.AUTHENTICATED in wide and Who.EVERYONE not in narrow


def _any_of(conditions: list[str]) -> str:
    if not conditions:
        return "true"
    if len(conditions) == 1:
        return conditions[0]
    return "\n    " + "\n    OR ".join(conditions) + "\n"


def _indented(condition: str) -> str:
    return condition.replace("\n", "\n    ")


def _rules(table: Table, mappers: list[Mapper[Any]]) -> TableRules:
    declarations = [_rules_of(table, mapper) for mapper in mappers]
    for mapper, other in zip(mappers[1:], declarations[1:], strict=True):
        if other.access != declarations[0].access:
            raise ConfigurationError(
                f"{mappers[0].class_.__name__} ({declarations[0].access}) and "
                f"{mapper.class_.__name__} ({other.access}) are both rows of {table.name}: "
                "declare the same access for both"
            )
    rules = declarations[0] if declarations else TableRules(table.name, SERVER_ONLY)
    return replace(rules, key=_sequence_column(table))


def _rules_of(table: Table, mapper: Mapper[Any]) -> TableRules:
    try:
        access = declaration_of(mapper.class_)
    except TypeError as error:
        raise ConfigurationError(str(error)) from None
    column = mapper.columns.get(OWNER_COLUMN)
    if isinstance(column, Column) and column.table is mapper.local_table and _is_uuid(column):
        return TableRules(table.name, access, column)
    if any(Who.OWNER in callers_of(rule) for _, rule in access.rules()):
        raise ConfigurationError(
            f"{mapper.class_.__name__} grants access to owners, but its table {table.name} has no "
            f"{OWNER_COLUMN} that is a UUID"
        )
    return TableRules(table.name, access)


def _is_uuid(column: Column[Any]) -> bool:
    return column.type.compile(DIALECT) == "UUID"


def _sequence_column(table: Table) -> str | None:
    column = table.autoincrement_column
    if column is None or column.identity is not None or column.server_default is not None:
        return None
    return column.name
