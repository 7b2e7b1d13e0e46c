"""Triggers of tables whose rows others than the SQL backend change, too.

Over the Data API of a project, they keep `updated_at` and `version`; the service, as which a move
writes, may set either. With row level security a row keeps its key, its owner and `created_at`, and
softly deleting it is not changing it; it refers to rows that their callers see.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, MetaData
from sqlalchemy.orm import Mapper

from amphibase.models import Timestamps, Versioned
from amphibase.records.adoption import mappers_by_table
from amphibase.records.column_access import column_access
from amphibase.records.model_info import ONLY_BY_SERVICE
from amphibase.schema.ddl import PREFIX, literal, quoted
from amphibase.schema.grants import ROLES
from amphibase.schema.policies import TableRules
from amphibase.schema.references import reference_functions
from amphibase.schema.soft_delete import function_body, function_name

BEFORE_UPDATE, AFTER_WRITE = "BEFORE UPDATE", "AFTER INSERT OR UPDATE"

UPDATED_AT = "amphibase_set_updated_at"
VERSION = "amphibase_count_version"
UNCHANGED = "amphibase_reject_changes"

MOVING = "amphibase-move"
"""The header of the requests of a move. It lets the service write a row as it is, also where one of
`updated_at` and `version` is the same as before; from others it changes nothing."""

_IS_MOVING = (
    "coalesce(nullif(pg_catalog.current_setting('request.headers', true), '')::json "
    f"->> '{MOVING}' = 'on', false)"
)

GUARDS = f"^({UNCHANGED}|{PREFIX}.*_(soft_delete|references|tree))$"
"""The names of `guard_triggers`, as a pattern of Postgres."""

BODIES = {
    UPDATED_AT: f"""
BEGIN
    IF CURRENT_USER <> 'service_role' OR NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at
        AND NOT {_IS_MOVING}
    THEN
        NEW.updated_at := pg_catalog.clock_timestamp();
    END IF;
    RETURN NEW;
END """,
    VERSION: f"""
BEGIN
    IF CURRENT_USER <> 'service_role' OR NEW.version IS NOT DISTINCT FROM OLD.version
        AND NOT {_IS_MOVING}
    THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END """,
    UNCHANGED: """
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'insufficient_privilege',
        MESSAGE = TG_TABLE_NAME || ': clients do not change '
            || pg_catalog.array_to_string(TG_ARGV, ', ');
END """,
}
"""The functions of the triggers in PL/pgSQL, by name."""


class Trigger(NamedTuple):
    """A trigger of a table, which has the name of its function.

    Attributes:
        columns: those that no client may change; none for other functions.
        body: of the function, in PL/pgSQL.
        when: it runs, as SQL.
        is_stable: whether the function reads what was there before the statement.
    """

    table: str
    function: str
    columns: tuple[str, ...]
    body: str
    when: str = BEFORE_UPDATE
    is_stable: bool = False

    @property
    def is_of_one_table(self) -> bool:
        """Whether no other table has a trigger with its function."""
        return self.function not in BODIES

    def equals(self, other: "Trigger | None") -> bool:
        """Return whether another does the same; revisions indent the lines of a body."""
        return (
            other is not None
            and self._replace(body="") == other._replace(body="")
            and self.body.split() == other.body.split()
        )

    def create_function(self) -> str:
        """Return the statement that creates its function."""
        stable = " STABLE" if self.is_stable else ""
        return (
            f"CREATE OR REPLACE FUNCTION {quoted(self.function)}() RETURNS trigger\n"
            f"LANGUAGE plpgsql{stable} SET search_path = '' AS $${self.body}$$"
        )

    def create(self) -> str:
        """Return the statement that creates it."""
        conditions = []
        if self.function not in (UPDATED_AT, VERSION):
            conditions.append(f"CURRENT_USER IN ({', '.join(map(literal, ROLES))})")
        if self.columns:
            # As text: json has no comparison.
            changes = "\n    OR ".join(
                f"OLD.{quoted(name)}::text IS DISTINCT FROM NEW.{quoted(name)}::text"
                for name in self.columns
            )
            conditions.append(f"(\n    {changes}\n)")
        when = f"WHEN ({' AND '.join(conditions)})\n" if conditions else ""
        return (
            f"CREATE OR REPLACE TRIGGER {quoted(self.function)}\n"
            f"{self.when} ON {quoted(self.table)} FOR EACH ROW\n"
            f"{when}"
            f"EXECUTE FUNCTION {quoted(self.function)}({', '.join(map(literal, self.columns))})"
        )

    def drop(self) -> str:
        """Return the statement that drops it where it exists."""
        return f"DROP TRIGGER IF EXISTS {quoted(self.function)}\nON {quoted(self.table)}"

    def drop_function(self) -> str:
        """Return the statement that drops its function where nothing else needs it."""
        return f"DROP FUNCTION IF EXISTS {quoted(self.function)}()"


def script(metadata: MetaData) -> str:
    """Return an SQL script that creates `update_triggers`."""
    created = statements(update_triggers(metadata))
    return "\n\n".join(f"{statement};" for statement in created)


def statements(triggers: Iterable[Trigger]) -> list[str]:
    """Return the statements that create triggers, and each function once."""
    triggers = list(triggers)
    functions = dict.fromkeys(trigger.create_function() for trigger in triggers)
    return [*functions, *(trigger.create() for trigger in triggers)]


def update_triggers(metadata: MetaData) -> list[Trigger]:
    """Return the triggers that keep `updated_at` and `version` of the models' tables."""
    return [
        Trigger(table.name, function, (), BODIES[function])
        for table in sorted(metadata.tables.values(), key=lambda table: table.name)
        for kind, function in ((Timestamps, UPDATED_AT), (Versioned, VERSION))
        if any(issubclass(mapper.class_, kind) for mapper in mappers_by_table().get(table, ()))
    ]


