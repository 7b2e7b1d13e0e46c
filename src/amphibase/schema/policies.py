"""Writes the access declarations of models as row level security of Postgres.

Callers come as the roles `anon` and `authenticated`, with their claims in `request.jwt.claims`, as
on Supabase. The service is the connection's own user, who owns the tables and is not restricted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.orm import Mapper

from amphibase.access import SERVER_ONLY, Access
from amphibase.access.conditions import Condition, Never, any_of
from amphibase.errors import ConfigurationError
from amphibase.models import SoftDelete
from amphibase.records.adoption import complete_tables, mappers_by_table
from amphibase.records.column_access import column_access
from amphibase.records.model_access import ModelAccess, access_of
from amphibase.schema.condition_sql import Row, condition_sql, scope_queries
from amphibase.schema.ddl import (
    LINE_LENGTH,
    MAX_NAME_BYTES,
    PREFIX,
    literal,
    name_within,
    on_one_line,
    quoted,
)
from amphibase.schema.generated_functions import GeneratedFunction
from amphibase.schema.grants import (
    ANON,
    AUTHENTICATED,
    ROLES,
    Command,
    Grant,
    for_columns,
    grant,
)
from amphibase.schema.role_conditions import for_role
from amphibase.schema.scope_functions import ScopeFunction
from amphibase.schema.search_functions import SearchFunction, search_functions

MAX_SCOPES = 64
MAX_SEARCHES = 64

DROP_POLICIES = """\
DO $$ DECLARE old record; BEGIN
    FOR old IN
        SELECT polname, polrelid::regclass AS relation FROM pg_policy
        JOIN unnest(ARRAY[
        {tables}
        ]) AS name ON polrelid = to_regclass(name)
        WHERE starts_with(polname, {prefix})
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', old.polname, old.relation);
    END LOOP;
    FOR old IN
        SELECT tgname, tgrelid::regclass AS relation FROM pg_trigger
        JOIN unnest(ARRAY[
        {tables}
        ]) AS name ON tgrelid = to_regclass(name)
        WHERE starts_with(tgname, {prefix}) AND tgname ~ '_(soft_delete|references|tree)$'
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', old.tgname, old.relation);
    END LOOP;
END $$"""


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
        source: the table.
        access: None where no model has it, so that it is the service's alone.
        deleted_at: the time of a soft deletion, if its rows can be deleted so.
        key: the integer key that a sequence counts up, if any.
        columns: those that callers may use, by privilege, where they are not all.
    """

    source: Table
    access: ModelAccess | None = None
    deleted_at: Column[Any] | None = None
    key: str | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The table's name."""
        return self.source.name

    @property
    def declared(self) -> Access:
        """What the models declare."""
        return self.access.declared if self.access is not None else SERVER_ONLY

    @property
    def deletes_by_update(self) -> bool:
        """Whether some may delete softly what they may not change, or the other way round.

        Then the policy for UPDATE admits both, and a trigger tells them apart.
        """
        if self.access is None or self.deleted_at is None:
            return False
        row = Row.of_policy(self.source)
        texts = {
            condition_sql(condition, row)
            for condition in (self.access.change_old, self.access.change_new, self.access.delete)
        }
        return len(texts) > 1

    def policies(self) -> list[Policy]:
        """Return the table's policies; a rule that admits the service alone needs none.

        Raises:
            ConfigurationError: Postgres would cut the table's name, so that it had none.
        """
        if len(self.table.encode()) > MAX_NAME_BYTES:
            raise ConfigurationError(
                f"The table {self.table} has a name of {len(self.table.encode())} bytes, which "
                f"Postgres cuts after {MAX_NAME_BYTES}: give it a shorter __tablename__"
            )
        if self.access is None:
            return []
        read, add, delete = self.access.read, self.access.add, self.access.delete
        using, check = self.access.change_old, self.access.change_new
        if self.deletes_by_update:
            using, check = any_of(using, delete), read
        return [
            *self._policies("SELECT", using=read),
            *self._policies("INSERT", check=add),
            *self._policies("UPDATE", using=using, check=check),
            *self._policies("DELETE", using=delete),
        ]

    def conditions(self) -> list[Condition]:
        """Return every condition that the policies and triggers of the table need."""
        if self.access is None:
            return []
        each = self.access
        return [each.read, each.add, each.change_old, each.change_new, each.delete]

    def searches(self) -> list[SearchFunction]:
        """Return the functions by which callers search the table."""
        return [*search_functions(self.source, self.access.read)] if self.access else []

    def grants(self) -> list[Grant]:
        """Return the privileges that the policies need to have an effect, and no others."""
        grants = needed(self.policies(), [self.key] if self.key else [])
        return sorted(for_columns(grants, self.columns))

    def statements(self, policies: Iterable[Policy], grants: Iterable[Grant]) -> list[str]:
        """Return the statements that give row level security to a table without it."""
        created = [policy.create(self.table) for policy in policies]
        return [enable(self.table), *created, *grant(self.table, grants)]

    def _policies(
        self, command: Command, *, using: Condition | None = None, check: Condition | None = None
    ) -> list[Policy]:
        """Return the policies of a command: one for all callers, or one for each role."""
        conditions = {
            role: [None if each is None else for_role(each, role) for each in (using, check)]
            for role in ROLES
        }
        texts = {
            role: (self._sql(pair[0]), self._sql(pair[1]))
            for role, pair in conditions.items()
            if not any(isinstance(each, Never) for each in pair)
        }
        if len(texts) == len(ROLES) and len({*texts.values()}) == 1:
            return [Policy(policy_name(self.table, command), command, ROLES, *texts[ANON])]
        return [
            Policy(policy_name(self.table, command, role), command, (role,), *pair)
            for role, pair in reversed(texts.items())
        ]

    def _sql(self, condition: Condition | None) -> str | None:
        if condition is None:
            return None
        return condition_sql(condition, Row.of_policy(self.source))


