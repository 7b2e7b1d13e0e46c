"""The contract of Repository, on every backend: rows that are stored or changed."""

from uuid import uuid4

import pytest
from tests.backends import ANN, BOB, Records
from tests.column_models import Seat
from tests.models import Document, Draft, Note, Post, Tag

from amphibase import Conflict, InvalidRequest, InvalidValue


class TestUpsert:
    async def test_stores_a_new_row(self, records: Records) -> None:
        id = uuid4()
        row = Note(id=id, title="one", stars=1)
        stored = await records.of(Note, ANN).upsert(row)
        assert stored is row
        assert stored.owner_id == ANN.user_id
        assert (await records.of(Note, ANN).one()).id == id

    async def test_changes_the_row_that_is_there(self, records: Records) -> None:
        first = await records.of(Note, ANN).add(Note(title="one", stars=1))
        created, updated = first.created_at, first.updated_at
        stored = await records.of(Note, ANN).upsert(Note(id=first.id, title="two", stars=2))
        assert (stored.title, stored.stars, stored.owner_id) == ("two", 2, ANN.user_id)
        assert stored.created_at == created
        assert stored.updated_at > updated
        assert (await records.of(Note).one()).title == "two"

    async def test_leaves_the_row_that_is_there_if_told_so(self, records: Records) -> None:
        first = await records.of(Note, ANN).add(Note(title="one", stars=1))
        stored = await records.of(Note, ANN).upsert(
            Note(id=first.id, title="two", stars=2), replace=False
        )
        assert (stored.title, stored.stars) == ("one", 1)
        assert (await records.of(Note).one()).title == "one"
        fresh = await records.of(Note, ANN).upsert(Note(title="new", stars=3), replace=False)
        assert fresh.title == "new"

    async def test_goes_by_a_unique_column(self, records: Records) -> None:
        tags = records.of(Tag, ANN)
        first = await tags.add(Tag(name="a"))
        for on in ([Tag.name], ["name"]):
            assert (await tags.upsert(Tag(name="a"), on=on)).id == first.id
            assert (await tags.upsert(Tag(name="a"), on=on, replace=False)).id == first.id
        assert (await tags.upsert(Tag(name="b"), on=[Tag.name])).id != first.id
        assert await tags.count() == 2

    async def test_goes_by_a_key_of_two_columns(self, records: Records) -> None:
        seats = records.of(Seat, ANN)
        await seats.upsert(Seat(row=1, number=1, label="a"))
        await seats.upsert(Seat(row=1, number=1, label="b"))
        await seats.upsert(Seat(row=1, number=2, label="c"))
        assert [s.label for s in await seats.list(order_by=[Seat.label])] == ["b", "c"]

    async def test_rejects_columns_that_are_not_there_or_not_unique(self, records: Records) -> None:
        with pytest.raises(InvalidValue) as caught:
            await records.of(Tag, ANN).upsert(Tag(name="a"), on=["nope"])
        assert caught.value.field == "nope"
        with pytest.raises((InvalidRequest, InvalidValue)):
            await records.of(Note, ANN).upsert(Note(title="a", stars=1), on=[Note.title])

    @pytest.mark.parametrize("replace", [True, False])
    async def test_does_not_touch_another_ones_row(self, records: Records, replace: bool) -> None:
        first = await records.of(Note, ANN).add(Note(title="one", stars=1))
        with pytest.raises(Conflict):
            await records.of(Note, BOB).upsert(
                Note(id=first.id, title="two", stars=2), replace=replace
            )
        row = await records.of(Note).one()
        assert (row.title, row.owner_id) == ("one", ANN.user_id)

    async def test_does_not_touch_another_ones_row_that_is_seen(self, records: Records) -> None:
        first = await records.of(Post, ANN).add(Post(title="one"))
        with pytest.raises(Conflict):
            await records.of(Post, BOB).upsert(Post(id=first.id, title="two"))
        seen = await records.of(Post, BOB).upsert(Post(id=first.id, title="two"), replace=False)
        assert (seen.title, seen.owner_id) == ("one", ANN.user_id)

    async def test_brings_back_a_row_that_was_deleted(self, records: Records) -> None:
        drafts = records.of(Draft, ANN)
        draft = await drafts.add(Draft(title="one"))
        await drafts.delete(draft.id)
        stored = await drafts.upsert(Draft(id=draft.id, title="two"))
        assert stored.deleted_at is None
        row = await drafts.get(draft.id)
        assert row is not None
        assert row.title == "two"

    async def test_does_not_bring_back_another_ones(self, records: Records) -> None:
        draft = await records.of(Draft, ANN).add(Draft(title="one"))
        await records.of(Draft, ANN).delete(draft.id)
        with pytest.raises(Conflict):
            await records.of(Draft, BOB).upsert(Draft(id=draft.id, title="two"))
        assert (await records.of(Draft).with_deleted().one()).title == "one"

    async def test_counts_up_the_version(self, records: Records) -> None:
        documents = records.of(Document, ANN)
        first = await documents.upsert(Document(title="one"))
        assert first.version == 1
        assert (await documents.upsert(Document(id=first.id, title="two"))).version == 2
