"""Triggers for rows that others than the SQL backend change, over the Data API of a project: they
keep `updated_at` and `version`, and a row keeps its key, its owner and `created_at`."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, MetaData
from sqlalchemy.orm import Mapper

from amphibase.models import Timestamps, Versioned
from amphibase.records.adoption import mappers_by_table
from amphibase.records.model_info import ONLY_BY_SERVICE
from amphibase.schema.ddl import literal, quoted
from amphibase.schema.grants import ROLES
from amphibase.schema.policies import TableRules, declared

UPDATED_AT = "amphibase_set_updated_at"
VERSION = "amphibase_count_version"
UNCHANGED = "amphibase_reject_changes"

FUNCTIONS = {
    UPDATED_AT: f"""\
CREATE OR REPLACE FUNCTION {UPDATED_AT}() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    NEW.updated_at := pg_catalog.clock_timestamp();
    RETURN NEW;
END $$""",
    VERSION: f"""\
CREATE OR REPLACE FUNCTION {VERSION}() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$""",
    UNCHANGED: f"""\
CREATE OR REPLACE FUNCTION {UNCHANGED}() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'insufficient_privilege',
        MESSAGE = TG_TABLE_NAME || ': clients do not change '
            || pg_catalog.array_to_string(TG_ARGV, ', ');
END $$""",
}
"""The statements that create the functions of the triggers, by name."""


class Trigger(NamedTuple):
    """A trigger of a table, which has the name of its function.

    Attributes:
        columns: those that no client may change; none for other functions.
    """

    table: str
    function: str
    columns: tuple[str, ...] = ()

    def create(self) -> str:
        """Return the statement that creates it."""
        changes = "\n    OR ".join(
            f"OLD.{quoted(name)} IS DISTINCT FROM NEW.{quoted(name)}" for name in self.columns
        )
        clients = ", ".join(map(literal, ROLES))
        when = f"WHEN (CURRENT_USER IN ({clients}) AND (\n    {changes}\n))\n" if changes else ""
        return (
            f"CREATE OR REPLACE TRIGGER {self.function} BEFORE UPDATE ON {quoted(self.table)}\n"
            f"FOR EACH ROW {when}"
            f"EXECUTE FUNCTION {self.function}({', '.join(map(literal, self.columns))})"
        )


def script(metadata: MetaData) -> str:
    """Return an SQL script that creates the triggers that the models' tables need."""
    statements = [*FUNCTIONS.values(), *(trigger.create() for trigger in needed(metadata))]
    return "\n\n".join(f"{statement};" for statement in statements)


def needed(metadata: MetaData) -> list[Trigger]:
    """Return the triggers that the models' tables need.

    Raises:
        ConfigurationError: a model's access declaration is wrong.
    """
    mappers = mappers_by_table()
    return [
        trigger
        for rules in declared(metadata)
        for trigger in _triggers(rules, mappers.get(metadata.tables[rules.table], []))
    ]


def missing(connection: Connection, metadata: MetaData) -> list[Trigger]:
    """Return those that a database does not have, has disabled, or has for other columns."""
    existing = {
        Trigger(table, name, tuple(part.decode() for part in arguments.split(b"\0")[:-1]))
        for table, name, arguments in connection.exec_driver_sql(_TRIGGERS)
    }
    return [trigger for trigger in needed(metadata) if trigger not in existing]


def _triggers(rules: TableRules, mappers: Sequence[Mapper[Any]]) -> Iterator[Trigger]:
    for kind, function in ((Timestamps, UPDATED_AT), (Versioned, VERSION)):
        if any(issubclass(mapper.class_, kind) for mapper in mappers):
            yield Trigger(rules.table, function)
    if not any(policy.command == "UPDATE" for policy in rules.policies()):
        return
    fixed = {
        column.name
        for mapper in mappers
        for column in (*mapper.primary_key, *map(mapper.columns.get, ONLY_BY_SERVICE))
        if column is not None
    }
    yield Trigger(rules.table, UNCHANGED, tuple(sorted(fixed)))


_TRIGGERS = """
SELECT relname::text, tgname::text, tgargs FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
WHERE pg_table_is_visible(tgrelid) AND tgenabled <> 'D'
"""
