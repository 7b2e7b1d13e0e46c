"""Transactions of the SQL backend: whose name a statement is run in."""

from typing import Any

import pytest
from sqlalchemy import Integer, literal_column, select
from sqlalchemy.types import TypeDecorator
from tests.backends import ANN, Records
from tests.models import Note

from amphibase import SERVICE
from amphibase.database.compiled import CompiledSelect, Query


class Oops(Exception):
    """Raised by the tests themselves."""


class Unreadable(TypeDecorator[int]):
    """A type whose values cannot be read back."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> int:
        raise Oops


@pytest.mark.parametrize("shared_records", ["rls"], indirect=True)
async def test_what_the_service_failed_to_read_leaves_the_caller(records: Records) -> None:
    """Where it reads for the caller, as the table between two models."""
    who = Query(CompiledSelect(select(literal_column("current_user::text"))))
    broken = Query(CompiledSelect(select(literal_column("1", Unreadable()))))
    async with records.sql.transaction(ANN) as transaction:
        executor: Any = transaction.repository(Note)._builder.executor
        assert await executor.fetch(SERVICE, who) != [[("authenticated",)]]
        assert await executor.fetch(ANN, who) == [[("authenticated",)]]
        with pytest.raises(Oops):
            await executor.fetch(SERVICE, broken)
        assert await executor.fetch(ANN, who) == [[("authenticated",)]]
