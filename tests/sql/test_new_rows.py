"""The values of rows as they are to be written."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Date, String, create_engine, select
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
