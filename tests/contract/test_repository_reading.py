"""The contract of Repository, on every backend: what its reading methods answer."""

import gc
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from tests.backends import ANN, BOB, Records
from tests.column_models import Kinds, Seat
from tests.models import Board, Draft, Note

from amphibase import InvalidRequest, InvalidValue, NotFound

DAY = datetime(2026, 1, 1, tzinfo=UTC)


async def add_notes(records: Records, *titles: str) -> list[Note]:
    """Notes of Ann, made on one day after the other."""
    rows = [
        Note(title=title, stars=n, owner_id=ANN.user_id, created_at=DAY + timedelta(days=n))
        for n, title in enumerate(titles)
    ]
    return [*await records.of(Note).add_many(rows)]


def titles(rows: Any) -> list[str]:
    return [row.title for row in rows]


class TestGet:
    async def test_gives_the_row_with_all_columns(self, records: Records) -> None:
        (note,) = await add_notes(records, "one")
        row = await records.of(Note, ANN).get(note.id)
        assert row is not None
        assert (row.id, row.title, row.stars) == (note.id, "one", 0)
        assert (row.owner_id, row.created_at) == (ANN.user_id, DAY)

    async def test_gives_none_where_there_is_no_row(self, records: Records) -> None:
        assert await records.of(Note, ANN).get(uuid4()) is None
        assert await records.of(Kinds, ANN).get(17) is None
        assert await records.of(Kinds, ANN).get(-1) is None

    async def test_gives_none_for_no_key(self, records: Records) -> None:
        await add_notes(records, "one")
        assert await records.of(Note, ANN).get(None) is None

    async def test_takes_a_tuple_for_a_key_of_several_columns(self, records: Records) -> None:
        seats = records.of(Seat, ANN)
        await seats.add_many([Seat(row=1, number=2, label="a"), Seat(row=2, number=1, label="b")])
        row = await seats.get((1, 2))
        assert row is not None
        assert row.label == "a"
        assert await seats.get((1, 1)) is None

    @pytest.mark.parametrize("key", [1, (1,), (1, 2, 3), ()])
    async def test_rejects_a_key_with_another_number_of_columns(
        self, records: Records, key: Any
    ) -> None:
        with pytest.raises(InvalidValue) as caught:
            await records.of(Seat, ANN).get(key)
        assert caught.value.field == "row"

    async def test_gives_an_object_that_is_of_no_session(self, records: Records) -> None:
        (note,) = await add_notes(records, "one")
        first = await records.of(Note, ANN).get(note.id)
        second = await records.of(Note, ANN).get(note.id)
        assert first is not None
        assert second is not None
        first.title = "changed"
        assert second.title == "one"


class TestOne:
    async def test_gives_the_only_row_that_matches(self, records: Records) -> None:
        await add_notes(records, "one", "two")
        assert (await records.of(Note, ANN).one(Note.title == "two")).stars == 1

    async def test_says_that_there_is_none_or_more_than_one(self, records: Records) -> None:
        await add_notes(records, "one", "two")
        with pytest.raises(NotFound):
            await records.of(Note, ANN).one(Note.title == "three")
        with pytest.raises(NotFound):
            await records.of(Note, BOB).one(Note.title == "one")
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).one()


class TestFirst:
    async def test_gives_the_first_of_the_order(self, records: Records) -> None:
        await add_notes(records, "b", "a", "c")
        notes = records.of(Note, ANN)
        for order, title in (((), "c"), ((Note.title,), "a"), ((Note.stars.asc(),), "b")):
            row = await notes.first(order_by=order)
            assert row is not None
            assert row.title == title

    async def test_gives_none_where_none_matches(self, records: Records) -> None:
        assert await records.of(Note, ANN).first() is None
        await add_notes(records, "one")
        assert await records.of(Note, ANN).first(Note.stars > 3) is None


