"""Calls find their function, hand it its arguments, and response with what it gives."""

from typing import Any

import orjson
import pytest
from tests.gateway.rest.planner_database import PlannerDatabase

from amphibase.gateway.rest.errors.base import RestError
from amphibase.gateway.rest.plan.types import BodyFormat, Explain


@pytest.mark.parametrize(
    ("url", "body", "result"),
    [
        ("add?a=1", None, 11),
        ("add?a=1&b=2", None, 3),
        ("add?a=1&a=5&b=2", None, 7),
        ("add", {"a": 1}, 11),
        ("add", {"a": 1, "b": 2}, 3),
        ("add", [{"a": 1, "b": 2}], 3),
        ("add?columns=a", {"a": 1, "zzz": 2}, 11),
        ("over?a=1", None, "a 1"),
        ("over", {"b": "1"}, "b 1"),
        ("total", None, None),
        ("total?n=1&n=2", None, 3),
        ("total", {"n": [1, 2, 3]}, 6),
        ("numbers?most=3", None, [1, 2, 3]),
        ("numbers?most=3&limit=1&offset=1", None, [2]),
        ("books_of?author=1&select=id&order=id.desc", None, [{"id": 2}, {"id": 1}]),
        ("books_of?author=1&select=id,tags(name)&tags.order=name&id=eq.1", None,
         [{"id": 1, "tags": [{"name": "blue"}, {"name": "red"}]}]),
        ("books_of?select=id,covers!inner()&order=id", {"author": 1}, [{"id": 1}, {"id": 2}]),
        ("books_of?author=9", None, []),
        ("book?number=3&select=title,authors!author_id(name,shout)", None,
         {"title": "Gamma", "authors": {"name": "Bo", "shout": "BO"}}),
        ("pairs?select=y&x=eq.2", None, [{"y": "b"}]),
        ("pairs?order=x.desc&limit=1", None, [{"x": 2, "y": "b"}]),
        ("one", {}, {"x": 1}),
        ("upto?most=2", None, [{"x": 1}, {"x": 2}]),
        ("upto", {"most": 1}, [{"x": 1}]),
        ("bare", None, {"id": 1, "name": "red"}),
        ("numbers?most=3&pgrst_scalar=gt.1&order=pgrst_scalar.desc", None, [3, 2]),
        ("bares?lowest=2", None, [{"id": 2, "name": "blue"}, {"id": 3, "name": "old"}]),
        ("bares", {"lowest": 3}, [{"id": 3, "name": "old"}]),
        ("keys", {"p": 1, "q": 2}, 2),
    ],
)  # fmt: skip
async def test_a_call_gives_what_the_function_gives(
    database: PlannerDatabase, url: str, body: Any, result: Any
) -> None:
    response = await database.request("call", url, body)
    assert orjson.loads(response.body or "") == result


async def test_filters_reach_into_a_function_that_postgres_inlines(
    database: PlannerDatabase,
) -> None:
    media = BodyFormat(explain=Explain())
    call = database.compile("call", "books_of?author=1&id=eq.1", media=media).main.bind(["1", "1"])
    lines = [line for (line,) in await database.run(call.statement.sql, call.values)]
    assert not any("Function Scan" in line for line in lines)


async def test_a_function_of_nothing_has_no_body(database: PlannerDatabase) -> None:
    response = await database.request("call", "nothing", {})
    assert (response.body, response.page) == (None, 1)


async def test_rows_of_functions_are_counted_beyond_the_limit(database: PlannerDatabase) -> None:
    response = await database.request("call", "numbers?most=7&limit=2", count="exact")
    assert (response.total, response.page) == (7, 2)


def test_an_unnamed_parameter_takes_the_body_as_it_is(database: PlannerDatabase) -> None:
    for name, content, argument in [
        ("keys", "json", "json"), ("size", "binary", "bytea"), ("letters", "text", "text"),
    ]:  # fmt: skip
        key, _, _ = database.key("call", name, b"{}", content=content)
        invocation = database.statements.get(key).plan.call
        assert invocation is not None
        assert [each.type for each in invocation.arguments] == [argument]


@pytest.mark.parametrize(
    ("url", "body", "content", "code", "message", "details", "hint"),
    [
        ("number?most=1", None, None, "PGRST202",
         "Could not find the function api.number(most) in the schema cache",
         "Searched for the function api.number with parameter most, but no matches were found in "
         "the schema cache.",
         "Perhaps you meant to call the function api.numbers"),
        ("ad?a=1", None, None, "PGRST202",
         "Could not find the function api.ad(a) in the schema cache",
         "Searched for the function api.ad with parameter a, but no matches were found in the "
         "schema cache.",
         None),
        ("add?a=1&c=2", None, None, "PGRST202",
         "Could not find the function api.add(a, c) in the schema cache",
         "Searched for the function api.add with parameters a, c, but no matches were found in "
         "the schema cache.",
         "Perhaps you meant to call the function api.add(a, b)"),
        ("add", {"a": 1, "c": 2}, "json", "PGRST202",
         "Could not find the function api.add(a, c) in the schema cache",
         "Searched for the function api.add with parameters a, c or with a single unnamed "
         "json/jsonb parameter, but no matches were found in the schema cache.",
         "Perhaps you meant to call the function api.add(a, b)"),
        ("keys", None, None, "PGRST202",
         "Could not find the function api.keys without parameters in the schema cache",
         "Searched for the function api.keys without parameters, but no matches were found in the "
         "schema cache.",
         "Perhaps you meant to call the function api.keys()"),
        ("keys", {}, "binary", "PGRST202",
         "Could not find the function api.keys in the schema cache",
         "Searched for the function api.keys with a single unnamed bytea parameter, but no "
         "matches were found in the schema cache.",
         None),
        ("twice?a=1", None, None, "PGRST203",
         "Could not choose the best candidate function between: api.twice(a => integer), "
         "api.twice(a => text)", None,
         "Try renaming the parameters or the function itself in the database so function "
         "overloading can be resolved"),
    ],
)  # fmt: skip
def test_calls_that_no_function_takes_are_rejected(
    database: PlannerDatabase,
    url: str,
    body: Any,
    content: Any,
    code: str,
    message: str,
    details: str | None,
    hint: str | None,
) -> None:
    more = {} if content is None else {"content": content}
    with pytest.raises(RestError) as rejected:
        database.compile("call", url, body, **more)
    error = rejected.value
    assert (error.code, error.message, error.details, error.hint) == (code, message, details, hint)
