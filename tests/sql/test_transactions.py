"""Transactions of the SQL backend: whose name a statement is run in."""

from typing import Any

import pytest
from sqlalchemy import Integer, delete, literal_column, select, text
from sqlalchemy.types import TypeDecorator
from tests.backends import ANN, Records
from tests.models import Note

from amphibase import SERVICE
from amphibase.database.compiled import CompiledSelect, Query
from amphibase.errors import Forbidden, TransactionClosed


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


@pytest.mark.parametrize("shared_records", ["rls"], indirect=True)
async def test_a_right_that_the_model_declares_and_the_database_lacks_is_named_first(
    records: Records,
) -> None:
    async def change(sql: str) -> None:
        async with records.backend.session(SERVICE) as session:
            await session.execute(text(sql))

    async def work() -> None:
        async with records.sql.transaction(ANN) as transaction:
            with pytest.raises(Forbidden):
                await transaction.repository(Note).list()

    await change("REVOKE SELECT ON t_notes FROM authenticated")
    try:
        with pytest.raises(TransactionClosed, match="The error was: The database does not let"):
            await work()
    finally:
        await change("GRANT SELECT ON t_notes TO authenticated")


async def test_a_delete_that_begins_with_a_common_table_expression_is_rolled_back(
    records: Records,
) -> None:
    note = await records.of(Note, ANN).add(Note(title="kept", stars=1))
    low = select(Note.id).where(Note.stars < 2).cte("low")
    statement = delete(Note).where(Note.id.in_(select(low.c.id)))

    async def delete_and_fail() -> None:
        async with records.sql.transaction(ANN) as transaction:
            options = {"synchronize_session": False}
            await transaction.session.execute(statement, execution_options=options)
            raise Oops

    with pytest.raises(Oops):
        await delete_and_fail()
    assert await records.of(Note, ANN).get(note.id) is not None
