"""Rejects generated columns that a version of Postgres does not support."""

from collections.abc import Iterable, Iterator

from sqlalchemy import Column, Connection, Enum, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import DOMAIN

from amphibase.errors import ConfigurationError

FIRST_VIRTUAL = 18
"""The version since which a generated column is computed when it is read, if the model does not say
that it is stored (Postgres docs, "Generated Columns")."""


def require_supported_columns(connection: Connection, tables: Iterable[Table]) -> None:
    """Reject models whose generated columns the server cannot create.

    Raises:
        ConfigurationError: names the first such column and what to write.
    """
    if connection.dialect.name != "postgresql":
        return
    version = int((connection.dialect.server_version_info or (0,))[0])
    for column, reason in unsupported_columns(tables, version):
        raise ConfigurationError(
            f"The generated column {column.table.name}.{column.name} is not stored, and {reason}: "
            "write Computed(…, persisted=True)"
        )


def unsupported_columns(
    tables: Iterable[Table], version: int
) -> Iterator[tuple[Column[object], str]]:
    """Yield the generated columns that a major version of Postgres cannot create, and why."""
    for table in tables:
        for column in table.columns:
            computed = column.computed
            if computed is None or computed.persisted:
                continue
            if version < FIRST_VIRTUAL:
                if computed.persisted is False:
                    yield column, f"Postgres {version} stores all of them"
            elif _is_indexed(table, column):
                yield column, f"Postgres {version} has no index, key or UNIQUE over such a column"
            elif isinstance(column.type, Enum | DOMAIN):
                yield column, f"Postgres {version} has no enum or domain in such a column"


def _is_indexed(table: Table, column: Column[object]) -> bool:
    groups = [index.columns for index in table.indexes]
    groups += [
        constraint.columns
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    return column.primary_key or any(column in group.values() for group in groups)
