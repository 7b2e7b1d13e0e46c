"""Builds the tables of accounts and files, for either SQL engine."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET

from amphibase.column_defaults import utc_now, uuid7
from amphibase.column_types import UtcDateTime

BIG_KEY = BigInteger().with_variant(Integer(), "sqlite")
"""Only an INTEGER primary key counts up by itself on SQLite (SQLite docs, "Autoincrement")."""

ADDRESS = Text().with_variant(INET(), "postgresql")
TEXTS = JSON().with_variant(ARRAY(Text()), "postgresql")


class TableBuilder:
    """Builds tables in a schema on Postgres, and under prefixed names on SQLite."""

    def __init__(self, name: str, dialect: str) -> None:
        self.name = name
        self.dialect = dialect
        self.on_postgres = dialect == "postgresql"
        self.metadata = MetaData(schema=name if self.on_postgres else None)

    def name_of(self, name: str) -> str:
        return name if self.on_postgres else f"{self.name}_{name}"

    def table(self, name: str, *parts: Any, **options: Any) -> Table:
        return Table(self.name_of(name), self.metadata, *parts, **self._own(options))

    def enum(self, name: str, *values: str) -> Enum:
        return Enum(
            *values,
            name=name,
            metadata=self.metadata,
            schema=self.metadata.schema,
            native_enum=self.on_postgres,
            create_constraint=not self.on_postgres,
        )

    def foreign_key(
        self, table: str, *, name: str | None = None, cascade: bool = True
    ) -> ForeignKey:
        """Return a foreign key to the table's `id`."""
        target = f"{self.name}.{table}.id" if self.on_postgres else f"{self.name_of(table)}.id"
        return ForeignKey(target, name=name, ondelete="CASCADE" if cascade else None)

    def index(self, name: str, *columns: Any, unique: bool = False, **options: Any) -> Index:
        # SQLite keeps the names of all indexes of a file in one space: prefixed like the tables.
        return Index(self.name_of(name), *columns, unique=unique, **self._own(options))

    def _own(self, options: dict[str, Any]) -> dict[str, Any]:
        """Leave out the options of the other engine, whose dialect SQLAlchemy would import to check
        their names."""
        other = "sqlite_" if self.on_postgres else "postgresql_"
        return {name: value for name, value in options.items() if not name.startswith(other)}

    def id(self, *, generated: bool = False) -> Column[Any]:
        """Return the primary key, a UUID; `generated` where the database of Supabase makes one."""
        by_database = text("gen_random_uuid()") if generated and self.on_postgres else None
        return Column("id", Uuid(), primary_key=True, default=uuid7, server_default=by_database)


def timestamp(name: str, *, nullable: bool = True) -> Column[Any]:
    """Return a column for a time in UTC."""
    return Column(name, UtcDateTime(), nullable=nullable)


def insert_timestamp(name: str, *, nullable: bool = True) -> Column[Any]:
    """Return a column for a time in UTC, by default that of the insert."""
    return Column(
        name, UtcDateTime(), nullable=nullable, default=utc_now, server_default=func.now()
    )
