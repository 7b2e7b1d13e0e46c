"""What keeps the values of a table's columns unique."""

from typing import Any

from sqlalchemy import Index, PrimaryKeyConstraint, Table, UniqueConstraint

UniqueKey = PrimaryKeyConstraint | UniqueConstraint | Index

DIALECTS = ("sqlite", "postgresql")


def unique_keys(table: Table) -> dict[str, UniqueKey]:
    """Return the keys, constraints and indexes that keep values unique, by their names or, where
    they have none, by numbers."""
    keys: dict[str, UniqueKey] = {}
    for number, part in enumerate([table.primary_key, *table.constraints, *table.indexes]):
        if isinstance(part, PrimaryKeyConstraint | UniqueConstraint) or (
            isinstance(part, Index) and part.unique
        ):
            keys[str(part.name or number)] = part
    return keys


def index_condition(key: UniqueKey | None, dialect: str) -> Any:
    """Return the WHERE of a partial index on an engine; None where it is not partial."""
    return key.dialect_options[dialect]["where"] if isinstance(key, Index) else None


def is_partial(key: UniqueKey) -> bool:
    """Return whether an index keeps values unique in some rows only, on any engine."""
    return any(index_condition(key, dialect) is not None for dialect in DIALECTS)
