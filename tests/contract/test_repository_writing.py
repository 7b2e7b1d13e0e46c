"""The contract of Repository, on every backend: adding, changing and deleting rows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, inspect
from tests.backends import ADMIN, ANN, BOB, Records
from tests.column_models import Kinds, Seat
from tests.models import Author, Board, Book, Category, Document, Note, Page, Post, Report, Tag

from amphibase import (
    ANONYMOUS,
    SERVICE,
    Conflict,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    InvalidValue,
    StaleVersion,
    Unauthenticated,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class TestAdd:
    async def test_sets_the_id_the_owner_and_the_times(self, records: Records) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        assert isinstance(note.id, UUID)
        assert note.owner_id == ANN.user_id
        for moment in (note.created_at, note.updated_at):
            assert before < moment < datetime.now(UTC) + timedelta(seconds=1)
            assert moment.tzinfo is not None

    async def test_gives_the_same_object_as_stored(self, records: Records) -> None:
        new = Post(title="one", price=Decimal("1.10"), tags=["a"])
        stored = await records.of(Post, ANN).add(new)
        assert stored is new
        row = await records.of(Post, ANN).get(stored.id)
        assert row is not None
        for name in ("id", "owner_id", "title", "price", "tags", "data", "category"):
            assert getattr(row, name) == getattr(stored, name)
        assert row.created_at == stored.created_at
        assert (stored.category, stored.data, stored.body) == (Category.NEWS, {}, None)

    async def test_takes_an_id_that_is_given(self, records: Records) -> None:
        id = uuid4()
        assert (await records.of(Note, ANN).add(Note(id=id, title="", stars=1))).id == id

    async def test_rejects_an_object_of_another_class(self, records: Records) -> None:
        """Its columns may have the same names."""
        notes: Any = records.of(Note, ANN)
        for other in (Post(title="one"), {"title": "one", "stars": 1}):
            for write in (notes.add(other), notes.add_many([other]), notes.upsert(other)):
                with pytest.raises(TypeError, match="an object of Note was expected, not of"):
                    await write
        assert await records.of(Note).count() == 0

    async def test_rejects_a_key_that_is_taken(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        for caller in (ANN, BOB):
            with pytest.raises(Conflict) as caught:
                await records.of(Note, caller).add(Note(id=note.id, title="two", stars=2))
            assert caught.value.columns == ("id",)
        assert (await records.of(Note).one()).title == "one"

    async def test_rejects_a_unique_value_that_is_taken(self, records: Records) -> None:
        await records.of(Board, ADMIN).add(Board(name="one"))
        with pytest.raises(Conflict) as caught:
            await records.of(Board, ADMIN).add(Board(name="one"))
        assert caught.value.columns == ("name",)

    async def test_names_the_attributes_whose_values_are_rejected(self, records: Records) -> None:
        """Where the database has other names for them."""
        pages = records.of(Page, ANN)
        page = await pages.add(Page(title="one"))
        for caller in (ANN, BOB):
            with pytest.raises(Conflict) as caught:
                await records.of(Page, caller).add(Page(title="one"))
            assert caught.value.columns == ("title",)
        with pytest.raises(InvalidValue) as rejected:
            await pages.update(page.id, title=None)
        assert rejected.value.field == "title"
        assert "heading" not in str(rejected.value)

    async def test_rejects_a_row_that_refers_to_nothing(self, records: Records) -> None:
        with pytest.raises(ForeignKeyViolation):
            await records.of(Book, ANN).add(Book(title="one", author_id=uuid4()))

    async def test_rejects_a_row_that_lacks_a_value(self, records: Records) -> None:
        with pytest.raises(InvalidValue) as caught:
            await records.of(Note, ANN).add(Note(title="one"))
        assert caught.value.field == "stars"

    async def test_rejects_the_name_of_another_owner(self, records: Records) -> None:
        rows: list[Any] = [Note(title="x", stars=1), Post(title="x")]
        for row in rows:
            row.owner_id = BOB.user_id
            with pytest.raises(InvalidValue) as caught:
                await records.of(type(row), ANN).add(row)
            assert caught.value.field == "owner_id"
            assert await records.of(type(row)).count() == 0

    async def test_the_service_says_whose_a_row_is(self, records: Records) -> None:
        note = await records.of(Note).add(Note(title="x", stars=1, owner_id=BOB.user_id))
        assert note.owner_id == BOB.user_id
        with pytest.raises(InvalidValue) as caught:
            await records.of(Note).add(Note(title="x", stars=1))
        assert caught.value.field == "owner_id"

    async def test_counts_up_integer_keys(self, records: Records) -> None:
        first = await records.of(Tag, ANN).add(Tag(name="a"))
        second = await records.of(Tag, ANN).add(Tag(name="b"))
        assert isinstance(first.id, int)
        assert second.id > first.id

    async def test_stores_a_row_that_holds_nothing(self, records: Records) -> None:
        row = await records.of(Kinds, ANN).add(Kinds())
        assert isinstance(row.id, int)
        assert row.text is None


class TestAddMany:
    async def test_makes_values_of_the_row_s_others(self, records: Records) -> None:
        pages = records.of(Page, ANN)
        one = await pages.add(Page(title="One"))
        two, three = await pages.add_many([Page(title="Two"), Page(title="Three")])
        assert [page.link for page in (one, two, three)] == ["one", "two", "three"]

    async def test_stores_nothing_of_nothing(self, records: Records) -> None:
        assert [*await records.of(Note, ANN).add_many([])] == []
        assert [*await records.of(Note, ANN).add_many(iter(()))] == []

    async def test_keeps_the_order_and_the_objects(self, records: Records) -> None:
        items = [Note(title=str(n), stars=n) for n in range(300)]
        stored = await records.of(Note, ANN).add_many(iter(items))
        assert all(a is b for a, b in zip(items, stored, strict=True))
        rows = await records.of(Note, ANN).list(limit=1000, order_by=[Note.stars])
        assert [(f.id, f.title, f.owner_id, f.created_at) for f in rows] == [
            (s.id, s.title, ANN.user_id, s.created_at) for s in stored
        ]

    async def test_keeps_the_order_where_the_database_counts_the_keys(
        self, records: Records
    ) -> None:
        stored = await records.of(Kinds, ANN).add_many([Kinds(number=n) for n in range(1500)])
        found = {row.id: row.number async for row in records.of(Kinds).stream()}
        assert [found[row.id] for row in stored] == [*range(1500)]

    @pytest.mark.requires("sql_expressions")
    async def test_takes_expressions(self, records: Records) -> None:
        small = func.lower("ONE")
        for caller in (ANN, SERVICE):
            notes = [
                Note(title=title, stars=stars, owner_id=ANN.user_id)
                for title, stars in ((small, 1), ("two", 2), (small, 3), (func.lower("SIX"), 6))
            ]
            stored = await records.of(Note, caller).add_many(notes)
            found = [(note.title, note.stars) for note in stored]
            assert found == [("one", 1), ("two", 2), ("one", 3), ("six", 6)]

    async def test_takes_rows_that_hold_different_columns(self, records: Records) -> None:
        rows = [
            Kinds(number=1),
            Kinds(text="two"),
            Kinds(),
            Kinds(id=900_000, number=4),
            Kinds(text="five"),
            Kinds(number=6, text="six"),
        ]
        stored = await records.of(Kinds, ANN).add_many(rows)
        assert [(row.number, row.text) for row in stored] == [
            (1, None),
            (None, "two"),
            (None, None),
            (4, None),
            (None, "five"),
            (6, "six"),
        ]
        for row in stored:
            found = await records.of(Kinds).get(row.id)
            assert found is not None
            assert (found.number, found.text) == (row.number, row.text)

    async def test_fills_in_what_was_left_out(self, records: Records) -> None:
        rows = [Post(title="a"), Post(title="b", body="r", tags=["t"], data={"k": 1})]
        first, second = await records.of(Post, ANN).add_many(rows)
        assert (first.body, first.tags, first.data, first.price) == (None, [], {}, Decimal(0))
        assert (second.body, second.tags, second.data) == ("r", ["t"], {"k": 1})
        row = await records.of(Post).get(second.id)
        assert row is not None
        assert (row.body, row.tags, row.data) == ("r", ["t"], {"k": 1})

    async def test_stores_all_or_none(self, records: Records) -> None:
        taken = await records.of(Note, ANN).add(Note(title="taken", stars=0))
        rows = [Note(title="a", stars=1), Note(id=taken.id, title="b", stars=2)]
        with pytest.raises(Conflict):
            await records.of(Note, ANN).add_many(rows)
        with pytest.raises(InvalidValue):
            await records.of(Note, ANN).add_many(
                [Note(title="a", stars=1), Note(title="b", stars=2, owner_id=BOB.user_id)]
            )
        with pytest.raises(InvalidValue):
            await records.of(Note, ANN).add_many([Note(title="a", stars=1), Note(title="b")])
        assert [row.title for row in await records.of(Note).list()] == ["taken"]

    async def test_says_whose_the_rows_are(self, records: Records) -> None:
        rows = [
            Note(title="left out", stars=1),
            Note(title="none", stars=1, owner_id=None),
            Note(title="own", stars=1, owner_id=ANN.user_id),
        ]
        stored = await records.of(Note, ANN).add_many(rows)
        assert {row.owner_id for row in stored} == {ANN.user_id}
        assert await records.of(Note, ANN).count() == 3
        others = [Report(title="a"), Report(title="b", owner_id=BOB.user_id)]
        stored_others = await records.of(Report, ADMIN).add_many(others)
        assert [row.owner_id for row in stored_others] == [ADMIN.user_id, BOB.user_id]

    @pytest.mark.parametrize("model", [Tag, Board])
    async def test_leaves_objects_as_a_session_leaves_what_it_has_let_go_of(
        self, records: Records, model: type[Any]
    ) -> None:
        stored = await records.of(model, ADMIN).add_many([model(name="a"), model(name="b")])
        for row in stored:
            state = inspect(row)
            assert state.detached
            assert not state.modified
            assert state.identity == (row.id,)
            found = await records.of(model).get(row.id)
            assert state.identity_key == inspect(found).identity_key

    async def test_rejects_related_objects(self, records: Records) -> None:
        rows = [Book(title="a"), Book(title="b", author=Author(name="x"))]
        with pytest.raises(InvalidValue) as caught:
            await records.of(Book, ANN).add_many(rows)
        assert caught.value.field == "author"
        assert await records.of(Book).count() == 0

    async def test_leaves_the_objects_as_they_were_where_nothing_is_stored(
        self, records: Records
    ) -> None:
        await records.of(Board, ADMIN).add(Board(name="taken"))
        rows = [Board(name="free"), Board(name="taken")]
        with pytest.raises(Conflict):
            await records.of(Board, ADMIN).add_many(rows)
        assert all(inspect(row).transient and row.id is None for row in rows)
        rows[1].name = "free too"
        await records.of(Board, ADMIN).add_many(rows)
        assert await records.of(Board).count() == 3


class TestUpdate:
    async def test_changes_what_is_given_and_no_more(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1, created_at=LONG_AGO))
        other = await records.of(Note, ANN).add(Note(title="other", stars=1))
        changed = await records.of(Note, ANN).update(note.id, title="two")
        assert changed is not None
        assert (changed.id, changed.title, changed.stars) == (note.id, "two", 1)
        assert changed.created_at == note.created_at
        assert changed.updated_at > note.updated_at
        row = await records.of(Note, ANN).get(note.id)
        assert row is not None
        assert (row.title, row.updated_at) == ("two", changed.updated_at)
        untouched = await records.of(Note).get(other.id)
        assert untouched is not None
        assert untouched.title == "other"

    async def test_gives_none_where_there_is_no_such_row(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        assert await records.of(Note, ANN).update(uuid4(), title="two") is None
        assert await records.of(Note, BOB).update(note.id, title="two") is None
        assert await records.of(Note, ANN).update(uuid4()) is None

    async def test_without_changes_gives_the_row(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        row = await records.of(Note, ANN).update(note.id)
        assert row is not None
        assert row.updated_at == note.updated_at

    async def test_takes_a_key_of_two_columns(self, records: Records) -> None:
        await records.of(Seat, ANN).add(Seat(row=1, number=2, label="a"))
        changed = await records.of(Seat, ANN).update((1, 2), label="b")
        assert changed is not None
        assert changed.label == "b"

    @pytest.mark.requires("sql_expressions")
    async def test_takes_an_expression(self, records: Records) -> None:
        await records.of(Seat, ANN).add(Seat(row=1, number=2, label="a"))
        changed = await records.of(Seat, ANN).update((1, 2), label=Seat.label + "b")
        assert changed is not None
        assert changed.label == "ab"

    @pytest.mark.parametrize(
        "name", ["nope", "id", "owner_id", "version", "updated_at", "created_at", "__table__"]
    )
    async def test_rejects_what_is_not_the_callers_to_set(
        self, records: Records, name: str
    ) -> None:
        row = await records.of(Document, ANN).add(Document(title="one"))
        values: Any = {name: getattr(row, name, "x")}
        documents = records.of(Document, ANN)
        with pytest.raises(InvalidValue) as caught:
            await documents.update(row.id, **values)
        assert caught.value.field == name
        with pytest.raises(InvalidValue) as caught:
            await documents.update_where(Document.title == "one", **values)
        assert caught.value.field == name

    async def test_the_service_may_give_a_row_away(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        assert await records.of(Note).update(note.id, owner_id=BOB.user_id) is not None
        assert await records.of(Note, ANN).get(note.id) is None
        assert await records.of(Note, BOB).get(note.id) is not None

    async def test_rejects_a_value_that_is_taken(self, records: Records) -> None:
        boards = records.of(Board, ADMIN)
        await boards.add(Board(name="a"))
        board = await boards.add(Board(name="b"))
        with pytest.raises(Conflict) as caught:
            await boards.update(board.id, name="a")
        assert caught.value.columns == ("name",)

    async def test_without_changes_gives_the_row_as_it_is(self, records: Records) -> None:
        document = await records.of(Document, ANN).add(Document(title="one"))
        for version in (None, 1):
            same = await records.of(Document, ANN).update(document.id, if_version=version)
            assert same is not None
            assert (same.title, same.version) == ("one", 1)
            assert same.updated_at == document.updated_at

    async def test_without_changes_is_for_those_who_may_change(self, records: Records) -> None:
        page = await records.of(Page, ANN).add(Page(title="one"))
        for version in (None, 1, 7):
            with pytest.raises(Forbidden):
                await records.of(Page, BOB).update(page.id, if_version=version)
            with pytest.raises(Unauthenticated):
                await records.of(Page, ANONYMOUS).update(page.id, if_version=version)


class TestVersions:
    async def test_each_update_counts_up(self, records: Records) -> None:
        documents = records.of(Document, ANN)
        row = await documents.add(Document(title="one"))
        assert row.version == 1
        for version in (2, 3):
            changed = await documents.update(row.id, title=str(version), if_version=version - 1)
            assert changed is not None
            assert changed.version == version
        assert await documents.update_where(Document.title == "3", title="4") == 1
        assert (await documents.one()).version == 4

    async def test_a_stale_write_changes_nothing(self, records: Records) -> None:
        documents = records.of(Document, ANN)
        row = await documents.add(Document(title="one"))
        await documents.update(row.id, title="two")
        with pytest.raises(StaleVersion):
            await documents.update(row.id, title="three", if_version=1)
        with pytest.raises(StaleVersion):
            await documents.delete(row.id, if_version=1)
        assert (await documents.one()).title == "two"
        assert await documents.delete(row.id, if_version=2) is True

    async def test_a_row_that_is_not_there_is_not_stale(self, records: Records) -> None:
        row = await records.of(Document, ANN).add(Document(title="one"))
        for caller, id in ((ANN, uuid4()), (BOB, row.id)):
            documents = records.of(Document, caller)
            assert await documents.update(id, title="two", if_version=7) is None
            assert await documents.delete(id, if_version=7) is False

    async def test_a_row_that_others_may_only_read_is_not_stale(self, records: Records) -> None:
        page = await records.of(Page, ANN).add(Page(title="one"))
        pages = records.of(Page, BOB)
        for work in (pages.update(page.id, title="two", if_version=7), pages.delete(page.id)):
            with pytest.raises(Forbidden):
                await work

    async def test_what_can_be_no_version_is_rejected(self, records: Records) -> None:
        row = await records.of(Document, ANN).add(Document(title="one"))
        for version in ("1", 2**31, True):
            given: Any = version
            with pytest.raises(InvalidValue) as caught:
                await records.of(Document, ANN).update(row.id, title="two", if_version=given)
            assert caught.value.field == "version"

    async def test_a_model_without_versions_has_none(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).update(note.id, title="two", if_version=1)
        with pytest.raises(InvalidRequest):
            await records.of(Note, ANN).delete(note.id, if_version=1)


class TestUpdateWhereAndDeleteWhere:
    async def test_change_what_matches_and_say_how_many(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        await notes.add_many([Note(title="x", stars=n) for n in range(5)])
        await records.of(Note, BOB).add(Note(title="bob's", stars=4))
        assert await notes.update_where(Note.stars > 2, title="y") == 2
        assert await notes.count(Note.title == "y") == 2
        assert await notes.update_where(Note.stars > 99, title="z") == 0
        assert await notes.delete_where(Note.title == "y") == 2
        assert await notes.delete_where(Note.title == "y") == 0
        assert await notes.count() == 3
        assert (await records.of(Note, BOB).one()).title == "bob's"

    async def test_move_updated_at(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        await records.of(Note, ANN).update_where(Note.stars == 1, title="two")
        assert (await records.of(Note).one()).updated_at > note.updated_at

    async def test_need_a_filter_or_say_that_every_row_is_meant(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        await notes.add_many([Note(title="x", stars=n) for n in range(3)])
        await records.of(Note, BOB).add(Note(title="bob's", stars=4))
        with pytest.raises(InvalidRequest):
            await notes.update_where(title="y")
        with pytest.raises(InvalidRequest):
            await notes.delete_where()
        assert await notes.count(Note.title == "x") == 3
        assert await notes.update_where(everything=True, title="y") == 3
        assert await notes.delete_where(everything=True) == 3
        assert await records.of(Note).count() == 1


class TestDelete:
    async def test_says_whether_there_was_a_row(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        await records.of(Seat, ANN).add(Seat(row=1, number=2))
        assert await records.of(Note, BOB).delete(note.id) is False
        assert await records.of(Note, ANN).delete(uuid4()) is False
        assert await records.of(Note, ANN).delete(note.id) is True
        assert await records.of(Note, ANN).delete(note.id) is False
        assert await records.of(Seat, ANN).delete((1, 2)) is True
        assert await records.of(Note).count() == 0
