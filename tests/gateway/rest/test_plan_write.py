"""Writes take JSON, change rows, and response with them."""

from typing import Any

import orjson
import psycopg
import pytest
from tests.gateway.rest.planner_database import PlannerDatabase

from amphibase.gateway.rest.errors.base import RestError
from amphibase.gateway.rest.plan.types import Action

SHOWN: dict[str, Any] = {"returning": "representation"}


@pytest.mark.parametrize(
    ("action", "url", "body", "more", "rows"),
    [
        # inserts
        ("insert", "plain", {"a": 1, "b": "x"}, {}, [{"a": 1, "b": "x"}]),
        ("insert", "plain", [{"a": 1, "b": "x"}, {"a": 2, "b": None}], {},
         [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ("insert", "plain", [], {}, []),
        ("insert", "plain", {}, {}, [{"a": None, "b": None}]),
        ("insert", "plain", [{}, {}], {}, [{"a": None, "b": None}] * 2),
        ("insert", "plain?columns=a", [{"a": 1, "b": "x"}, {"c": 1}], {},
         [{"a": 1, "b": None}, {"a": None, "b": None}]),
        ("insert", "plain?select=b", {"a": 1, "b": "x"}, {}, [{"b": "x"}]),
        ("insert", "plain?select=", {"a": 1}, {}, [{"a": 1, "b": None}]),
        ("insert", "books?select=title,pages", {"id": 9, "title": "X"}, {},
         [{"title": "X", "pages": 10}]),
        ("insert", "books?columns=id,title,pages&select=id,title,pages",
         [{"id": 8}, {"id": 9, "title": "X", "pages": None}], {"missing_default": True},
         [{"id": 8, "title": "untitled", "pages": 10}, {"id": 9, "title": "X", "pages": None}]),
        ("insert", "authors?select=name", {"name": "Di", "nicknames": ["q", "r"]}, {},
         [{"name": "Di"}]),
        ("insert", "authors?columns=id,name&select=name", {"name": "Di"}, {"missing_default": True},
         [{"name": "Di"}]),
        ("insert", "authors?select=odd:\"odd \\\"name\"", {"name": "Di", "odd \"name": 5}, {},
         [{"odd": 5}]),
        ("insert", "countries", {"id": 3, "name": "Peru", "flag": "#00ff00"}, {},
         [{"id": 3, "name": "Peru", "flag": "#00ff00"}]),
        ("insert", "countries?columns=id,name,flag", {"id": 3, "name": "P"},
         {"missing_default": True}, [{"id": 3, "name": "P", "flag": None}]),
        ("insert", "covers?select=book_id,books(title)", {"book_id": 3}, {},
         [{"book_id": 3, "books": {"title": "Gamma"}}]),
        ("insert", "books?select=id,...author_id(name),tags(id)", {"id": 9, "author_id": 2}, {},
         [{"id": 9, "name": "Bo", "tags": []}]),
        ("insert", "authors?select=name,shout,works(id)", {"name": "Di"}, {},
         [{"name": "Di", "shout": "DI", "works": []}]),
        ("insert", "authors?select=shout", {"name": "Di"}, {}, [{"shout": "DI"}]),
        # upserts
        ("insert", "tags", [{"id": 1, "name": "RED"}, {"id": 4, "name": "new"}],
         {"resolution": "merge"}, [{"id": 1, "name": "RED"}, {"id": 4, "name": "new"}]),
        ("insert", "tags", [{"id": 1, "name": "RED"}, {"id": 4, "name": "new"}],
         {"resolution": "ignore"}, [{"id": 4, "name": "new"}]),
        ("insert", "tags?on_conflict=id&columns=id", {"id": 1}, {"resolution": "merge"},
         [{"id": 1, "name": "red"}]),
        ("insert", "book_tags?select=weight", {"book_id": 1, "tag_id": 1, "weight": 99},
         {"resolution": "merge"}, [{"weight": 99}]),
        # one row by its key
        ("put", "tags?id=eq.4", {"id": 4, "name": "new"}, {}, [{"id": 4, "name": "new"}]),
        ("put", "tags?id=eq.1", [{"id": 1, "name": "RED"}], {}, [{"id": 1, "name": "RED"}]),
        ("put", "tags?id=eq.1&id=eq.1", {"id": 1, "name": "RED"}, {}, [{"id": 1, "name": "RED"}]),
        ("put", "tags?id=eq.1", {"id": 2, "name": "RED"}, {}, []),
        ("put", "tags?id=eq.1", {"name": "RED"}, {}, []),
        ("put", "book_tags?book_id=eq.3&tag_id=eq.1", {"book_id": 3, "tag_id": 1, "weight": 5}, {},
         [{"book_id": 3, "tag_id": 1, "weight": 5}]),
        # updates
        ("update", "tags?id=eq.1", {"name": "RED"}, {}, [{"id": 1, "name": "RED"}]),
        ("update", "tags?or=(id.eq.1,name.eq.old)&select=id&order=id.desc", {"name": "x"}, {},
         [{"id": 3}, {"id": 1}]),
        ("update", "tags?id=eq.99", {"name": "RED"}, {}, []),
        ("update", "tags?id=eq.1", {}, {}, []),
        ("update", "tags?id=eq.1", [], {}, []),
        ("update", "tags?id=eq.1&columns=name", [], {}, []),
        ("update", "countries?id=eq.1&select=flag", {"flag": "#000001"}, {}, [{"flag": "#000001"}]),
        ("update", "countries?flag=eq.%230000ff&select=id", {"name": "x"}, {}, [{"id": 2}]),
        ("update", "books?id=eq.1&columns=title&select=title", {"x": 1}, {"missing_default": True},
         [{"title": "untitled"}]),
        ("update", "authors?shout=eq.BO&select=id,books!books_author(id)&books.id=eq.3",
         {"name": "Bob"}, {}, [{"id": 2, "books": [{"id": 3}]}]),
        ("update", "novels?id=eq.2&select=title,authors(name)", {"title": "B"}, {},
         [{"title": "B", "authors": {"name": "Ada"}}]),
        # deletes
        ("delete", "covers?book_id=eq.1&select=shade,books(title)", None, {},
         [{"shade": "#0000ff", "books": {"title": "Alpha"}}]),
        ("delete", "book_tags?select=tag_id,tags(name)&weight=gte.20&order=tag_id", None, {},
         [{"tag_id": 1, "tags": {"name": "red"}}, {"tag_id": 2, "tags": {"name": "blue"}}]),
    ],
)  # fmt: skip
async def test_what_is_written_comes_back(
    database: PlannerDatabase,
    action: Action,
    url: str,
    body: Any,
    more: dict[str, Any],
    rows: list[Any],
) -> None:
    response = await database.request(action, url, body, **SHOWN, **more)
    assert orjson.loads(response.body or "") == rows
    assert response.page == len(rows)


async def test_an_update_changes_the_rows_it_names_alone(database: PlannerDatabase) -> None:
    response = await database.request("update", "tags?id=eq.1", {"name": "RED"})
    assert (response.page, response.body) == (1, None)
    assert await database.read("tags?select=name&order=id") == [
        {"name": "RED"}, {"name": "blue"}, {"name": "old"},
    ]  # fmt: skip


async def test_a_delete_removes_the_rows_it_names_alone(database: PlannerDatabase) -> None:
    assert (await database.request("delete", "tags?id=eq.3")).page == 1
    assert await database.read("tags?select=id&order=id") == [{"id": 1}, {"id": 2}]


async def test_an_inserted_row_has_a_location(database: PlannerDatabase) -> None:
    more = {"returning": "headers-only"}
    response = await database.request("insert", "tags", {"id": 7}, **more)
    assert orjson.loads(response.location or "") == {"id": "7"}
    response = await database.request("insert", "tags", [{"id": 8}, {"id": 9}], **more)
    assert response.location is None
    response = await database.request("insert", "plain", {"a": 8}, **more)
    assert response.location is None


@pytest.mark.parametrize(
    ("action", "url", "body", "inserted"),
    [
        ("insert", "tags", [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}], 0),
        ("insert", "tags", [{"id": 1, "name": "x"}, {"id": 8, "name": "y"}], 1),
        ("put", "tags?id=eq.1", {"id": 1, "name": "x"}, 0),
        ("put", "tags?id=eq.8", {"id": 8, "name": "x"}, 1),
    ],
)
async def test_upserts_tell_new_rows_from_old(
    database: PlannerDatabase, action: Action, url: str, body: Any, inserted: int
) -> None:
    response = await database.request(action, url, body, resolution="merge")
    assert response.inserted == inserted


async def test_nobody_needs_the_right_to_read_what_is_not_returned(
    database: PlannerDatabase,
) -> None:
    connection = database.connection
    await connection.execute("CREATE ROLE scribe; GRANT USAGE ON SCHEMA api TO scribe")
    await connection.execute("GRANT INSERT, SELECT (a) ON api.plain TO scribe")
    await connection.execute("SET LOCAL ROLE scribe")
    assert (await database.request("insert", "plain", {"a": 1, "b": "x"})).page == 1
    response = await database.request("insert", "plain?select=a", {"a": 1, "b": "x"}, **SHOWN)
    assert orjson.loads(response.body or "") == [{"a": 1}]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await database.request("insert", "plain", {"a": 1, "b": "x"}, **SHOWN)


@pytest.mark.parametrize(
    ("action", "url", "body", "code"),
    [
        ("insert", "plain", {"a": 1, "c": 2}, "PGRST204"),
        ("insert", "plain?columns=a,c", {"a": 1}, "PGRST204"),
        ("update", "plain?a=eq.1", {"c": 2}, "PGRST204"),
        ("update", "plain?c=eq.1", {"a": 2}, "42703"),
        ("update", "books?select=tags(id)&tags=is.null", {"pages": 2}, "42703"),
        ("delete", "plain?c=eq.1", None, "42703"),
        ("insert", "tags?on_conflict=x", {"id": 1}, "42703"),
        ("put", "tags?id=gt.1", {"id": 1}, "PGRST105"),
        ("put", "tags?id=not.eq.1", {"id": 1}, "PGRST105"),
        ("put", "tags?name=eq.1", {"id": 1}, "PGRST105"),
        ("put", "tags?id=eq.1&name=eq.red", {"id": 1}, "PGRST105"),
        ("put", "tags?or=(id.eq.1,id.eq.2)", {"id": 1}, "PGRST105"),
        ("put", "tags?id=eq.1&select=books(id)&books.id=eq.1", {"id": 1}, "PGRST105"),
        ("put", "tags", {"id": 1}, "PGRST105"),
        ("put", "plain", {"a": 1}, "PGRST105"),
        ("put", "tags?id=eq.1&limit=1", {"id": 1}, "PGRST114"),
        ("insert", "nothing_here", {"id": 1}, "PGRST205"),
    ],
)
async def test_writes_to_what_is_not_there_are_rejected(
    database: PlannerDatabase, action: Action, url: str, body: Any, code: str
) -> None:
    with pytest.raises(RestError) as rejected:
        database.compile(action, url, body, resolution="merge")
    assert rejected.value.code == code
