"""The limit of a statement's rows."""

from typing import Any

from sqlalchemy import Select, literal_column


def limited(statement: Select[Any], limit: int) -> Select[Any]:
    """Limit a statement by a literal: with a bound value, Postgres plans every query anew."""
    return statement.limit(literal_column(str(limit)))
