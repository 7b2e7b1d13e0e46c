"""Reads the definitions of tables from the catalogs of Postgres and SQLite."""

import re

from sqlalchemy import Connection, text

from amphibase.schema.migrations.definitions import Definitions, Part
from amphibase.schema.migrations.sqlite_ddl import normalized, parse_index, parse_table

_TABLES = """
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p')
"""

_CONSTRAINTS = """
SELECT c.relname::text, k.contype::text, k.conname::text, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND k.contype IN ('c', 'u', 'x')
"""

_INDEXES = """
SELECT c.relname::text, i.relname::text, x.indisunique, pg_get_indexdef(x.indexrelid)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND NOT x.indisprimary
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid
        AND k.contype IN ('u', 'x'))
"""

_COLUMNS = """
SELECT c.relname::text, a.attname::text,
    CASE a.attgenerated WHEN '' THEN NULL
        ELSE pg_get_expr(d.adbin, d.adrelid)
            || CASE a.attgenerated WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END END,
    CASE WHEN a.attcollation <> t.typcollation THEN o.collname::text END
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation o ON o.oid = a.attcollation
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    AND (a.attgenerated <> '' OR a.attcollation <> t.typcollation)
"""

_ENUMS = """
SELECT t.typname::text, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = :schema GROUP BY 1
"""

_CONSTRAINT_PARTS: dict[str, Part] = {"c": "check", "u": "unique", "x": "exclude"}


def read_definitions(connection: Connection, schema: str | None = None) -> Definitions:
    """Read the definitions of the tables of a schema, None for the default one."""
    if connection.dialect.name == "sqlite":
        return _read_sqlite(connection)
    if schema is None:
        schema = connection.exec_driver_sql("SELECT current_schema()::text").scalar_one()
    return _read_postgres(connection, schema)


def _read_postgres(connection: Connection, schema: str) -> Definitions:
    parameters = {"schema": schema}
    definitions = Definitions(
        tables=set(connection.execute(text(_TABLES), parameters).scalars()),
        enums={
            name: tuple(labels) for name, labels in connection.execute(text(_ENUMS), parameters)
        },
    )
    parts = definitions.parts
    for table, kind, name, definition in connection.execute(text(_CONSTRAINTS), parameters):
        parts[table, _CONSTRAINT_PARTS[kind], name] = definition
    for table, name, unique, definition in connection.execute(text(_INDEXES), parameters):
        # What comes before names the table, with or without its schema.
        columns = definition.partition(" USING ")[2]
        parts[table, "index", name] = f"UNIQUE {columns}" if unique else columns
    for table, column, formula, collation in connection.execute(text(_COLUMNS), parameters):
        if formula is not None:
            parts[table, "formula", column] = formula
        if collation is not None:
            parts[table, "collation", column] = collation
    return definitions


def _read_sqlite(connection: Connection) -> Definitions:
    definitions = Definitions()
    rows = connection.exec_driver_sql(
        "SELECT type, name, tbl_name, sql FROM sqlite_master "
        "WHERE type IN ('table', 'index') AND sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' "
        "ESCAPE '!'"
    )
    for row in rows:
        if row.type == "index":
            definitions.parts[row.tbl_name, "index", row.name] = str(parse_index(row.sql))
        elif not re.match(r"(?i)create\s+virtual", row.sql):
            definitions.tables.add(row.name)
            _add_sqlite_table(definitions, row.name, row.sql)
    return definitions


def _add_sqlite_table(definitions: Definitions, table: str, sql: str) -> None:
    parsed = parse_table(sql)
    parts = definitions.parts
    for check in parsed.checks:
        expression = normalized(check.expression)
        # A check without a name is identified by its expression.
        parts[table, "check", check.name or f"({expression})"] = f"CHECK ({expression})"
    for column, collation in parsed.collations.items():
        parts[table, "collation", column] = collation
    for column, formula in parsed.formulas.items():
        kind = "STORED" if formula.stored else "VIRTUAL"
        parts[table, "formula", column] = f"({normalized(formula.expression)}) {kind}"
    for option in ("autoincrement", "strict", "without_rowid"):
        if getattr(parsed, option):
            parts[table, "option", option.upper().replace("_", " ")] = "on"
