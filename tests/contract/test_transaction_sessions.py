"""The contract of transactions: locks, a session of one's own, and what an error leaves behind."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from tests.backends import ANN, BOB, Records
from tests.models import Note, Tag

from amphibase import (
    SERVICE,
    Conflict,
    InvalidRequest,
    InvalidValue,
    NotFound,
    Transaction,
    TransactionClosed,
)

pytestmark = [pytest.mark.requires("transactions"), pytest.mark.requires("sessions")]

Work = Callable[[Transaction], Awaitable[object]]


async def conflict(transaction: Transaction) -> None:
    with pytest.raises(Conflict):
        await transaction.repository(Tag).add(Tag(name="taken"))


async def conflict_of_many(transaction: Transaction) -> None:
    tags = [Tag(id=1000 + n, name=f"{n}") for n in range(1500)]
    with pytest.raises(Conflict):
        await transaction.repository(Tag).add_many([*tags, Tag(id=1, name="taken")])


async def conflict_of_the_session(transaction: Transaction) -> None:
    with pytest.raises(IntegrityError):
        await transaction.session.execute(insert(Tag).values(name="taken"))


class TestAfterAnError:
    """SQLite undoes the statement alone, Postgres aborts the transaction: here both do the same."""

    @pytest.mark.parametrize("fail", [conflict, conflict_of_many, conflict_of_the_session])
    @pytest.mark.parametrize("goes_on", [True, False])
    async def test_nothing_more_is_done(self, records: Records, fail: Work, goes_on: bool) -> None:
        await records.of(Tag).add(Tag(name="taken"))

        async def work() -> None:
            async with records.backend.transaction(SERVICE) as transaction:
                await transaction.repository(Tag).add(Tag(name="before"))
                await fail(transaction)
                if goes_on:
                    await transaction.repository(Tag).add(Tag(name="after"))

        with pytest.raises(TransactionClosed, match="nested"):
            await work()
        assert [tag.name async for tag in records.of(Tag).stream()] == ["taken"]

    async def test_a_part_that_goes_on_is_undone(self, records: Records) -> None:
        await records.of(Tag).add(Tag(name="taken"))
        async with records.backend.transaction(SERVICE) as transaction:
            tags = transaction.repository(Tag)
            with contextlib.suppress(TransactionClosed):
                async with transaction.nested():
                    await tags.add(Tag(name="before"))
                    await conflict(transaction)
            await tags.add(Tag(name="after"))
        assert {tag.name async for tag in records.of(Tag).stream()} == {"taken", "after"}

    async def test_an_error_of_the_request_closes_nothing(self, records: Records) -> None:
        async with records.backend.transaction(ANN) as transaction:
            notes = transaction.repository(Note)
            with pytest.raises(InvalidValue):
                await notes.add(Note(title="x", stars=1, owner_id=BOB.user_id))
            with pytest.raises(NotFound):
                await notes.one()
            await notes.add(Note(title="x", stars=1))
        assert await records.of(Note).count() == 1

    async def test_nothing_is_done_after_its_end(self, records: Records) -> None:
        async with records.backend.transaction(ANN) as transaction:
            notes = transaction.repository(Note)
        with pytest.raises(TransactionClosed, match="ended"):
            await notes.count()


class TestSession:
    async def test_sees_what_repositories_wrote_and_they_what_it_did(
        self, records: Records
    ) -> None:
        async with records.backend.transaction(ANN) as transaction:
            session, notes = transaction.session, transaction.repository(Note)
            assert session.info["caller"] is ANN
            note = await notes.add(Note(title="one", stars=1))
            statement = update(Note).where(Note.id == note.id).values(stars=Note.stars + 1)
            await session.execute(statement)
            assert (await notes.one()).stars == 2
            session.add(Note(title="two", stars=5, owner_id=ANN.user_id))
            assert await notes.count() == 2  # what is pending is sent before
            await session.commit()  # and ends nothing
            assert len((await session.scalars(select(Note))).all()) == 2
            session.add(Note(title="three", stars=5, owner_id=ANN.user_id))
        assert await records.of(Note).count() == 3

    async def test_goes_with_the_transaction_and_its_parts(self, records: Records) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with records.backend.transaction(SERVICE) as transaction:
                transaction.session.add(Tag(name="x"))
                await transaction.session.commit()
                raise ZeroDivisionError
        async with records.backend.transaction(SERVICE) as transaction:
            with contextlib.suppress(ZeroDivisionError):
                async with transaction.nested():
                    transaction.session.add(Tag(name="inside"))
                    raise ZeroDivisionError
            transaction.session.add(Tag(name="after"))
        assert [tag.name async for tag in records.of(Tag).stream()] == ["after"]

    @pytest.mark.parametrize("shared_records", ["rls"], indirect=True)
    async def test_is_the_callers_to_the_database(self, records: Records) -> None:
        await records.of(Note, BOB).add(Note(title="bob's", stars=1))
        async with records.backend.transaction(ANN) as transaction:
            assert (await transaction.session.scalars(select(Note))).all() == []
            role = await transaction.session.scalar(text("SELECT current_user::text"))
            assert role == "authenticated"


class TestLock:
    async def test_others_wait_until_the_end(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="x", stars=0))

        async def increment() -> None:
            async with records.backend.transaction(ANN) as transaction:
                notes = transaction.repository(Note)
                locked = await notes.get(note.id, lock=True)
                assert locked is not None
                await asyncio.sleep(0)
                await notes.update(note.id, stars=locked.stars + 1)

        await asyncio.gather(*(increment() for _ in range(20)))
        assert (await records.of(Note).one()).stars == 20

    async def test_what_the_caller_may_not_change_is_not_there(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="x", stars=0))
        async with records.backend.transaction(BOB) as transaction:
            assert await transaction.repository(Note).get(note.id, lock=True) is None

    async def test_needs_a_transaction(self, records: Records) -> None:
        with pytest.raises(InvalidRequest, match="transaction"):
            await records.of(Note, ANN).get(1, lock=True)
