"""Triggers that keep `updated_at` and `version`, where rows are changed by others than the SQL
backend: over the Data API of a Supabase project."""

from sqlalchemy import Connection, MetaData

from amphibase.models import Timestamps, Versioned
from amphibase.records.adoption import mappers_by_table
from amphibase.schema.policies import quoted

UPDATED_AT = "amphibase_set_updated_at"
VERSION = "amphibase_count_version"

FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION {UPDATED_AT}() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    NEW.updated_at := pg_catalog.clock_timestamp();
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION {VERSION}() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;
"""
"""The functions of the triggers."""


def script(metadata: MetaData) -> str:
    """Return an SQL script that creates the triggers that the models' tables need."""
    created = [f"{create(table, function)};" for table, function in needed(metadata)]
    return "\n\n".join([FUNCTIONS.strip(), *created])


def needed(metadata: MetaData) -> list[tuple[str, str]]:
    """Return which table needs which function as a trigger of the same name."""
    return [
        (table.name, function)
        for table, mappers in mappers_by_table().items()
        if table.metadata is metadata and table.schema is None
        for kind, function in ((Timestamps, UPDATED_AT), (Versioned, VERSION))
        if any(issubclass(mapper.class_, kind) for mapper in mappers)
    ]


def create(table: str, function: str) -> str:
    """Return the statement that creates a trigger."""
    return (
        f"CREATE OR REPLACE TRIGGER {function} BEFORE UPDATE ON {quoted(table)}\n"
        f"FOR EACH ROW EXECUTE FUNCTION {function}()"
    )


def missing(connection: Connection, metadata: MetaData) -> list[tuple[str, str]]:
    """Return those that a database does not have, or has disabled."""
    existing = {(row[0], row[1]) for row in connection.exec_driver_sql(_TRIGGERS)}
    return [each for each in needed(metadata) if each not in existing]


_TRIGGERS = """
SELECT relname::text, tgname::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE pg_table_is_visible(tgrelid) AND tgenabled <> 'D'
"""
