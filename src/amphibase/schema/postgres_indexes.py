"""Indexes that only Postgres has, in tables and revisions that are SQLite's, too."""

from sqlalchemy import Column, Index


def is_inverted(index: Index) -> bool:
    """Return whether an index is of the kind GIN."""
    return bool(index.dialect_options["postgresql"]["using"] == "gin")


def is_of_postgres(index: Index) -> bool:
    """Return whether SQLite cannot have an index: GIN over an expression, such as a text's vector.

    Over columns, SQLite has an ordinary index in its place.
    """
    return is_inverted(index) and any(
        not isinstance(expression, Column) for expression in index.expressions
    )
