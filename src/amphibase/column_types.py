"""Types of columns that mean the same on every engine."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import DateTime, Dialect, Numeric, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import JSON, TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime on every engine: `timestamptz` on Postgres, UTC text on SQLite.

    A naive datetime is rejected with a ValueError, since it has no single meaning.
    """

    impl = DateTime(timezone=True)
    cache_ok = True
    python_type = datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime must have a time zone, for example datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


DECIMAL_COLLATION = "amphibase_decimal"
"""The order of decimals, which SQLite stores as text; registered on each connection."""


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal that comes back as it went in: `numeric` on Postgres; on SQLite, whose numbers
    hold 15 digits, text in numeric order."""

    impl = Numeric().with_variant(Text(collation=DECIMAL_COLLATION), "sqlite")
    cache_ok = True
    python_type = Decimal

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return format(Decimal(value), "f")

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


def compare_decimals(left: str, right: str) -> int:
    """Compare two decimals, as the collation `DECIMAL_COLLATION`: below, equal to or above 0."""
    first, second = Decimal(left), Decimal(right)
    return (first > second) - (first < second)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON: `jsonb` on Postgres, text on SQLite; None is NULL."""