class TestList:
    async def test_is_empty_where_nothing_matches(self, records: Records) -> None:
        assert [*await records.of(Note, ANN).list()] == []
        await add_notes(records, "one")
        assert [*await records.of(Note, ANN).list(Note.stars > 3, Note.title == "one")] == []

    async def test_comes_newest_first(self, records: Records) -> None:
        await add_notes(records, "one", "two", "three")
        assert titles(await records.of(Note, ANN).list()) == ["three", "two", "one"]

    async def test_comes_by_the_key_where_rows_are_as_old_as_each_other(
        self, records: Records
    ) -> None:
        rows = [Note(title="", stars=n, owner_id=ANN.user_id, created_at=DAY) for n in range(9)]
        stored = await records.of(Note).add_many(rows)
        found = await records.of(Note, ANN).list()
        assert [row.id for row in found] == sorted((row.id for row in stored), reverse=True)

    async def test_comes_by_the_key_where_rows_have_no_date(self, records: Records) -> None:
        kinds = records.of(Kinds, ANN)
        keys = [row.id for row in await kinds.add_many([Kinds(number=n) for n in range(5)])]
        assert [row.id for row in await kinds.list()] == sorted(keys, reverse=True)
        seats = records.of(Seat, ANN)
        await seats.add_many([Seat(row=n % 2, number=n) for n in range(4)])
        assert [(s.row, s.number) for s in await seats.list()] == [(1, 3), (1, 1), (0, 2), (0, 0)]

    async def test_takes_expressions_of_the_model(self, records: Records) -> None:
        await add_notes(records, "one", "two", "three")
        notes = records.of(Note, ANN)
        assert titles(await notes.list(Note.stars > 0, Note.stars < 2)) == ["two"]
        assert titles(await notes.list(Note.title.like("t%"))) == ["three", "two"]
        assert titles(await notes.list(Note.title.in_(["one", "three"]))) == ["three", "one"]
        assert titles(await notes.list(Note.title.in_([]))) == []
        assert titles(await notes.list((Note.stars == 0) | (Note.title == "two"))) == ["two", "one"]
        assert titles(await notes.list(~(Note.stars == 0))) == ["three", "two"]
        assert titles(await notes.list(Note.created_at >= DAY + timedelta(days=2))) == ["three"]

    async def test_takes_the_same_expression_with_other_values(self, records: Records) -> None:
        await add_notes(records, *"abcdef")
        notes = records.of(Note, ANN)
        for n in range(6):
            assert [row.stars for row in await notes.list(Note.stars == n)] == [n]
            some = [row.stars for row in await notes.list(Note.stars.in_([*range(n)]))]
            assert some == [*reversed(range(n))]

    async def test_takes_an_order(self, records: Records) -> None:
        await add_notes(records, "b", "a", "c")
        notes = records.of(Note, ANN)
        assert titles(await notes.list(order_by=[Note.title])) == ["a", "b", "c"]
        assert titles(await notes.list(order_by=[Note.title.desc()])) == ["c", "b", "a"]

    async def test_sorts_null_as_if_it_were_the_greatest(self, records: Records) -> None:
        kinds = records.of(Kinds)
        await kinds.add_many([Kinds(number=n) for n in (2, None, 1)])
        values = {
            "asc": await kinds.list(order_by=[Kinds.number]),
            "desc": await kinds.list(order_by=[Kinds.number.desc()]),
            "first": await kinds.list(order_by=[Kinds.number.nulls_first()]),
            "last": await kinds.list(order_by=[Kinds.number.desc().nulls_last()]),
        }
        assert {name: [row.number for row in rows] for name, rows in values.items()} == {
            "asc": [1, 2, None],
            "desc": [None, 2, 1],
            "first": [None, 1, 2],
            "last": [2, 1, None],
        }

    async def test_starts_at_the_offset_and_ends_at_the_limit(self, records: Records) -> None:
        await add_notes(records, *"abcde")
        notes = records.of(Note, ANN)
        assert titles(await notes.list(limit=2)) == ["e", "d"]
        assert titles(await notes.list(offset=3, limit=1000)) == ["b", "a"]
        assert titles(await notes.list(offset=1, limit=1)) == ["d"]
        assert titles(await notes.list(offset=5)) == []

    async def test_has_a_hundred_rows_unless_more_are_requested(self, records: Records) -> None:
        rows = [Note(title="", stars=n, owner_id=ANN.user_id) for n in range(1001)]
        await records.of(Note).add_many(rows)
        assert len(await records.of(Note, ANN).list()) == 100
        assert len(await records.of(Note, ANN).list(limit=1000)) == 1000

    @pytest.mark.parametrize("limit", [-1, 0, 1001, 10**12, "5"])
    async def test_rejects_limits_out_of_range(self, records: Records, limit: Any) -> None:
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).list(limit=limit)
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).page(limit=limit)

    @pytest.mark.parametrize("offset", [-1, 10**12, 10**30])
    async def test_rejects_offsets_out_of_range(self, records: Records, offset: int) -> None:
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).list(offset=offset)

    @pytest.mark.parametrize("order", ["title", 1, None])
    async def test_rejects_an_order_that_is_no_column(self, records: Records, order: Any) -> None:
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).list(order_by=[order])


