"""Triggers that keep `updated_at` and `version`, where rows are changed by others than the SQL
backend: over the Data API of a Supabase project."""

from sqlalchemy import MetaData, Table

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
    statements = [FUNCTIONS.strip()]
    for table, mappers in mappers_by_table().items():
        if table.metadata is not metadata or table.schema is not None:
            continue
        for kind, function in ((Timestamps, UPDATED_AT), (Versioned, VERSION)):
            if any(issubclass(mapper.class_, kind) for mapper in mappers):
                statements.append(_trigger(table, function))
    return "\n\n".join(statements)


def _trigger(table: Table, function: str) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {function} BEFORE UPDATE ON {quoted(table.name)}\n"
        f"FOR EACH ROW EXECUTE FUNCTION {function}();"
    )
