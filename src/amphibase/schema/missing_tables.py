"""Which tables of the models a database lacks, without Alembic."""

from sqlalchemy import Connection, MetaData, inspect


def missing_tables(connection: Connection, metadata: MetaData) -> list[str]:
    """Return the names of the tables of the search path that are neither tables nor views."""
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    names = sorted(table.name for table in metadata.tables.values() if table.schema is None)
    return [name for name in names if name not in tables and not inspector.has_table(name)]
