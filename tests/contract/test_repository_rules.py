"""The contract of Repository, on every backend: the rules that a model brings with it, such as its
validators, checks and unique values."""

import secrets
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.backends import ANN, BOB, Records
from tests.column_models import Kinds
from tests.models import Article, Board, Note, Page, Remark

from amphibase import SERVICE, Caller, Conflict, ForeignKeyViolation, InvalidRequest, InvalidValue
from amphibase.errors import MissingValue


async def rejected(
    writing: dict[str, Coroutine[Any, Any, Any]],
    which: str,
    error: type[InvalidValue],
    message: str,
    field: str,
) -> None:
    """Run one of some writes: it is rejected by that error; the others are not run."""
    write = writing.pop(which)
    for other in writing.values():
        other.close()
    with pytest.raises(error) as caught:
        await write
    assert (str(caught.value), caught.value.field) == (message, field)


class TestValidators:
    async def test_change_the_values_of_every_write(self, records: Records) -> None:
        articles = records.of(Article, ANN)
        first = await articles.add(Article(slug="a", title=" one "))
        (many,) = await articles.add_many([Article(slug="b", title=" two ")])
        assert (first.title, many.title) == ("one", "two")
        changed = await articles.update(first.id, title=" three ")
        assert changed is not None
        assert changed.title == "three"
        put = await articles.upsert(Article(id=first.id, slug="a", title=" four "))
        assert put.title == "four"
        assert await articles.update_where(everything=True, title=" five ") == 2
        assert {row.title for row in await articles.list()} == {"five"}

    @pytest.mark.parametrize("write", ["update", "update_where"])
    async def test_reject_a_value_and_name_the_attribute(
        self, records: Records, write: str
    ) -> None:
        articles = records.of(Article, ANN)
        row = await articles.add(Article(slug="a"))
        writing = {
            "update": articles.update(row.id, title="bad"),
            "update_where": articles.update_where(everything=True, title="bad"),
        }
        await rejected(writing, write, InvalidValue, "title: must not be bad", "title")
        assert (await articles.one()).title == "untitled"

    def test_reject_a_value_of_a_new_object_and_name_the_attribute(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            Article(slug="b", title="bad")
        assert (str(caught.value), caught.value.field) == ("title: must not be bad", "title")


class TestConstraints:
    @pytest.mark.parametrize("write", ["add", "add_many", "update", "upsert"])
    async def test_a_missing_value_is_named(self, records: Records, write: str) -> None:
        articles = records.of(Article, ANN)
        row = await articles.add(Article(slug="a"))
        lacking: Any = Article(slug=None)
        writing = {
            "add": articles.add(lacking),
            "add_many": articles.add_many([lacking]),
            "update": articles.update(row.id, slug=None),
            "upsert": articles.upsert(lacking),
        }
        await rejected(writing, write, MissingValue, "slug is missing", "slug")

    async def test_a_missing_value_is_named_by_its_attribute(self, records: Records) -> None:
        nameless: Any = Page(title=None, link="x")
        with pytest.raises(MissingValue, match=r"^title is missing$"):
            await records.of(Page, ANN).add(nameless)

    async def test_a_check_that_does_not_hold_names_its_column(self, records: Records) -> None:
        articles = records.of(Article, ANN)
        row = await articles.add(Article(slug="a"))
        with pytest.raises(InvalidValue, match=r"^stars: the check ck_t_articles_"):
            await articles.update(row.id, stars=0)
        with pytest.raises(InvalidValue) as caught:
            await articles.add(Article(slug="b", stars=-1))
        assert caught.value.field == "stars"

    @pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
    async def test_a_number_that_json_cannot_hold_is_rejected(
        self, records: Records, value: float
    ) -> None:
        for values in ({"real": value}, {"reals": [value]}):
            with pytest.raises(InvalidValue, match="a finite number was expected"):
                await records.of(Kinds, ANN).add(Kinds(**values))


class TestUniqueValuesOfDeletedRows:
    async def test_can_be_used_again_where_the_index_is_partial(self, records: Records) -> None:
        articles = records.of(Article, ANN)
        first = await articles.add(Article(slug="a"))
        with pytest.raises(Conflict) as caught:
            await records.of(Article, BOB).add(Article(slug="a"))
        assert caught.value.columns == ("slug",)
        await articles.delete(first.id)
        second = await records.of(Article, BOB).add(Article(slug="a"))
        assert second.id != first.id
        with pytest.raises(Conflict):
            await articles.with_deleted().update(first.id, deleted_at=None)

    async def test_are_not_what_an_upsert_goes_by(self, records: Records) -> None:
        articles = records.of(Article, ANN)
        first = await articles.upsert(Article(slug="a", title="one"), on=[Article.slug])
        same = await articles.upsert(Article(slug="a", title="two"), on=[Article.slug])
        assert (same.id, same.title) == (first.id, "two")
        await articles.delete(first.id)
        other = await articles.upsert(Article(slug="a", title="three"), on=[Article.slug])
        assert other.id != first.id
        assert await records.of(Article).with_deleted().count() == 2


class TestReferences:
    @pytest.mark.parametrize(
        ("owner", "caller", "tables"),
        [
            (ANN, ANN, "t_remarks"),
            (BOB, ANN, "rows that you may not see"),
            (BOB, SERVICE, "t_remarks"),
        ],
        ids=["own", "another's", "service"],
    )
    async def test_to_a_row_that_is_deleted_are_named_where_the_caller_sees_them(
        self, records: Records, owner: Caller, caller: Caller, tables: str
    ) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        await records.of(Remark, owner).add(Remark(note_id=note.id))
        notes = records.of(Note, caller)
        for deleting in (notes.delete(note.id), notes.delete_where(Note.title == "one")):
            with pytest.raises(ForeignKeyViolation, match=f"Note is still referred to by {tables}"):
                await deleting
        assert await records.of(Note).count() == 1

    @pytest.mark.requires("transactions")
    async def test_are_not_looked_up_in_a_transaction_that_an_error_has_ended(
        self, records: Records
    ) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        await records.of(Remark, ANN).add(Remark(note_id=note.id))
        with pytest.raises(ForeignKeyViolation):
            async with records.backend.transaction(ANN) as transaction:
                await transaction.repository(Note).delete(note.id)
        assert await records.of(Note).count() == 1


async def test_a_column_that_is_not_in_a_list_is_rejected(records: Records) -> None:
    title: Any = Note.title
    notes = records.of(Note, ANN)
    await notes.add(Note(title="one", stars=1))
    reading = {
        "order_by": notes.list(order_by=title),
        "load": notes.list(load=title),
        "on": notes.upsert(Note(title="one", stars=1), on=title),
    }
    for argument, call in reading.items():
        with pytest.raises(InvalidRequest, match=rf"^{argument}: a list was expected"):
            await call


async def test_a_value_that_no_index_has_room_for_is_invalid(records: Records) -> None:
    boards = records.of(Board)
    board = Board(name=secrets.token_hex(10_000))
    if records.is_sqlite:  # whose indexes have room
        await boards.add(board)
    else:
        with pytest.raises(InvalidValue, match="larger than an index"):
            await boards.add(board)
