"""The values of rows as they are to be written."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Interval,
    LargeBinary,
    String,
    Time,
    Uuid,
    create_engine,
    select,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import TypeDecorator

from amphibase.sql.records.new_rows import changed_row


class Public(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str:
        return value or "public"


class NewYear(TypeDecorator[date]):
    impl = Date
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Any) -> date:
        return value or date(2026, 1, 1)


class Nothing(TypeDecorator[Any]):
    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value or {}


@pytest.mark.parametrize(
    ("type_", "stored"),
    [(Public, "public"), (NewYear, date(2026, 1, 1)), (Nothing, {}), (String, None)],
)
def test_a_rule_reads_what_a_type_stores_where_there_is_no_value(type_: Any, stored: Any) -> None:
    column: Column[Any] = Column("value", type_)
    value = changed_row({column: None})(column)
    with create_engine("sqlite://").connect() as connection:
        assert connection.scalar(select(value)) == stored


@pytest.mark.parametrize(
    "type_", [Boolean, LargeBinary, Interval, Date, DateTime, Time, JSON, Uuid]
)
def test_postgres_learns_the_type_of_a_value_that_is_missing(type_: Any) -> None:
    column: Column[Any] = Column("value", type_)
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    sql = str(changed_row({column: None})(column).compile(dialect=dialect))
    assert sql.startswith("CAST(") or "::" in sql
