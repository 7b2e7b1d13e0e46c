"""What query strings of generated routes request, on every backend."""

from typing import Any
from urllib.parse import parse_qsl

import pytest
from tests.backends import ANN, BOB, Records
from tests.models import Author, Book, Interest, Tag

from amphibase import SERVICE
from amphibase.records.aggregate_query import read_aggregate_query
from amphibase.records.listing import read_listing

FOUND = {
    "books.title=eq.tea": "ann",
    "books.or=(title.eq.tea,title.eq.milk)": "ann bob",
    "books.not.and=(title.eq.tea,created_at.is.not_null)": "bob",
    "interests.name=in.(plants)": "bob",
    "interests.name=eq.plants&books.title=eq.milk": "bob",
    "interests.name=eq.plants&books.title=eq.tea": "",
}


@pytest.fixture
async def authors(records: Records) -> Records:
    """Ann wrote about tea, Bob about milk; that Bob likes plants, Bob alone may see."""
    ann, bob = await records.of(Author).add_many([Author(name="ann"), Author(name="bob")])
    await records.of(Book).add_many(
        [Book(title="tea", author_id=ann.id), Book(title="milk", author_id=bob.id)]
    )
    tag = await records.of(Tag).add(Tag(id=1, name="plants"))
    await records.of(Interest, BOB).add(Interest(author_id=bob.id, tag_id=tag.id))
    return records


async def test_related_rows_count_that_the_caller_sees(authors: Records) -> None:
    for query, names in FOUND.items():
        listing = read_listing(Author, parse_qsl(query), max_relations=2)
        for caller in (ANN, BOB, SERVICE):
            sees = "" if caller is ANN and "interests" in query else names
            page = await authors.of(Author, caller).page(*listing.where, order_by=[Author.name])
            assert [author.name for author in page.items] == sees.split(), (query, caller)


async def test_aggregates_are_written_alike(authors: Records) -> None:
    text = "select=n:count(),name,first:created_at.count()&books.title=neq.nothing"
    query = read_aggregate_query(Author, parse_qsl(text), max_relations=1)
    rows: Any = await authors.of(Author, ANN).aggregate(
        *query.functions, by=query.by, where=query.where, limit=query.limit
    )
    assert query.items(rows) == [{"n": 1, "name": name, "first": 1} for name in ("ann", "bob")]
