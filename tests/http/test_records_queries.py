"""Records over HTTP, on every backend: filters of related rows, search and aggregates."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from tests.http.records import add, check, shared_records_app, titles
from tests.models import Author, Book, Clip, Comment, Note, Post
from tests.records.listings import read, rejected

from amphibase import Settings
from amphibase.records.filters.relations import filterable_relations
from amphibase.records.listing import read_filters
from amphibase.testing.client import Client


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return shared_records_app(settings)


@pytest.fixture
async def bob(client: Client) -> Client:
    return await client.as_user("bob@example.com")


@pytest.fixture
async def ann(client: Client, bob: Client) -> Client:
    """A user with three posts and comments on two of them; bob comments on the third."""
    ann = await client.as_user("ann@example.com")
    posts = {name: await add(ann, "/t_posts", title=name) for name in ("p1", "p2", "p3")}
    for caller, name, text in (
        (ann, "p1", "good tea"),
        (ann, "p1", "fine"),
        (ann, "p2", "bad tea"),
        (bob, "p3", "good tea"),
    ):
        await add(caller, "/t_comments", text=text, post_id=posts[name]["id"])
    return ann


RELATED = [
    ("comments.text=eq.good tea", "p1", "p3"),
    ("comments.text=ilike.*TEA&order=title.desc", "p2 p1", "p3"),
    ("comments.or=(text.eq.fine,text.eq.bad tea)", "p1 p2", ""),
    ("comments.not.or=(text.eq.fine,text.eq.good tea)", "p2", ""),
    ("comments.text=eq.fine&comments.text=eq.good tea", "", ""),
    ("comments.text=like.*tea&title=neq.p1", "p2", "p3"),
    ("comments.created_at=gt.2020-01-01T00:00:00Z&comments.text=in.(fine,good tea)", "p1", "p3"),
]


async def test_lists_are_filtered_by_related_rows_that_the_caller_sees(
    ann: Client, bob: Client, client: Client
) -> None:
    for query, of_ann, of_bob in RELATED:
        path = f"/t_posts?{query}" if "order" in query else f"/t_posts?{query}&order=title"
        for caller, expected in ((ann, of_ann), (bob, of_bob), (client, "")):
            assert await titles(caller, path) == expected.split(), query
        count = await ann.get(f"/t_posts/aggregate?select=count()&{query.partition('&order')[0]}")
        assert count.json() == {"items": [{"count": len(of_ann.split())}]}
    path = "/t_comments?order=text&post.title="
    for query, texts in (("in.(p1,p3)", ["fine", "good tea"]), ("eq.p3", [])):
        response = await ann.get(path + query)
        assert [item["text"] for item in response.json()["items"]] == texts


def test_relationships_are_offered_whose_rows_callers_may_read() -> None:
    """Not over a table between the two that has no model."""
    offered = {model: {*filterable_relations(model)} for model in (Author, Book, Clip, Post, Note)}
    assert offered == {
        Author: {"books", "interests", "sources"},
        Book: {"author"},
        Clip: {"note"},
        Post: {"comments"},
        Note: set(),
    }


NO_COLUMNS = (
    "comments.nothing",
    "comments",
    "nothing.text",
    "comments.post.title",
    "comments.deleted_at",
)


async def test_what_is_no_column_of_a_related_row_is_rejected(client: Client) -> None:
    for path in ("/t_posts?", "/t_posts/aggregate?select=count()&"):
        for name in NO_COLUMNS:
            check(await client.get(f"{path}{name}=eq.1"), 422, "validation_error", name)


def test_related_filters_are_limited() -> None:
    both = "books.title=eq.a&interests.name=eq.b"
    assert len(read(both, Author, max_relations=2).where) == 2
    assert rejected(both, Author, max_relations=1) == (
        "interests.name",
        "exceeds the limit of 1 relationships",
    )
    field, why = rejected("books.title=eq.a", Author, max_relations=0)
    assert (field, why) == ("books.title", "there is no such column")
    many = "&".join(f"text=eq.{n}&post.title=eq.{n}" for n in range(33))
    assert "64 conditions" in rejected(many, Comment, max_relations=1)[1]
    assert rejected("post.remark=eq.a", Comment, max_relations=1)[0] == "post.remark"


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (Post, "comments.text", "filters lists; changes are filtered by their own columns"),
        (Note, "search", "filters lists; changes are filtered by their own columns"),
        (Post, "search", "there is no such column"),
        (Post, "tags.name", "there is no such column"),
    ],
)
def test_changes_are_filtered_by_their_own_columns(
    model: type[Any], name: str, message: str
) -> None:
    with pytest.raises(RequestValidationError) as rejection:
        read_filters(model, [(name, "eq.a")])
    error = rejection.value.errors()[0]
    assert (error["loc"], error["msg"]) == (("query", name), message)


async def test_lists_are_searched_where_a_model_has_a_search_index(
    ann: Client, bob: Client
) -> None:
    for title in ("red apple", "green apple", "plum"):
        await add(ann, "/t_notes", title=title, stars=1)
    for query, expected in (
        ("apple", {"red apple", "green apple"}),
        ("apple -red", {"green apple"}),
    ):
        assert {*await titles(ann, f"/t_notes?search={query}")} == expected
        assert await titles(bob, f"/t_notes?search={query}") == []
    assert await titles(ann, "/t_notes?search=apple&title=like.g*&limit=1") == ["green apple"]
    count = await ann.get("/t_notes/aggregate?select=count()&search=apple")
    assert count.json() == {"items": [{"count": 2}]}
    # A search is no filter that is counted: each would read the words of every row once more.
    for query in (f"search={'a' * 501}", "search=a%00b", "search=apple&search=red"):
        check(await ann.get(f"/t_notes?{query}"), 422, "validation_error", "search")
    check(await ann.get("/t_posts?search=apple"), 422, "validation_error", "search")


AGGREGATES: list[tuple[str, list[dict[str, Any]]]] = [
    ("count()", [{"count": 4}]),
    ("stars,count()", [{"stars": 1, "count": 3}, {"stars": 5, "count": 1}]),
    ("n:count(),stars", [{"n": 3, "stars": 1}, {"n": 1, "stars": 5}]),
    ("stars.sum(),stars.avg(),title.count()", [{"sum": 8, "avg": 2.0, "count": 4}]),
    ("least:title.min(),most:title.max()", [{"least": "a", "most": "d"}]),
    ("count()&title=eq.nothing", [{"count": 0}]),
    ("stars.max()&title=eq.nothing", [{"max": None}]),
    ("stars,count()&limit=1", [{"stars": 1, "count": 3}]),
]


async def test_rows_that_the_caller_sees_are_counted_and_summed(ann: Client, bob: Client) -> None:
    for title, stars in (("a", 1), ("b", 1), ("c", 1), ("d", 5)):
        await add(ann, "/t_notes", title=title, stars=stars)
    await add(bob, "/t_notes", title="of bob", stars=9)
    for query, expected in AGGREGATES:
        response = await ann.get(f"/t_notes/aggregate?select={query}")
        assert (response.status_code, response.json()) == (200, {"items": expected}), query
    decimals = await ann.get("/t_posts/aggregate?select=price.sum(),category,low:price.min()")
    assert decimals.json()["items"] == [{"sum": "0", "category": "the news", "low": "0"}]


NO_AGGREGATES = (
    "",
    "select=",
    "select=stars",
    "select=count",
    "select=stars.sum",
    "select=count();",
    "select=title.sum()",
    "select=owner_id.max()",
    "select=pg_sleep()",
    "select=stars.pg_sleep()",
    "select=nothing,count()",
    "select=nothing.count()",
    "select=stars.sum(),title.count(),stars.sum()",
    "select=" + ",".join(f"n{n}:count()" for n in range(17)),
    "select=count()&select=count()",
)


async def test_what_is_no_aggregate_is_rejected(client: Client) -> None:
    """Columns that only the service reads among them."""
    for query in NO_AGGREGATES:
        reply = await client.get(f"/t_notes/aggregate?{query}")
        check(reply, 422, "validation_error", "select")
    for select in ("remark,count()", "remark.max()", "data.count()"):
        reply = await client.get(f"/t_posts/aggregate?select={select}")
        check(reply, 422, "validation_error", "select")
    for select, code in (
        ("remark.max()", "column"),
        ("no.max()", "column"),
        ("id.sum()", "function"),
    ):
        reply = await client.get(f"/t_posts/aggregate?select={select}")
        assert reply.json()["errors"][0]["code"] == f"unknown_{code}", select
    repeated = await client.get("/t_posts/aggregate?select=sum:count(),sum:title.count()")
    assert repeated.json()["detail"] == (
        "select: sum is there twice; give one another name: other:title.count()"
    )
