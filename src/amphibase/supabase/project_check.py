"""Compares a Supabase project with what an application needs there."""

import re
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import MetaData, text

from amphibase.backend import SERVICE
from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError, NotFound
from amphibase.schema import change_log, commands, triggers
from amphibase.schema.change_log_functions import missing_functions
from amphibase.settings.application import Settings
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json
from amphibase.supabase.starter import (
    BUCKET,
    files_sql,
    missing_presence_functions,
    presence_sql,
)

FUNCTION = "amphibase_files"

_POLICY = re.compile(r"CREATE POLICY (\w+) ON (\S+)")
_FUNCTION = re.compile(r"CREATE FUNCTION (\w+)")


async def check_over_api(client: SupabaseClient, metadata: MetaData) -> AsyncIterator[str]:
    """Yield what is missing from a project, as far as its API shows: tables, columns and files.

    Raises:
        ConfigurationError: the project does not accept the service key.
        Unavailable: the project cannot be reached.
    """
    description = read_json(await client.request("rest", "GET", "/", SERVICE))
    definitions: dict[str, Any] = description.get("definitions", {})
    for table in metadata.sorted_tables:
        if table.schema is not None:
            continue
        if table.name not in definitions:
            yield f"table {table.name} is missing, or not granted to service_role"
            continue
        columns = definitions[table.name].get("properties", {})
        for column in table.columns:
            if column.name not in columns:
                yield f"column {table.name}.{column.name} is missing"
    log_functions = [each.name for each in change_log.project_functions(metadata)]
    for name in (FUNCTION, *_FUNCTION.findall(presence_sql()), *log_functions):
        if f"/rpc/{name}" not in description.get("paths", {}):
            yield f"function {name} is missing"
    try:
        await client.request("storage", "GET", f"/bucket/{BUCKET}", SERVICE)
    except NotFound:
        yield f"bucket {BUCKET} is missing"


async def check_database(
    database: Database, settings: Settings, metadata: MetaData
) -> AsyncIterator[str]:
    """Yield how the database of a project differs from what an application needs, by objects.

    Raises:
        ConfigurationError: the records are not in this database.
        Unavailable: the database cannot be reached.
    """
    if "records" not in settings.parts_in(database.url):
        raise ConfigurationError("The records of the application are not in this project")
    for difference in await commands.check(database, settings, metadata):
        yield str(difference)
    async with database.read() as connection:
        missing_triggers = await connection.run_sync(triggers.missing, metadata)
        functions = await connection.run_sync(
            missing_functions, change_log.project_functions(metadata)
        )
        functions += await connection.run_sync(missing_presence_functions)
        found = await connection.execute(text(_STORAGE_POLICIES))
        existing_policies = {(row.name, row.relation) for row in found}
        has_function = await connection.scalar(text(_HAS_FUNCTION), {"name": FUNCTION})
        has_bucket = await connection.scalar(text(_HAS_BUCKET), {"id": BUCKET})
    for trigger in missing_triggers:
        yield f"trigger {trigger.function} of {trigger.table} is missing from the database"
    for function in functions:
        yield f"{function.subject} is missing from the database, or is another"
    for name, relation in _POLICY.findall(files_sql()):
        if (name, relation) not in existing_policies:
            yield f"policy {name} of {relation} is missing from the database"
    if not has_function:
        yield f"function {FUNCTION} is missing from the database"
    if not has_bucket:
        yield f"bucket {BUCKET} is missing from the database"


_STORAGE_POLICIES = """
    SELECT policyname AS name, 'storage.' || tablename AS relation
    FROM pg_policies WHERE schemaname = 'storage'
"""
_HAS_FUNCTION = """
    SELECT EXISTS (
        SELECT FROM pg_proc WHERE proname = :name AND pronamespace = 'public'::regnamespace
    )
"""
_HAS_BUCKET = "SELECT EXISTS (SELECT FROM storage.buckets WHERE id = :id)"
