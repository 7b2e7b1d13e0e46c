"""What tables a side of the move has, as its own catalog describes them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class TableName(NamedTuple):
    """A table; the schema is None on SQLite."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


class Generated(StrEnum):
    """Who computes a column's values."""

    NO = "no"
    STORED = "stored"
    VIRTUAL = "virtual"


class Identity(StrEnum):
    """Whether the database counts a column up (SQL's identity columns), or a sequence does."""

    NO = "no"
    ALWAYS = "always"
    BY_DEFAULT = "by default"
    SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column of a table.

    Args:
        type: on Postgres and the Data API as `format_type` writes it, on SQLite as declared.
        base_type: the type below a domain, else `type`.
        is_enum: its values are labels.
        sequence: the sequence that its default or identity uses.
    """

    name: str
    type: str
    base_type: str
    is_nullable: bool = True
    generated: Generated = Generated.NO
    identity: Identity = Identity.NO
    is_enum: bool = False
    sequence: TableName | None = None


@dataclass(frozen=True, slots=True)
class CatalogForeignKey:
    """A foreign key of a table to another one, or to itself."""

    name: str
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table and what a move has to know of it.

    Args:
        key: the columns of the primary key, or of a unique key without NULLs where there is none;
            empty without either.
        unique_keys: the columns of every unique index of the whole table, the primary key first.
        triggers: the names of those that rows fire and that people made.
        rows: an estimate, from the statistics of the database.
        partitions: whether the rows are in partitions, which are not listed themselves.
        is_owned: whether the role that connects may change the table, as its owner may.
        read_policies: whether row level security would hide rows from the role that connects.
    """

    name: TableName
    columns: tuple[CatalogColumn, ...]
    key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[CatalogForeignKey, ...] = ()
    triggers: tuple[str, ...] = ()
    rows: int = 0
    partitions: bool = False
    is_owned: bool = True
    read_policies: bool = False

    def column(self, name: str) -> CatalogColumn:
        """Return a column by its name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class DatabaseCatalog:
    """All tables of a side, in the order of their names, and what does not move with rows.

    Args:
        alembic_heads: the revisions that `alembic_version` holds; empty without the table.
        others: views, functions, policies and the like by kind, which are named and not moved.
        sequences: those that no column counts by.
    """

    tables: tuple[CatalogTable, ...]
    server: str
    alembic_heads: frozenset[str] = frozenset()
    others: tuple[tuple[str, str], ...] = ()
    sequences: tuple[TableName, ...] = ()

    def table(self, name: TableName) -> CatalogTable | None:
        """Return a table by its name; None where it is missing."""
        return next((table for table in self.tables if table.name == name), None)

    def planned(self, name: str) -> CatalogTable | None:
        """Return a table by its name in a plan; None where it is missing."""
        return next((table for table in self.tables if str(table.name) == name), None)
