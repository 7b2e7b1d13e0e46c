"""The tables of a Supabase project as its Data API describes them.

https://docs.postgrest.org/en/v14/references/api/openapi.html
"""

import re
from collections.abc import Mapping
from typing import Any

from amphibase.move.catalog import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    DatabaseCatalog,
    TableName,
)

SCHEMA = "public"
FORMATS = {"int32": "integer", "int64": "bigint"}
FOREIGN_KEY = re.compile(r"<fk table='(?P<table>[^']+)' column='(?P<column>[^']+)'/>")


def read_api_catalog(document: Mapping[str, Any]) -> DatabaseCatalog:
    """Return the tables of the API's OpenAPI document.

    It knows primary keys and foreign keys of one column; nothing of triggers, of generated columns
    or of other unique keys. Views look like tables there.
    """
    definitions: Mapping[str, Mapping[str, Any]] = document.get("definitions") or {}
    paths: Mapping[str, Any] = document.get("paths") or {}
    tables = []
    others = []
    for name, definition in sorted(definitions.items()):
        if "post" in paths.get(f"/{name}", {}):
            tables.append(_table(name, definition))
        else:
            others.append(("view", f"{SCHEMA}.{name}"))
    version = (document.get("info") or {}).get("version", "")
    return DatabaseCatalog(tuple(tables), f"PostgREST {version}".rstrip(), others=tuple(others))


def _table(name: str, definition: Mapping[str, Any]) -> CatalogTable:
    properties: Mapping[str, Mapping[str, Any]] = definition.get("properties") or {}
    required = set(definition.get("required") or ())
    key = tuple(
        column for column, each in properties.items() if "<pk/>" in (each.get("description") or "")
    )
    foreign_keys = []
    for column, each in properties.items():
        match = FOREIGN_KEY.search(each.get("description") or "")
        if match:
            target = TableName(SCHEMA, match["table"])
            foreign_keys.append(
                CatalogForeignKey(f"{name}_{column}", (column,), target, (match["column"],))
            )
    return CatalogTable(
        TableName(SCHEMA, name),
        tuple(
            _column(column, each, is_nullable=column not in required)
            for column, each in properties.items()
        ),
        key=key,
        unique_keys=(key,) if key else (),
        foreign_keys=tuple(foreign_keys),
    )


def _column(name: str, values: Mapping[str, Any], *, is_nullable: bool) -> CatalogColumn:
    format = str(values.get("format") or "text")
    type = FORMATS.get(format, format)
    return CatalogColumn(name, type, type, is_nullable, is_enum="enum" in values)
