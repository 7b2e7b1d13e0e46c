"""The contract of Repository, on every backend: relationships that are loaded with rows."""

from typing import Any

import pytest
from sqlalchemy import insert
from tests.backends import ANN, BOB, Records
from tests.models import Author, Book, Comment, Interest, Note, Post, Tag, book_tags

from amphibase import ANONYMOUS, SERVICE, InvalidRequest, InvalidValue, NotLoaded


async def library(records: Records) -> None:
    """Authors 0 and 1 with two books each, author 2 with none, and a book of nobody's; book n has
    the tags below n."""
    authors = await records.of(Author).add_many([Author(name=str(n)) for n in range(3)])
    books = await records.of(Book).add_many(
        [Book(title=str(n), author_id=authors[n // 2].id if n < 4 else None) for n in range(5)]
    )
    tags = await records.of(Tag).add_many([Tag(name=str(n)) for n in range(3)])
    pairs = [
        {"book_id": book.id, "tag_id": tag.id} for n, book in enumerate(books) for tag in tags[:n]
    ]
    await records.execute(insert(book_tags).values(pairs))


def _name(tag: Tag) -> str:
    return tag.name


class TestLoad:
    async def test_many_to_one(self, records: Records) -> None:
        await library(records)
        books = await records.of(Book, ANN).list(order_by=[Book.title], load=[Book.author])
        names = [book.author.name if book.author else None for book in books]
        assert names == ["0", "0", "1", "1", None]

    async def test_many_to_many_only_where_the_caller_sees_the_row_in_between(
        self, records: Records
    ) -> None:
        author = await records.of(Author).add(Author(name="author"))
        tag = await records.of(Tag).add(Tag(name="tag"))
        await records.of(Interest, ANN).add(Interest(author_id=author.id, tag_id=tag.id))
        for caller, sees in ((ANN, ["tag"]), (BOB, []), (ANONYMOUS, []), (SERVICE, ["tag"])):
            (found,) = await records.of(Author, caller).list(load=[Author.interests])
            assert [each.name for each in found.interests] == sees
            assert await records.of(Author, caller).count(Author.interests.any()) == len(sees)

    async def test_one_to_many(self, records: Records) -> None:
        await library(records)
        authors = await records.of(Author, ANN).list(order_by=[Author.name], load=[Author.books])
        titles = [sorted(book.title for book in author.books) for author in authors]
        assert titles == [["0", "1"], ["2", "3"], []]

    async def test_many_to_many(self, records: Records) -> None:
        await library(records)
        books = await records.of(Book, ANN).list(order_by=[Book.title], load=[Book.tags])
        names = [sorted(tag.name for tag in book.tags) for book in books]
        assert names == [[], ["0"], ["0", "1"], ["0", "1", "2"], ["0", "1", "2"]]
        tags = await records.of(Tag, ANN).list(order_by=[Tag.name], load=[Tag.books])
        titles = [sorted(book.title for book in tag.books) for tag in tags]
        assert titles == [["1", "2", "3", "4"], ["2", "3", "4"], ["3", "4"]]

    async def test_several_at_once(self, records: Records) -> None:
        await library(records)
        (book,) = await records.of(Book, ANN).list(Book.title == "3", load=[Book.author, Book.tags])
        assert book.author is not None
        assert book.author.name == "1"
        assert len(book.tags) == 3

    async def test_goes_on_from_the_related_rows(self, records: Records) -> None:
        await library(records)
        authors = await records.of(Author, ANN).list(
            order_by=[Author.name],
            load=[(Author.books, Book.tags, Tag.books), (Author.books, Book.author)],
        )
        seen = {
            book.title: [(tag.name, len(tag.books)) for tag in sorted(book.tags, key=_name)]
            for author in authors
            for book in author.books
        }
        assert seen == {
            "0": [],
            "1": [("0", 4)],
            "2": [("0", 4), ("1", 3)],
            "3": [("0", 4), ("1", 3), ("2", 2)],
        }
        for author in authors:
            assert [book.author and book.author.name for book in author.books] == [
                author.name for _ in author.books
            ]
        with pytest.raises(InvalidRequest, match="Book has no relationship"):
            await records.of(Author, ANN).list(load=[(Author.books, Author.books)])

    async def test_goes_on_through_visible_rows_alone(self, records: Records) -> None:
        post = await records.of(Post, ANN).add(Post(title="one"))
        await records.of(Comment, ANN).add(Comment(text="ann's", post_id=post.id))
        load = [(Post.comments, Comment.post, Post.comments)]
        for who, texts in ((ANN, ["ann's"]), (BOB, [])):
            row = await records.of(Post, who).one(load=load)
            assert [comment.text for comment in row.comments] == texts
            assert [[each.text for each in c.post.comments] for c in row.comments] == [
                texts for _ in texts
            ]

    async def test_by_every_method_that_takes_it(self, records: Records) -> None:
        await library(records)
        books, load = records.of(Book, ANN), [Book.author]
        by = Book.title == "2"
        book = await books.one(by, load=load)
        items = [
            book,
            await books.get(book.id, load=load),
            await books.first(by, load=load),
            *(await books.list(by, load=load)),
            *(await books.page(by, load=load)).items,
        ]
        for each in items:
            assert each is not None
            assert each.author is not None
            assert each.author.name == "1"

    async def test_leaves_out_what_the_caller_may_not_see(self, records: Records) -> None:
        post = await records.of(Post, ANN).add(Post(title="one"))
        for who, words in ((ANN, "ann's"), (BOB, "bob's")):
            await records.of(Comment, who).add(Comment(text=words, post_id=post.id))
        seen = {}
        for name, who in (("ann", ANN), ("bob", BOB), ("anonymous", ANONYMOUS)):
            row = await records.of(Post, who).one(load=[Post.comments])
            seen[name] = [comment.text for comment in row.comments]
        assert seen == {"ann": ["ann's"], "bob": ["bob's"], "anonymous": []}
        row = await records.of(Post).one(load=[Post.comments])
        assert {comment.text for comment in row.comments} == {"ann's", "bob's"}

    async def test_leaves_out_what_was_deleted(self, records: Records) -> None:
        post = await records.of(Post, ANN).add(Post(title="one"))
        comments = records.of(Comment, ANN)
        gone = await comments.add(Comment(text="gone", post_id=post.id))
        await comments.add(Comment(text="kept", post_id=post.id))
        await comments.delete(gone.id)
        row = await records.of(Post, ANN).one(load=[Post.comments])
        assert [comment.text for comment in row.comments] == ["kept"]

    @pytest.mark.requires("transactions")
    async def test_works_in_a_transaction(self, records: Records) -> None:
        await library(records)
        async with records.backend.transaction(ANN) as transaction:
            books = transaction.repository(Book)
            await books.add(Book(title="new"))
            rows = await books.list(Book.title.in_(["1", "new"]), load=[Book.author, Book.tags])
        assert [(book.title, len(book.tags)) for book in rows] == [("new", 0), ("1", 1)]

    @pytest.mark.parametrize("load", ["nope", Book.title, Author.books, 1, None])
    async def test_rejects_what_is_no_relationship_of_the_model(
        self, records: Records, load: Any
    ) -> None:
        await library(records)
        with pytest.raises(InvalidRequest):
            await records.of(Book, ANN).list(load=[load])


class TestNotLoaded:
    async def test_touching_it_says_how_to_load_it(self, records: Records) -> None:
        await library(records)
        book = await records.of(Book, ANN).one(Book.title == "1")
        for name in ("author", "tags"):
            with pytest.raises(NotLoaded, match=rf"load=\[Book\.{name}\]"):
                getattr(book, name)
        loaded = await records.of(Book, ANN).one(Book.title == "1", load=[Book.author])
        assert loaded.author is not None
        with pytest.raises(NotLoaded):
            _ = loaded.tags
        with pytest.raises(NotLoaded):
            _ = loaded.author.books

    async def test_rows_from_every_method_reject(self, records: Records) -> None:
        books = records.of(Book, ANN)
        book = await books.add(Book(title="one"))
        items = [
            book,
            *await books.add_many([Book(title="two")]),
            await books.upsert(Book(id=book.id, title="three")),
            await books.update(book.id, title="four"),
            *(await books.page()).items,
            *[each async for each in books.stream()],
        ]
        for each in items:
            with pytest.raises(NotLoaded):
                _ = each.author  # type: ignore[union-attr]

    async def test_columns_can_be_read_and_set_and_the_object_stored_again(
        self, records: Records
    ) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        row = await records.of(Note, ANN).get(note.id)
        assert row is not None
        row.title = "two"
        stored = await records.of(Note, ANN).upsert(row)
        assert (stored.title, stored.stars) == ("two", 1)
        assert (await records.of(Note).one()).title == "two"

    async def test_related_objects_are_not_stored_with_a_row(self, records: Records) -> None:
        with pytest.raises(InvalidValue) as caught:
            await records.of(Book, ANN).add(Book(title="one", author=Author(name="a")))
        assert caught.value.field == "author"
        assert await records.of(Author).count() == 0