def guard_triggers(rules: Iterable[TableRules]) -> list[Trigger]:
    """Return the triggers for what policies cannot say, since they do not compare rows."""
    mappers = mappers_by_table()
    return [trigger for each in rules for trigger in _guards(each, mappers.get(each.source, []))]


def existing(connection: Connection) -> list[Trigger]:
    """Return the triggers of Amphibase that a database has and has not disabled."""
    return [
        Trigger(
            table,
            name,
            tuple(part.decode() for part in arguments.split(b"\0")[:-1]),
            body,
            when,
            is_stable,
        )
        for table, name, arguments, body, when, is_stable in connection.exec_driver_sql(
            _TRIGGERS, execution_options={"no_parameters": True}
        )
        if name.startswith(PREFIX)
    ]


def missing(connection: Connection, metadata: MetaData) -> list[Trigger]:
    """Return those of `update_triggers` that a database does not have."""
    present = existing(connection)
    return [
        trigger for trigger in update_triggers(metadata) if not any(map(trigger.equals, present))
    ]


def is_guard(trigger: Trigger) -> bool:
    """Return whether a trigger is one of `guard_triggers`, of this declaration or another."""
    return trigger.function == UNCHANGED or trigger.is_of_one_table


def _guards(rules: TableRules, mappers: list[Mapper[Any]]) -> Iterator[Trigger]:
    for name, body, is_stable in reference_functions(rules):
        yield Trigger(rules.table, name, (), body, AFTER_WRITE, is_stable)
    if not any(policy.command == "UPDATE" for policy in rules.policies()):
        return
    fixed = {
        column.name
        for mapper in mappers
        for column in (*mapper.primary_key, *map(mapper.columns.get, ONLY_BY_SERVICE))
        if column is not None
    }
    fixed |= {column.name for column in rules.source.columns if column_access(column).change}
    yield Trigger(rules.table, UNCHANGED, tuple(sorted(fixed)), BODIES[UNCHANGED])
    if rules.deletes_by_update:
        yield Trigger(rules.table, function_name(rules), (), function_body(rules))


_TRIGGERS = """
SELECT
    relname::text, tgname::text, tgargs, prosrc,
    -- As pg_get_triggerdef writes it (Postgres source, "catalog/pg_trigger.h").
    CASE WHEN tgtype & 2 > 0 THEN 'BEFORE ' ELSE 'AFTER ' END || concat_ws(
        ' OR ',
        CASE WHEN tgtype & 4 > 0 THEN 'INSERT' END,
        CASE WHEN tgtype & 8 > 0 THEN 'DELETE' END,
        CASE WHEN tgtype & 16 > 0 THEN 'UPDATE' END
    ),
    provolatile = 's'
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_proc ON pg_proc.oid = tgfoid AND pronamespace = relnamespace
WHERE nspname = current_schema() AND tgenabled <> 'D'
ORDER BY 1, 2
"""
