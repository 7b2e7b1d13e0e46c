"""The contract of Repository, on every backend: what joins rows of many to many."""

from uuid import uuid4

import pytest
from tests.backends import ANN, BOB, Records
from tests.models import Author, Book, Interest, Note, Tag

from amphibase import (
    ANONYMOUS,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    NotFound,
    NotSupported,
    Unauthenticated,
)


async def interests_of(records: Records, author: Author) -> list[str]:
    row = await records.of(Author, ANN).get(author.id, load=[Author.interests])
    assert row is not None
    return sorted(tag.name for tag in row.interests)


async def author_and_tags(records: Records) -> tuple[Author, list[int]]:
    author = await records.of(Author).add(Author(name="author"))
    tags = await records.of(Tag).add_many([Tag(name=name) for name in "abc"])
    return author, [tag.id for tag in tags]


class TestRelatedRows:
    async def test_are_added_once_and_removed(self, records: Records) -> None:
        author, (a, b, c) = await author_and_tags(records)
        authors = records.of(Author, ANN)
        assert await authors.add_related(author.id, Author.interests, [a, b, b]) == 2
        assert await authors.add_related(author.id, Author.interests, [b, c]) == 1
        assert await interests_of(records, author) == ["a", "b", "c"]
        assert await authors.remove_related(author.id, Author.interests, [a, c]) == 2
        assert await interests_of(records, author) == ["b"]

    async def test_are_joined_under_the_access_of_what_is_in_between(
        self, records: Records
    ) -> None:
        author, (a, *_) = await author_and_tags(records)
        await records.of(Author, ANN).add_related(author.id, Author.interests, [a])
        assert (await records.of(Interest).one()).owner_id == ANN.user_id
        assert await records.of(Author, BOB).remove_related(author.id, Author.interests, [a]) == 0
        with pytest.raises((Unauthenticated, Forbidden)):
            await records.of(Author, ANONYMOUS).add_related(author.id, Author.interests, [a])
        assert await records.of(Interest).count() == 1

    async def test_must_be_there_to_be_joined(self, records: Records) -> None:
        author, (a, *_) = await author_and_tags(records)
        with pytest.raises(NotFound):
            await records.of(Author, ANN).add_related(uuid4(), Author.interests, [a])
        with pytest.raises(ForeignKeyViolation):
            await records.of(Author, ANN).add_related(author.id, Author.interests, [a, 2**30])
        assert not await records.of(Interest).exists()

    async def test_must_be_visible_to_be_joined(self, records: Records) -> None:
        author, _ = await author_and_tags(records)
        note = await records.of(Note, ANN).add(Note(title="ann's", stars=1))
        with pytest.raises(ForeignKeyViolation, match="There is no such Note"):
            await records.of(Author, BOB).add_related(author.id, Author.sources, [note.id])
        assert await records.of(Author, ANN).add_related(author.id, Author.sources, [note.id]) == 1
        (row,) = await records.of(Author, BOB).list(load=[Author.sources])
        assert row.sources == []

    async def test_need_a_relationship_whose_table_in_between_has_a_model(
        self, records: Records
    ) -> None:
        with pytest.raises(InvalidRequest, match="no relationship books of many to many"):
            await records.of(Author, ANN).add_related(uuid4(), Author.books, [uuid4()])
        with pytest.raises(NotSupported, match="t_book_tags has no model"):
            await records.of(Book, ANN).add_related(uuid4(), Book.tags, [1])
