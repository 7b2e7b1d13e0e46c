"""The contract of `Repository.page`, on every backend, against a model in memory: every row exactly
once, in order, whatever the order is and whatever happens meanwhile."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends import ANN, BOB, POLICIES_ON_POSTGRES, Records
from tests.column_models import Kinds, Seat
from tests.models import Category, Note, Post

from amphibase import InvalidCursor, InvalidRequest

pytestmark = POLICIES_ON_POSTGRES

DAY = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.sampled_from([None, 0, -1, 1]),
    "text": st.sampled_from([None, "", "a", "b"]),
    "real": st.sampled_from([None, 0.0, 0.1, -1e300]),
    "exact": st.sampled_from([None, Decimal(0), Decimal("0.1"), Decimal("-10"), Decimal("9")]),
    "moment": st.sampled_from([None, DAY, DAY + timedelta(microseconds=1)]),
    "yes": st.sampled_from([None, False, True]),
    "uid": st.none() | st.uuids(),
    "data": st.sampled_from([None, b"", b"\x00", b"\xff"]),
    "duration": st.sampled_from([None, timedelta(0), timedelta(microseconds=1), timedelta(-1)]),
}
rows = st.lists(st.fixed_dictionaries(VALUES), max_size=12)


@dataclass(frozen=True)
class By:
    """One term of an order: a column, its direction, and where NULLs go (None: unsaid)."""

    name: str
    descending: bool
    nulls_first: bool | None

    def clause(self) -> Any:
        column: Any = getattr(Kinds, self.name)
        clause = column.desc() if self.descending else column.asc()
        if self.nulls_first is None:
            return clause
        return clause.nulls_first() if self.nulls_first else clause.nulls_last()

    def compare(self, left: Any, right: Any) -> int:
        a: Any = getattr(left, self.name)
        b: Any = getattr(right, self.name)
        if a is None or b is None:
            first = self.descending if self.nulls_first is None else self.nulls_first
            return 0 if a is b else (-1 if (a is None) == first else 1)
        ascending: int = (a > b) - (a < b)
        return -ascending if self.descending else ascending


orders = st.lists(
    st.builds(By, st.sampled_from([*VALUES]), st.booleans(), st.sampled_from([None, True, False])),
    max_size=3,
    unique_by=lambda by: by.name,
)


def in_order(found: Sequence[Kinds], order: Sequence[By]) -> list[Kinds]:
    """The rows as the order says; as the contract says where it leaves it open."""

    def compare(left: Kinds, right: Kinds) -> int:
        for by in order:
            if result := by.compare(left, right):
                return result
        ascending = (left.id > right.id) - (left.id < right.id)
        return -ascending if not order or order[-1].descending else ascending

    return sorted(found, key=functools.cmp_to_key(compare))


@given(data=st.data(), values=rows, order=orders, limit=st.integers(1, 5), changing=st.booleans())
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[*HealthCheck])
async def test_every_row_comes_exactly_once_and_in_order(
    records: Records,
    data: st.DataObject,
    values: list[dict[str, Any]],
    order: list[By],
    limit: int,
    changing: bool,
) -> None:
    kinds, order_by = records.of(Kinds, ANN), [by.clause() for by in order]
    await kinds.delete_where(everything=True)
    there = [*await kinds.add_many([Kinds(**each) for each in values])]
    gone: set[int] = set()
    late: set[int] = set()
    items: list[Kinds] = []
    cursor = None
    while True:
        page = await kinds.page(order_by=order_by, cursor=cursor, limit=limit)
        assert len(page.items) == limit or page.next_cursor is None
        items += page.items
        if (cursor := page.next_cursor) is None:
            break
        if changing:
            victim = data.draw(st.sampled_from(there))  # the row that the cursor is at, for one
            if await kinds.delete(victim.id):
                gone.add(victim.id)
            late.add((await kinds.add(Kinds(**data.draw(st.fixed_dictionaries(VALUES))))).id)
    keys = [row.id for row in items]
    assert len(keys) == len(set(keys)), "a row came twice"
    assert keys == [row.id for row in in_order(items, order)], "the rows are not in order"
    lasting = {row.id for row in there} - gone
    assert lasting <= set(keys), "a row was left out"
    assert set(keys) - lasting <= gone | late
    if not gone and not late:
        assert keys == [row.id for row in in_order(there, order)]


async def all_pages(rows: Any, *where: Any, limit: int, **more: Any) -> list[Any]:
    items: list[Any] = []
    cursor = None
    while True:
        page = await rows.page(*where, cursor=cursor, limit=limit, **more)
        items += page.items
        if (cursor := page.next_cursor) is None:
            return items


class TestPages:
    async def test_an_empty_list_has_one_page(self, records: Records) -> None:
        page = await records.of(Note, ANN).page()
        assert ([*page.items], page.next_cursor) == ([], None)

    @pytest.mark.parametrize("limit", [1, 3, 6, 7, 8, 1000])
    async def test_come_newest_first_and_end(self, records: Records, limit: int) -> None:
        notes = records.of(Note, ANN)
        dates = [DAY + timedelta(days=n // 3) for n in range(7)]
        await notes.add_many([Note(title="", stars=1, created_at=date) for date in dates])
        rows = await all_pages(notes, limit=limit)
        keys = [(note.created_at, note.id) for note in rows]
        assert keys == sorted(keys, reverse=True)
        assert len(keys) == 7

    async def test_hold_what_matches_and_what_the_caller_sees(self, records: Records) -> None:
        for who in (ANN, BOB):
            rows = [Note(title=str(who.user_id), stars=n % 2) for n in range(10)]
            await records.of(Note, who).add_many(rows)
        found = await all_pages(records.of(Note, ANN), Note.stars == 1, limit=2)
        assert [note.title for note in found] == [str(ANN.user_id)] * 5

    @pytest.mark.parametrize(
        "order_by",
        [
            [],
            [Seat.row.desc()],
            pytest.param(
                [Seat.row * -1, Seat.label.desc()], marks=pytest.mark.requires("sql_expressions")
            ),
            pytest.param([Seat.row % 2], marks=pytest.mark.requires("sql_expressions")),
        ],
        ids=["newest first", "descending", "two expressions", "one expression"],
    )
    async def test_go_by_keys_of_two_columns_and_by_expressions(
        self, records: Records, order_by: list[Any]
    ) -> None:
        seats = records.of(Seat, ANN)
        await seats.add_many([Seat(row=n % 3, number=n, label=str(n)) for n in range(9)])
        whole = [seat.number for seat in await seats.list(order_by=order_by)]
        paged = await all_pages(seats, limit=2, order_by=order_by)
        assert [seat.number for seat in paged] == whole

    async def test_go_by_enums_and_by_times(self, records: Records) -> None:
        posts = records.of(Post, ANN)
        await posts.add_many(
            [
                Post(title=str(n), category=[*Category][n % 2], price=Decimal(n) / 3)
                for n in range(9)
            ]
        )
        for order_by in (
            [Post.category],
            [Post.category.desc(), Post.title],
            [Post.updated_at],
            [Post.price.desc()],
        ):
            whole = [post.title for post in await posts.list(order_by=order_by)]
            paged = await all_pages(posts, limit=2, order_by=order_by)
            assert [post.title for post in paged] == whole


class TestCursors:
    async def test_of_nobodys_making_are_rejected(self, records: Records) -> None:
        await records.of(Note, ANN).add_many([Note(title="", stars=n) for n in range(3)])
        good = (await records.of(Note, ANN).page(limit=1)).next_cursor
        assert good is not None
        swapped = ("B" if good[-5] == "A" else "A").join((good[:-5], good[-4:]))
        for cursor in ("", "x", "é", "\x00", "A" * 100, "A" * 10_000, good[:-4], good + good,
                       good[1:], "A" + good, swapped):  # fmt: skip
            with pytest.raises(InvalidCursor):
                await records.of(Note, ANN).page(cursor=cursor, limit=1)

    @pytest.mark.requires("long_filters")
    async def test_that_would_be_too_long_to_be_read_are_not_given_out(
        self, records: Records
    ) -> None:
        notes = records.of(Note, ANN)
        await notes.add_many([Note(title=message * 900, stars=1) for message in "茶道花"])
        first = await notes.page(limit=2, order_by=[Note.title])
        rest = await notes.page(limit=2, order_by=[Note.title], cursor=first.next_cursor)
        assert (len(rest.items), rest.next_cursor) == (1, None)
        await notes.update_where(everything=True, title="a" * 5000)
        with pytest.raises(InvalidRequest, match="too long"):
            await notes.page(limit=2, order_by=[Note.title])
        assert len((await notes.page(limit=3, order_by=[Note.title])).items) == 3

    async def test_every_changed_character_is_noticed(self, records: Records) -> None:
        await records.of(Note, ANN).add_many([Note(title="", stars=n) for n in range(3)])
        good = (await records.of(Note, ANN).page(limit=1)).next_cursor
        assert good is not None
        for place in range(len(good) - 1):  # the last may hold bits that mean nothing
            other = "B" if good[place] == "A" else "A"
            with pytest.raises(InvalidCursor):
                await records.of(Note, ANN).page(cursor=good[:place] + other + good[place + 1 :])

    async def test_of_another_query_are_rejected(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        await notes.add_many([Note(title="", stars=n) for n in range(9)])
        await records.of(Post, ANN).add_many([Post(title="x") for _ in range(3)])
        cursor = (await notes.page(Note.stars > 2, order_by=[Note.title], limit=1)).next_cursor
        assert cursor is not None
        other: list[tuple[Any, list[Any], list[Any]]] = [
            (Note, [], [Note.title]),
            (Note, [Note.stars > 3], [Note.title]),
            (Note, [Note.stars >= 2], [Note.title]),
            (Note, [Note.stars > 2, Note.title == ""], [Note.title]),
            (Note, [Note.stars > 2], [Note.title.desc()]),
            (Note, [Note.stars > 2], [Note.stars]),
            (Note, [Note.stars > 2], []),
            (Post, [], []),
        ]
        for model, where, order_by in other:
            with pytest.raises(InvalidCursor):
                await records.of(model, ANN).page(*where, order_by=order_by, cursor=cursor)
        for limit in (1, 2, 100):  # the limit is no part of the query
            await notes.page(Note.stars > 2, order_by=[Note.title], cursor=cursor, limit=limit)

    async def test_of_another_list_of_values_are_rejected(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        await notes.add_many([Note(title="", stars=n) for n in range(9)])
        cursor = (await notes.page(Note.stars.in_([1, 2, 3]), limit=1)).next_cursor
        assert cursor is not None
        assert len((await notes.page(Note.stars.in_([1, 2, 3]), cursor=cursor)).items) == 2
        for stars in ([1, 2], [1, 2, 4], [3, 2, 1], []):
            with pytest.raises(InvalidCursor):
                await notes.page(Note.stars.in_(stars), cursor=cursor)

    async def test_say_nothing_of_rows_to_other_callers(self, records: Records) -> None:
        await records.of(Note, ANN).add_many([Note(title="", stars=n) for n in range(3)])
        cursor = (await records.of(Note, ANN).page(limit=1)).next_cursor
        try:
            page = await records.of(Note, BOB).page(cursor=cursor)
        except InvalidCursor:
            return
        assert [*page.items] == []