class TestStream:
    async def test_gives_every_row_in_order(self, records: Records) -> None:
        rows = [Note(title="", stars=n, owner_id=ANN.user_id) for n in range(5000)]
        await records.of(Note).add_many(rows)
        stream = records.of(Note, ANN).stream(order_by=[Note.stars])
        assert [row.stars async for row in stream] == [*range(5000)]

    async def test_takes_filters_and_comes_newest_first(self, records: Records) -> None:
        await add_notes(records, "one", "two", "three")
        stream = records.of(Note, ANN).stream(Note.title != "two")
        assert [row.title async for row in stream] == ["three", "one"]
        assert [row async for row in records.of(Note, ANN).stream(Note.stars > 9)] == []
        assert [row async for row in records.of(Note, BOB).stream()] == []

    @pytest.mark.requires("snapshots")
    async def test_is_as_of_the_moment_when_it_began(self, records: Records) -> None:
        rows = [Note(title="", stars=n, owner_id=ANN.user_id) for n in range(1500)]
        await records.of(Note).add_many(rows)
        seen = 0
        async for row in records.of(Note, ANN).stream(order_by=[Note.stars]):
            if row.stars == 0:
                await records.of(Note, ANN).add(Note(title="late", stars=5000))
                await records.of(Note, ANN).delete_where(Note.stars == 1400)
            seen += 1
        assert seen == 1500

    async def test_can_be_left_half_way(self, records: Records) -> None:
        await add_notes(records, "one", "two", "three")
        for _ in range(50):  # more often than there are connections
            rows: Any = records.of(Note, ANN).stream()
            async with aclosing(rows) as stream:
                async for _row in stream:
                    break
        gc.collect()  # what was not closed says so now
        assert await records.of(Note, ANN).count() == 3


class TestCountAndExists:
    async def test_count_what_matches(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        assert await notes.count() == 0
        assert await notes.exists() is False
        await add_notes(records, "one", "two", "three")
        assert await notes.count() == 3
        assert await notes.count(Note.stars > 0, Note.title != "two") == 1
        assert await notes.exists() is True
        assert await notes.exists(Note.stars == 7) is False
        assert await records.of(Note, BOB).count() == 0
        assert await records.of(Note, BOB).exists() is False


class TestSoftDelete:
    async def test_what_was_deleted_is_not_there(self, records: Records) -> None:
        drafts = records.of(Draft, ANN)
        kept, gone = await drafts.add_many([Draft(title="kept"), Draft(title="gone")])
        assert await drafts.delete(gone.id) is True
        assert await drafts.get(gone.id) is None
        assert titles(await drafts.list()) == ["kept"]
        assert titles((await drafts.page()).items) == ["kept"]
        assert [row.title async for row in drafts.stream()] == ["kept"]
        assert await drafts.count() == 1
        assert await drafts.exists(Draft.title == "gone") is False
        assert await drafts.first(Draft.title == "gone") is None
        assert await drafts.update(gone.id, title="x") is None
        assert await drafts.update_where(Draft.title == "gone", title="x") == 0
        assert await drafts.delete(gone.id) is False
        assert await drafts.delete_where(Draft.title == "gone") == 0
        assert await drafts.get(kept.id) is not None

    async def test_is_there_when_it_is_requested(self, records: Records) -> None:
        drafts = records.of(Draft, ANN)
        gone = await drafts.add(Draft(title="gone"))
        await drafts.delete(gone.id)
        row = await drafts.with_deleted().get(gone.id)
        assert row is not None
        assert row.deleted_at is not None
        assert row.deleted_at.tzinfo is not None
        assert await records.of(Draft, BOB).with_deleted().get(gone.id) is None

    async def test_can_be_restored(self, records: Records) -> None:
        drafts = records.of(Draft, ANN)
        gone = await drafts.add(Draft(title="gone"))
        await drafts.delete(gone.id)
        assert await records.of(Draft, BOB).with_deleted().update(gone.id, deleted_at=None) is None
        restored = await drafts.with_deleted().update(gone.id, deleted_at=None)
        assert restored is not None
        assert await drafts.get(gone.id) is not None

    async def test_can_be_deleted_for_good(self, records: Records) -> None:
        drafts = records.of(Draft, ANN)
        gone = await drafts.add(Draft(title="gone"))
        await drafts.delete(gone.id)
        assert await records.of(Draft, BOB).with_deleted().delete(gone.id) is False
        assert await drafts.with_deleted().delete(gone.id) is True
        assert await records.of(Draft).with_deleted().count() == 0

    async def test_many_can_be_deleted_softly_and_for_good(self, records: Records) -> None:
        drafts = records.of(Draft, ANN)
        await drafts.add_many([Draft(title="a"), Draft(title="a"), Draft(title="b")])
        assert await drafts.delete_where(Draft.title == "a") == 2
        assert await drafts.count() == 1
        assert await drafts.with_deleted().count() == 3
        assert await drafts.with_deleted().delete_where(Draft.deleted_at.is_not(None)) == 2
        assert await drafts.with_deleted().count() == 1


@pytest.mark.requires("sql_expressions")
async def test_two_models_in_one_filter_are_a_question_of_their_own(records: Records) -> None:
    """Columns of another model may be used in a subquery."""
    await add_notes(records, "one", "two")
    await records.of(Board).add(Board(name="two"))
    among = Note.title.in_(select(Board.name))
    assert titles(await records.of(Note, ANN).list(among)) == ["two"]