def declared(metadata: MetaData) -> list[TableRules]:
    """Return what the models declare for every table of the application, in the order of names.

    A table that no model maps is the service's alone.

    Raises:
        ConfigurationError: a declaration is wrong, or two models of a table declare different ones.
    """
    complete_tables(metadata)
    # A model may be of any base, SQLModel's for one, if its table is among the application's.
    mappers = mappers_by_table()
    tables = [table for table in metadata.tables.values() if table.schema is None]
    return [
        _rules(table, sorted(mappers.get(table, ()), key=lambda mapper: mapper.class_.__name__))
        for table in sorted(tables, key=lambda table: table.name)
    ]


def scope_functions(rules: Iterable[TableRules]) -> list[ScopeFunction]:
    """Return the functions of the scopes that rules name, in the order of their names.

    Raises:
        ConfigurationError: they are too many.
    """
    functions = {
        function.name: function
        for each in rules
        for condition in each.conditions()
        for query in scope_queries(condition)
        for function in [ScopeFunction.of(query)]
    }
    if len(functions) > MAX_SCOPES:
        raise ConfigurationError(
            f"The models declare {len(functions)} scopes that differ, of which each is a function "
            f"in the database; at most {MAX_SCOPES} are possible: share them between models"
        )
    return [functions[name] for name in sorted(functions)]


def generated_functions(rules: Sequence[TableRules]) -> list[GeneratedFunction]:
    """Return the functions that the rules need in the database, in the order of their creation.

    Raises:
        ConfigurationError: they are too many.
    """
    searches = [function for each in rules for function in each.searches()]
    if len(searches) > MAX_SEARCHES:
        raise ConfigurationError(
            f"The models declare {len(searches)} searches under access rules, of which each is a "
            f"function in the database; at most {MAX_SEARCHES} are possible: use fewer search "
            "indexes"
        )
    scopes = [function.generated() for function in scope_functions(rules)]
    return [*scopes, *(generated for each in searches for generated in each.generated())]


def drop_policies(rules: Iterable[TableRules]) -> str:
    """Return the statement that drops Amphibase's policies of tables, whatever they are, and the
    triggers that only some tables need."""
    tables = ",\n        ".join(literal(quoted(each.table)) for each in rules)
    return DROP_POLICIES.format(prefix=literal(PREFIX), tables=tables)


def policy_name(table: str, command: Command, role: str = AUTHENTICATED) -> str:
    """Return the name of the policy for a command; a long table's name is cut and gets a hash.

    Args:
        role: `anon` where anonymous callers have a policy of their own.
    """
    end = f"_{command.lower()}" + ("_anon" if role == ANON else "")
    return name_within(PREFIX, table, end)


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


def _rules(table: Table, mappers: list[Mapper[Any]]) -> TableRules:
    accesses = [_access_of(mapper) for mapper in mappers]
    for mapper, other in zip(mappers[1:], accesses[1:], strict=True):
        if other.declared != accesses[0].declared:
            raise ConfigurationError(
                f"{mappers[0].class_.__name__} ({accesses[0].declared}) and "
                f"{mapper.class_.__name__} ({other.declared}) are both rows of {table.name}: "
                "declare the same access for both"
            )
    if not mappers:
        return TableRules(table, key=_sequence_column(table))
    is_soft = issubclass(mappers[0].class_, SoftDelete)
    deleted_at = mappers[0].columns["deleted_at"] if is_soft else None
    key = _sequence_column(table, is_read_first=not accesses[0].declared.add.visible)
    columns = _usable_columns(table)
    return TableRules(table, accesses[0], deleted_at, key, columns)


def _access_of(mapper: Mapper[Any]) -> ModelAccess:
    try:
        return access_of(mapper.class_)
    except TypeError as error:
        raise ConfigurationError(str(error)) from None


def _usable_columns(table: Table) -> Mapping[str, Sequence[str]]:
    """Return the columns that callers may use, by privilege, where they are not all."""
    try:
        declared = {column.name: column_access(column) for column in table.columns}
    except TypeError as error:
        raise ConfigurationError(str(error)) from None
    operations: dict[Command, str] = {"SELECT": "read", "INSERT": "add", "UPDATE": "change"}
    return {
        privilege: [name for name, left in declared.items() if not getattr(left, operation)]
        for privilege, operation in operations.items()
        if any(getattr(left, operation) for left in declared.values())
    }


def _sequence_column(table: Table, *, is_read_first: bool = False) -> str | None:
    """Return the integer key whose sequence callers use.

    Args:
        is_read_first: whether the next key is read before a row is added, since nothing comes back
            of it; else Postgres itself uses the sequence of an identity.
    """
    column = table.autoincrement_column
    if column is None or (column.identity is None and column.server_default is not None):
        return None
    if column.identity is not None and (column.identity.always or not is_read_first):
        return None
    return column.name
