"""The contract of transactions, on every backend: all or none, races and cancellation."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from tests.backends import ANN, BOB, Records
from tests.models import Board, Document, Note, Tag

from amphibase import (
    SERVICE,
    Caller,
    Conflict,
    InvalidValue,
    StaleVersion,
    Transaction,
    Unavailable,
)
from amphibase.models import User

pytestmark = pytest.mark.requires("transactions")

on_postgres = pytest.mark.parametrize("shared_records", ["predicate", "rls"], indirect=True)


class Oops(Exception):
    """Raised by the tests themselves."""


async def add_and_fail(transaction: Transaction) -> None:
    await transaction.repository(Note).add(Note(title="one", stars=1))
    await transaction.repository(Tag).add_many([Tag(name="a"), Tag(name="b")])
    raise Oops


async def add_and_conflict(transaction: Transaction) -> None:
    await transaction.repository(Note).add(Note(title="one", stars=1))
    await transaction.repository(Tag).add(Tag(name="taken"))


class TestTransaction:
    async def test_what_happened_in_it_is_there_after_it(self, records: Records) -> None:
        async with records.backend.transaction(ANN) as transaction:
            assert transaction.caller is ANN
            notes = transaction.repository(Note)
            note = await notes.add(Note(title="one", stars=1))
            await notes.update(note.id, title="two")
            assert (await notes.one()).title == "two"
            if not records.is_sqlite:  # whose one writer the tests' own reads would not wait for
                assert await records.of(Note).count() == 0
        assert (await records.of(Note, ANN).one()).title == "two"

    async def test_goes_on_after_rows_that_were_rejected(self, records: Records) -> None:
        async with records.backend.transaction(SERVICE) as transaction:
            notes = transaction.repository(Note)
            rejected: Any
            for rejected in ({"title": b"x"}, {"owner_id": ANN.user_id}):
                rows = [Note(title="x", stars=1, owner_id=ANN.user_id), Note(stars=1, **rejected)]
                with pytest.raises(InvalidValue):
                    await notes.add_many(rows)
            await notes.add_many([Note(title="y", stars=1, owner_id=ANN.user_id)])
        assert (await records.of(Note).one()).title == "y"

    async def test_one_that_fails_stores_nothing(self, records: Records) -> None:
        with pytest.raises(Oops):
            async with records.backend.transaction(ANN) as transaction:
                await add_and_fail(transaction)
        assert await records.of(Note).count() == 0
        assert await records.of(Tag).count() == 0

    async def test_an_error_of_the_database_undoes_it(self, records: Records) -> None:
        await records.of(Tag).add(Tag(name="taken"))
        with pytest.raises(Conflict):
            async with records.backend.transaction(ANN) as transaction:
                await add_and_conflict(transaction)
        assert await records.of(Note).count() == 0

    async def test_reads_of_every_kind_see_what_it_wrote(self, records: Records) -> None:
        async with records.backend.transaction(ANN) as transaction:
            notes = transaction.repository(Note)
            note = await notes.add(Note(title="one", stars=1))
            assert await notes.get(note.id) is not None
            assert await notes.count() == 1
            assert await notes.exists()
            assert len((await notes.page()).items) == 1
            async for each in notes.stream():
                await notes.update(each.id, stars=2)
            assert (await notes.one()).stars == 2
            assert await notes.delete_where(Note.stars == 2) == 1
        assert await records.of(Note).count() == 0

    async def test_calls_at_the_same_time_take_turns(self, records: Records) -> None:
        async with records.backend.transaction(ANN) as transaction:
            notes = transaction.repository(Note)
            await asyncio.gather(*(notes.add(Note(title="x", stars=n)) for n in range(20)))
            counts = await asyncio.gather(*(notes.count() for _ in range(20)))
        assert counts == [20] * 20
        assert await records.of(Note).count() == 20


class TestNested:
    async def test_a_part_fails_alone(self, records: Records) -> None:
        await records.of(Tag).add(Tag(name="taken"))
        async with records.backend.transaction(ANN) as transaction:
            tags = transaction.repository(Tag)
            await tags.add(Tag(name="before"))
            with pytest.raises(Conflict):
                async with transaction.nested():
                    await add_and_conflict(transaction)
            with contextlib.suppress(Oops):
                async with transaction.nested():
                    await tags.add(Tag(name="inside"))
                    raise Oops
            async with transaction.nested():
                await tags.add(Tag(name="kept"))
                with contextlib.suppress(Oops):
                    async with transaction.nested():
                        await tags.add(Tag(name="deeper"))
                        raise Oops
            await tags.add(Tag(name="after"))
        names = {tag.name async for tag in records.of(Tag).stream()}
        assert names == {"taken", "before", "kept", "after"}
        assert await records.of(Note).count() == 0

    async def test_what_was_kept_goes_with_the_whole(self, records: Records) -> None:
        with contextlib.suppress(Oops):
            async with records.backend.transaction(ANN) as transaction:
                async with transaction.nested():
                    await transaction.repository(Tag).add(Tag(name="kept"))
                raise Oops
        assert await records.of(Tag).count() == 0

    async def test_the_caller_stays_the_same(self, records: Records) -> None:
        await records.of(Note, BOB).add(Note(title="bob's", stars=1))
        async with records.backend.transaction(ANN) as transaction:
            notes = transaction.repository(Note)
            with contextlib.suppress(InvalidValue):
                async with transaction.nested():
                    await notes.add(Note(title="x"))
            await notes.add(Note(title="ann's", stars=1))
            assert [note.title for note in await notes.list()] == ["ann's"]


class TestInTransaction:
    async def test_is_run_again_where_others_were_in_the_way(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="x", stars=0))
        all_read = asyncio.Barrier(4)
        runs = 0

        async def increment(transaction: Transaction) -> int:
            nonlocal runs
            runs += 1
            is_first_run = runs <= 4
            notes = transaction.repository(Note)
            row = await notes.get(note.id)
            assert row is not None
            if is_first_run and not records.is_sqlite:  # there, one transaction writes at a time
                await all_read.wait()
            changed = await notes.update(note.id, stars=row.stars + 1)
            assert changed is not None
            return changed.stars

        results = await asyncio.gather(
            *(records.backend.in_transaction(ANN, increment, attempts=10) for _ in range(4))
        )
        assert sorted(results) == [1, 2, 3, 4]
        assert (await records.of(Note).one()).stars == 4
        assert runs == 4 if records.is_sqlite else runs > 4

    async def test_forty_that_take_the_next_number_at_once_all_get_one(
        self, records: Records
    ) -> None:
        async def take(transaction: Transaction) -> int:
            notes = transaction.repository(Note)
            last = await notes.first(order_by=[Note.stars.desc()])
            note = await notes.add(Note(title="x", stars=last.stars + 1 if last else 1))
            return note.stars

        taken = await asyncio.gather(
            *(records.backend.in_transaction(ANN, take) for _ in range(40))
        )
        assert sorted(taken) == [*range(1, 41)]

    @on_postgres  # on SQLite, with its one writer, nobody can be in the way
    async def test_gives_up_after_so_many_attempts(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="x", stars=0))
        runs = 0

        async def hindered(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            await transaction.repository(Note).get(note.id)
            await records.of(Note).update(note.id, stars=runs)
            await transaction.repository(Note).update(note.id, title="y")

        with pytest.raises(Unavailable):
            await records.backend.in_transaction(ANN, hindered, attempts=3)
        assert runs == 3
        assert (await records.of(Note).one()).title == "x"

    async def test_other_errors_are_not_tried_again(self, records: Records) -> None:
        runs = 0

        async def work(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            await transaction.repository(Tag).add(Tag(name="a"))
            raise Oops

        with pytest.raises(Oops):
            await records.backend.in_transaction(ANN, work)
        assert runs == 1
        assert await records.of(Tag).count() == 0


class TestRaces:
    async def test_of_many_upserts_of_one_key_one_row_is_left(self, records: Records) -> None:
        id = uuid4()
        rows = await asyncio.gather(
            *(records.of(Note, ANN).upsert(Note(id=id, title=str(n), stars=n)) for n in range(20))
        )
        assert {row.id for row in rows} == {id}
        found = await records.of(Note).one()
        assert found.title == str(found.stars)

    @pytest.mark.parametrize("replace", [True, False])
    async def test_of_many_upserts_of_one_name_one_row_is_left(
        self, records: Records, replace: bool
    ) -> None:
        rows = await asyncio.gather(
            *(
                records.of(Tag, (ANN, BOB)[n % 2]).upsert(
                    Tag(name="a"), on=[Tag.name], replace=replace
                )
                for n in range(20)
            )
        )
        assert {row.id for row in rows} == {(await records.of(Tag).one()).id}

    async def test_of_many_updates_of_one_version_one_wins(self, records: Records) -> None:
        documents = records.of(Document, ANN)
        row = await documents.add(Document(title="x"))
        results = await asyncio.gather(
            *(documents.update(row.id, if_version=1, title=str(n)) for n in range(20)),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, Document)]
        assert len(won) == 1
        assert sum(isinstance(result, StaleVersion) for result in results) == 19
        stored = await documents.one()
        assert (stored.title, stored.version) == (won[0].title, 2)

    async def test_of_many_rows_with_one_name_one_is_stored(self, records: Records) -> None:
        results = await asyncio.gather(
            *(records.of(Board).add(Board(name="a")) for _ in range(20)), return_exceptions=True
        )
        assert sum(isinstance(result, Conflict) for result in results) == 19
        assert await records.of(Board).count() == 1

    async def test_updates_without_a_version_all_count(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="x", stars=0))
        await asyncio.gather(
            *(records.of(Note, ANN).update(note.id, stars=Note.stars + 1) for _ in range(20))
        )
        assert (await records.of(Note).one()).stars == 20


@contextlib.asynccontextmanager
async def locked(records: Records, id: UUID) -> AsyncIterator[None]:
    """A row that another transaction holds."""
    async with records.backend.transaction(SERVICE) as transaction:
        await transaction.repository(Note).update(id, title="held")
        yield


async def left_over(records: Records) -> list[Any]:
    """What other connections to this database do or hold, once they had time to end."""
    deadline = asyncio.get_running_loop().time() + 60
    while found := await _busy(records):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.01)
    return found


async def _busy(records: Records) -> list[Any]:
    async with records.backend.session(SERVICE, writes=False) as session:
        rows = await session.execute(
            text(
                "SELECT a.pid, a.state, a.query, l.mode FROM pg_stat_activity a "
                "LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype IN ('tuple', 'relation') "
                "WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() "
                "AND a.backend_type = 'client backend' "
                "AND (a.state <> 'idle' OR l.pid IS NOT NULL)"
            )
        )
        return [*rows]


class TestCancelled:
    @on_postgres
    @pytest.mark.parametrize("work", ["update", "delete", "upsert", "transaction"])
    async def test_work_leaves_no_lock_and_no_transaction(
        self, records: Records, work: str
    ) -> None:
        notes = records.of(Note, ANN)
        note = await notes.add(Note(title="x", stars=1))

        async def in_transaction() -> None:
            async with records.backend.transaction(ANN) as transaction:
                await transaction.repository(Note).add(Note(title="new", stars=1))
                await transaction.repository(Note).update(note.id, stars=2)

        works = {
            "update": lambda: notes.update(note.id, stars=2),
            "delete": lambda: notes.delete(note.id),
            "upsert": lambda: notes.upsert(Note(id=note.id, title="y", stars=2)),
            "transaction": in_transaction,
        }
        async with locked(records, note.id):
            tasks = [asyncio.ensure_future(works[work]()) for _ in range(4)]
            await asyncio.sleep(0.15)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        assert await left_over(records) == []
        row = await records.of(Note).one()
        assert (row.title, row.stars) == ("held", 1)
        changes = [notes.update(note.id, stars=Note.stars + 1) for _ in range(40)]
        await asyncio.gather(*changes)
        assert (await notes.one()).stars == 41

    @pytest.mark.parametrize("shared_records", ["sqlite"], indirect=True)
    async def test_work_that_waits_for_its_turn_leaves_the_turn(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        note = await notes.add(Note(title="x", stars=1))
        async with locked(records, note.id):
            tasks = [asyncio.ensure_future(notes.update(note.id, stars=2)) for _ in range(4)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        row = await records.of(Note).one()
        assert (row.title, row.stars) == ("held", 1)
        await asyncio.gather(*(notes.update(note.id, stars=Note.stars + 1) for _ in range(20)))
        assert (await notes.one()).stars == 21

    async def test_reads_leave_the_pool_as_it_was(self, records: Records) -> None:
        await records.of(Note, ANN).add_many([Note(title="x", stars=n) for n in range(1000)])

        async def read() -> None:
            while True:
                await records.of(Note, ANN).list(limit=1000)
                async for _ in records.of(Note, ANN).stream():
                    pass

        tasks = [asyncio.ensure_future(read()) for _ in range(12)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()  # whose errors keep what they had opened
        gc.collect()  # what was not closed says so now
        if not records.is_sqlite:
            assert await left_over(records) == []
        counts = await asyncio.gather(*(records.of(Note, ANN).count() for _ in range(60)))
        assert counts == [1000] * 60
        await records.of(Note, ANN).add(Note(title="y", stars=1))


async def test_who_asks_never_leaks_to_the_next(records: Records) -> None:
    """Fifty callers at once, each of whom sees their own rows and no others."""
    callers = [Caller("authenticated", UUID(int=0x1000 + n)) for n in range(50)]
    profiles = [User(id=who.user_id, email=f"{n}@example.org") for n, who in enumerate(callers)]
    if not await records.of(User).exists(User.id == callers[0].user_id):
        await records.of(User).add_many(profiles)
    notes = [Note(title="x", stars=n, owner_id=who.user_id) for who in callers for n in range(2)]
    stored = await records.of(Note).add_many(notes)
    mine = {
        who.user_id: [row.id for row in stored if row.owner_id == who.user_id] for who in callers
    }
    rounds = {"sqlite": 4, "predicate": 12, "rls": 24, "hybrid": 24}[records.name]

    async def ask(place: int) -> None:
        who, other = callers[place], callers[(place + 1) % 50]
        rows, own = records.of(Note, who), mine[who.user_id]
        for n in range(rounds):
            found = await rows.list()
            assert {row.owner_id for row in found} == {who.user_id}
            assert len(found) == 2
            assert await rows.get(own[n % 2]) is not None
            assert await rows.get(mine[other.user_id][n % 2]) is None
            if n % 4 == 0:
                assert await rows.update(own[0], title=str(place)) is not None
                assert await rows.update_where(Note.stars >= 0, stars=Note.stars + 1) == 2
                assert await rows.update(mine[other.user_id][0], title="stolen") is None

    async def serve() -> None:
        for _ in range(rounds):
            assert await records.of(Note).count() == 100

    await asyncio.gather(*(ask(place) for place in range(50)), serve())
    titles = {row.title async for row in records.of(Note).stream()}
    assert titles == {"x", *map(str, range(50))}
