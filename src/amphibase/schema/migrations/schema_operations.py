"""Creates the tables of the packaged revisions, in a schema or under prefixed names.

Revisions are history: what is written here must keep its meaning once it has been released.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql


class SchemaOperations:
    """A schema on Postgres; a prefix of names on SQLite."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_postgres = op.get_context().dialect.name == "postgresql"
        self.schema = name if self.on_postgres else None

    def name_of(self, name: str) -> str:
        """Return the name of a table or index in the database."""
        return name if self.on_postgres else f"{self.name}_{name}"

    def id_column(self, table: str) -> str:
        """Return the column that a foreign key to the table refers to."""
        return f"{self.name}.{table}.id" if self.on_postgres else f"{self.name_of(table)}.id"

    def enum(self, name: str, *values: str) -> sa.types.TypeEngine[Any]:
        """Create a type in the schema and return it; on SQLite text with a CHECK."""
        if not self.on_postgres:
            return sa.Enum(*values, name=name, native_enum=False, create_constraint=True)
        enum = postgresql.ENUM(*values, name=name, schema=self.schema, create_type=False)
        op.execute(postgresql.CreateEnumType(enum))
        return enum

    def create_table(self, name: str, *parts: sa.schema.SchemaItem, **options: Any) -> None:
        """Create a table."""
        op.create_table(self.name_of(name), *parts, schema=self.schema, **options)

    def create_index(self, name: str, table: str, columns: list[Any], **options: Any) -> None:
        """Create an index."""
        op.create_index(
            self.name_of(name), self.name_of(table), columns, schema=self.schema, **options
        )

    def drop_tables(self, *names: str) -> None:
        """Drop tables in this order."""
        for name in names:
            op.drop_table(self.name_of(name), schema=self.schema)

    def drop_enums(self, *names: str) -> None:
        """Drop types; SQLite has none."""
        if self.on_postgres:
            for name in names:
                postgresql.ENUM(name=name, schema=self.schema).drop(op.get_bind())
