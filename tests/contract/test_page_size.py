"""The contract of pages of large rows: they end by bytes as well as by their limit."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from tests.backends import ANN, Records
from tests.models import Author, Book, Clip, Comment, Note, Post

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import SERVICE, Backend, Repository
from amphibase.build import build_backend

NAMES = ("id", "title", "body", "created_at")
Pages = Callable[..., Any]


@pytest.fixture
async def backend(records: Records) -> AsyncIterator[Backend]:
    """Backend whose pages have 1 MiB."""
    settings = records.settings.model_copy(update={"max_page_mb": 1})
    backend = build_backend(settings, load_keys(settings))
    yield backend
    await backend.close()


@pytest.fixture
def posts(backend: Backend) -> Repository[Post]:
    return backend.repository(Post, ANN)


async def titles_of_pages(page: Pages, **more: Any) -> list[list[str]]:
    """Return the titles of every page, in the list's order."""
    pages, cursor = [], None
    while True:
        part = await page(order_by=[Post.title], cursor=cursor, **more)
        objects = [row if isinstance(row, str) else row.title for row in part.items]
        pages.append([text.split('"title":"')[-1][:1] for text in objects])
        if (cursor := part.next_cursor) is None:
            return pages


async def test_a_page_ends_before_the_row_that_makes_it_too_large(
    posts: Repository[Post],
) -> None:
    sizes = {"a": 10, "b": 400_000, "c": 10, "d": 700_000, "e": 700_000, "f": 1_500_000}
    sizes |= dict.fromkeys("ghijk", 10)
    await posts.add_many([Post(title=title, body="x" * size) for title, size in sizes.items()])
    pages = [["a", "b", "c"], ["d"], ["e"], ["f"], ["g", "h", "i", "j"], ["k"]]
    assert await titles_of_pages(posts.page, limit=4) == pages
    rows = posts.json_rows(NAMES)
    if rows is not None:
        assert await titles_of_pages(rows.page, limit=4) == pages
    assert await posts.count() == len(await posts.list(limit=20)) == 11


async def test_a_page_of_one_row_that_is_too_large_is_that_row(posts: Repository[Post]) -> None:
    await posts.add(Post(title="a", body="x" * 1_500_000))
    page = await posts.page()
    assert [len(row.body or "") for row in page.items] == [1_500_000]
    assert page.next_cursor is None


@pytest.mark.parametrize(
    "values",
    [{"body": "ü" * 300_000}, {"tags": ["x" * 600_000]}, {"data": {"key": "x" * 600_000}}],
    ids=["text by its bytes", "list", "JSON"],
)
async def test_every_column_without_a_small_limit_counts(
    posts: Repository[Post], values: dict[str, Any]
) -> None:
    await posts.add_many([Post(title="a", **values), Post(title="b", **values)])
    assert await titles_of_pages(posts.page) == [["a"], ["b"]]


async def test_rows_that_fit_together_are_one_page_however_unequal(
    posts: Repository[Post],
) -> None:
    await posts.add_many([Post(title="a", body="x" * 900_000), Post(title="b"), Post(title="c")])
    page = await posts.page(order_by=[Post.title], limit=3)
    assert [row.body and len(row.body) for row in page.items] == [900_000, None, None]
    assert page.next_cursor is None


@pytest.mark.requires("sql_expressions")
async def test_values_that_the_database_computes_count(backend: Backend) -> None:
    note = Note(title="x" * 600_000, stars=1)
    await backend.repository(Note, ANN).add(note)
    clips = backend.repository(Clip, ANN)
    await clips.add_many([Clip(name=name, note_id=note.id) for name in "ab"])
    page = await clips.page(order_by=[Clip.name])
    assert [(row.name, len(row.note_title or "")) for row in page.items] == [("a", 600_000)]
    page = await clips.page(order_by=[Clip.name], cursor=page.next_cursor)
    assert ([row.name for row in page.items], page.next_cursor) == (["b"], None)


async def test_rows_that_are_loaded_count_once_each(backend: Backend) -> None:
    sizes = {"a": 250_000, "b": 250_000, "c": 10}
    posts = [Post(title=title, body="x" * size) for title, size in sizes.items()]
    await backend.repository(Post, ANN).add_many(posts)
    comments = [
        Comment(post_id=post.id, text="x" * size)
        for post, size in zip(posts, (300_000, 300_000, 10), strict=True)
        for _ in range(2)
    ]
    await backend.repository(Comment, ANN).add_many(comments)
    reads = backend.repository(Post, SERVICE)
    page = await reads.page(order_by=[Post.title], load=[Post.comments])
    assert [(row.title, len(row.comments)) for row in page.items] == [("a", 2)]
    page = await reads.page(order_by=[Post.title], load=[Post.comments], cursor=page.next_cursor)
    assert [(row.title, len(row.comments)) for row in page.items] == [("b", 2), ("c", 2)]
    assert page.next_cursor is None
    reversed_page = await backend.repository(Comment, SERVICE).page(
        Comment.post_id == posts[0].id, load=[Comment.post]
    )
    assert len(reversed_page.items) == 2  # both with the one post


async def test_rows_beyond_a_table_in_between_count(backend: Backend) -> None:
    authors = [Author(name=name) for name in "ab"]
    await backend.repository(Author, SERVICE).add_many(authors)
    books = [Book(title="x" * 700_000, author_id=author.id) for author in authors]
    await backend.repository(Book, SERVICE).add_many(books)
    reads = backend.repository(Author, SERVICE)
    page = await reads.page(order_by=[Author.name], load=[Author.books, Author.interests])
    assert [(row.name, len(row.books), row.interests) for row in page.items] == [("a", 1, [])]
    assert page.next_cursor is not None


async def test_rows_at_every_level_count(backend: Backend) -> None:
    posts = [Post(title=title) for title in "ab"]
    await backend.repository(Post, ANN).add_many(posts)
    comments = [
        Comment(id=UUID(int=number), post_id=post.id, text="x" * 300_000)
        for number, post in enumerate([posts[0], posts[0], posts[1]])
    ]
    await backend.repository(Comment, ANN).add_many(comments)
    reads, cursor, numbers = backend.repository(Comment, SERVICE), None, []
    for _ in comments:
        load = [(Comment.post, Post.comments)]
        page = await reads.page(order_by=[Comment.id], cursor=cursor, load=load)
        numbers.append([row.id.int for row in page.items])
        cursor = page.next_cursor
    assert (numbers, cursor) == ([[0], [1], [2]], None)
