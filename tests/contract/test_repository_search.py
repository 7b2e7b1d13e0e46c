"""The contract of Repository, on every backend: full text search."""

import pytest
from sqlalchemy import not_
from tests.backends import ANN, BOB, Records
from tests.models import Licence, Note, Post

from amphibase import SERVICE, Caller, InvalidRequest, InvalidValue, NotSupported, Repository
from amphibase.search import matches, search_rank

TITLES = ("Red apple", "green apple pie", "pie with red plums", "Café au lait, no-one else")

FOUND: dict[str, tuple[int, ...]] = {
    "apple": (0, 1),
    "RED apple": (0,),
    "apple red": (0,),
    '"apple red"': (),
    '"red apple"': (0,),
    "plums or green": (1, 2),
    "red pie or lait": (2, 3),
    "pie -apple": (2,),
    'pie -"green apple"': (2,),
    "-apple": (2, 3),
    "app": (),
    "café": (3,),
    "no-one": (3,),
    "red & plums | !apple": (),
    "'); drop table t_posts; --": (),
    "": (),
    "!?": (),
    '"': (),
}


async def posts(records: Records) -> None:
    await records.of(Post, ANN).add_many([Post(title=title) for title in TITLES])


@pytest.mark.parametrize("query", FOUND)
async def test_a_search_finds_the_rows_that_have_its_words(records: Records, query: str) -> None:
    await posts(records)
    found = [TITLES[place] for place in FOUND[query]]
    rows = await records.of(Post, BOB).list(matches(Post.title, query=query))
    assert sorted(row.title for row in rows) == sorted(found)
    assert await records.of(Post, BOB).count(matches(Post.title, query=query)) == len(found)


async def test_a_search_is_a_filter_as_any_other(records: Records) -> None:
    """In logic, and of a page; a text that is NULL neither matches nor does not."""
    await posts(records)
    repository = records.of(Post, ANN)
    apple = matches(Post.title, query="apple")
    page = await repository.page(not_(apple), order_by=[Post.title], limit=1)
    assert [row.title for row in page.items] == [TITLES[3]]
    page = await repository.page(
        not_(apple), order_by=[Post.title], limit=1, cursor=page.next_cursor
    )
    assert [row.title for row in page.items] == [TITLES[2]]
    assert await repository.count(apple | (Post.title == TITLES[2])) == 3
    assert await repository.count(matches(Post.body, query="-apple")) == 0


async def test_a_search_finds_what_the_caller_sees(records: Records) -> None:
    await records.of(Note, ANN).add(Note(title="secret plan", stars=1))
    for caller, sees in ((ANN, 1), (BOB, 0), (SERVICE, 1)):
        assert await records.of(Note, caller).count(matches(Note.title, query="plan")) == sees


@pytest.mark.parametrize("caller", [ANN, BOB], ids=["the owner", "another"])
async def test_a_search_reads_no_column_that_only_the_service_reads(
    records: Records, caller: Caller
) -> None:
    await records.of(Licence, ANN).add(Licence(name="one"))
    with pytest.raises(NotSupported, match="read by the service alone"):
        await records.of(Licence, caller).list(matches(Licence.key, query="-a"))


@pytest.mark.requires("sql_expressions")
async def test_a_search_reads_several_columns_as_one_text(records: Records) -> None:
    repository = records.of(Post, ANN)
    await repository.add(Post(title="red", body="apple"))
    await repository.add(Post(title="green apple", body=None))
    for query, count in (("red apple", 1), ("apple", 2), ("apple -red", 1)):
        assert await repository.count(matches(Post.title, Post.body, query=query)) == count


@pytest.mark.requires("sql_expressions")
async def test_rows_are_paged_by_how_well_they_match(records: Records) -> None:
    repository = records.of(Post, ANN)
    titles = ["an apple", "apple apple apple", "apple apple", "an apple", "pear"]
    await repository.add_many([Post(title=title) for title in titles])
    expected = ["apple apple apple", "apple apple", "an apple", "an apple", "pear"]
    assert await titles_by_rank(repository) == expected
    async with records.backend.transaction(ANN) as transaction:  # read in another format
        assert await titles_by_rank(transaction.repository(Post)) == expected


async def titles_by_rank(repository: Repository[Post]) -> list[str]:
    """Page through all posts, a page for each."""
    rank = search_rank(Post.title, Post.body, query="apple").desc()
    titles, cursor = list[str](), None
    while True:
        page = await repository.page(order_by=[rank], limit=1, cursor=cursor)
        titles += [row.title for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return titles


async def test_what_cannot_be_searched_is_named(records: Records) -> None:
    for columns in ((), (Note.stars,), (Post.category,)):
        with pytest.raises(InvalidRequest, match="columns of text"):
            matches(*columns, query="a")
    with pytest.raises(InvalidRequest, match="configuration"):
        matches(Note.title, query="a", language="english'")
    with pytest.raises(InvalidValue, match="500 characters"):
        matches(Note.title, query="a" * 501)
    if not records.backend.capabilities.sql_expressions:
        with pytest.raises(NotSupported, match="one column"):
            await records.of(Post).list(matches(Post.title, Post.body, query="a"))
        with pytest.raises(NotSupported):
            await records.of(Post).list(order_by=[search_rank(Post.title, query="a")])
