"""Writes the tables of an application as SQL for Postgres, without a database."""

from typing import Any

from sqlalchemy import MetaData, create_mock_engine

from amphibase.records.adoption import complete_tables
from amphibase.schema.ddl import DIALECT


def script(metadata: MetaData) -> str:
    """Return an SQL script that creates the types, tables and indexes of the models."""
    complete_tables(metadata)
    statements: dict[str, None] = {}

    def write(statement: Any, *arguments: Any, **options: Any) -> None:
        statements[str(statement.compile(dialect=DIALECT)).strip()] = None

    tables = [table for table in metadata.sorted_tables if table.schema is None]
    engine = create_mock_engine("postgresql+psycopg://", write)
    metadata.create_all(engine, tables=tables, checkfirst=False)
    return "\n\n".join(f"{statement.replace(chr(9), '    ')};" for statement in statements)
