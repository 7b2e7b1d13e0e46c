"""The names of Postgres' types, as `format_type` writes them."""

import re
from dataclasses import dataclass

INTEGERS = frozenset({"smallint", "integer", "bigint", "oid"})
FLOATS = frozenset({"real", "double precision"})
JSON_TYPES = frozenset({"json", "jsonb"})
TIMESTAMP = "timestamp without time zone"
TIMESTAMPTZ = "timestamp with time zone"
TIME = "time without time zone"
TIMETZ = "time with time zone"

MODIFIER = re.compile(r"\((\d+)(?:, *(-?\d+))?\)")


@dataclass(frozen=True, slots=True)
class PostgresType:
    """A type without its modifier.

    Args:
        name: of the element where it is an array.
    """

    name: str
    is_array: bool = False


def parse_type(text: str) -> PostgresType:
    """Parse a type's name, such as `numeric(8,2)[]`."""
    is_array = text.endswith("[]")
    name = MODIFIER.sub("", text.removesuffix("[]"))
    return PostgresType(name.removeprefix("pg_catalog."), is_array)


def is_padded(type: str) -> bool:
    """Return whether values have blanks at their end that mean nothing, as `character(n)` has."""
    return parse_type(type).name in ("character", "bpchar")


def affinity(declared: str) -> str:
    """Return the affinity of a type that a SQLite column is declared with.

    https://www.sqlite.org/datatype3.html#determination_of_column_affinity
    """
    upper = declared.upper()
    for affinity, parts in (
        ("INTEGER", ("INT",)),
        ("TEXT", ("CHAR", "CLOB", "TEXT")),
        ("BLOB", ("BLOB",)),
        ("REAL", ("REAL", "FLOA", "DOUB")),
    ):
        if any(part in upper for part in parts):
            return affinity
    return "NUMERIC" if upper else "BLOB"


UUIDS = frozenset({"uuid", "char(32)", "char(36)"})
"""How columns of UUIDs are declared: by Postgres, by SQLAlchemy's Uuid on SQLite, without hyphens,
and there by most other types, with them."""


def is_uuid(declared: str) -> bool:
    """Return whether a column is declared as columns of UUIDs are."""
    return declared.lower() in UUIDS


DECLARED = {
    "BOOLEAN": "boolean",
    "DATE": "date",
    "DATETIME": TIMESTAMP,
    "JSON": "json",
    "TIME": TIME,
    "TIMESTAMP": TIMESTAMP,
}
BY_AFFINITY = {
    "INTEGER": "bigint",
    "TEXT": "text",
    "BLOB": "bytea",
    "REAL": "double precision",
    "NUMERIC": "numeric",
}


def postgres_type(declared: str) -> str:
    """Return the Postgres type that holds what a SQLite column of a declared type holds.

    A name that SQLAlchemy writes means what SQLAlchemy stores; of another, its affinity counts.
    """
    name = MODIFIER.sub("", declared).strip().upper()
    return DECLARED.get(name) or BY_AFFINITY[affinity(declared)]
