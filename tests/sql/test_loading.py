"""How large a page is with what is loaded, in the SQL backend."""

from tests.backends import ANN, Records
from tests.models import Author, Book, Tag

from amphibase.sql.records.repository import SqlRepository


async def test_rows_two_relationships_away_count(records: Records) -> None:
    authors = await records.of(Author).add_many([Author(name=name) for name in "abc"])
    books = [Book(title=name, author_id=authors[0].id) for name in "xy"]
    first, second = await records.of(Book).add_many(books)
    tag = await records.of(Tag).add(Tag(name="x" * 1000))
    for author in authors[:2]:
        await records.of(Author, ANN).add_related(author.id, Author.interests, [tag.id])
    rows = records.of(Book, ANN)
    assert isinstance(rows, SqlRepository)
    rows._builder.max_page_bytes = 1000
    await records.of(Book).update(second.id, author_id=authors[1].id)
    load = [(Book.author, Author.interests)]
    page = await rows.page(order_by=[Book.title], load=load)
    assert [row.title for row in page.items] == [first.title]
    page = await rows.page(order_by=[Book.title], load=load, cursor=page.next_cursor)
    assert [row.title for row in page.items] == [second.title]
