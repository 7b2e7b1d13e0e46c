"""Rows are written, and answered for, as PostgREST's documentation describes it."""

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

FULL = "return=representation"
MERGE = "resolution=merge-duplicates"
IGNORE = "resolution=ignore-duplicates"
ONE = "application/vnd.pgrst.object+json"


@pytest.mark.parametrize(
    ("request_line", "body", "prefer", "status", "rows"),
    [
        # insert
        ("POST /works?select=id,title", {"id": 9, "title": "New"}, FULL, 201,
         [{"id": 9, "title": "New"}]),
        ("POST /works?select=id,title", [{"id": 8}, {"id": 9}], FULL, 201,
         [{"id": 8, "title": "untitled"}, {"id": 9, "title": "untitled"}]),
        ("POST /works?select=id,composers!works_composer(name)", {"id": 9, "composer_id": 1}, FULL,
         201, [{"id": 9, "composers": {"name": "Clara"}}]),
        ("POST /works?columns=id,title&select=id,title,minutes", {"id": 9, "title": "N",
         "minutes": 3, "more": 1}, FULL, 201, [{"id": 9, "title": "N", "minutes": None}]),
        ("POST /works?select=id,title&order=id.desc", [{"id": 8}, {"id": 9}], FULL, 201,
         [{"id": 9, "title": "untitled"}, {"id": 8, "title": "untitled"}]),
        ("POST /badges?select=name", {}, FULL, 201, [{"name": "new"}]),
        ("POST /badges?select=name", [{}, {}], FULL, 201, [{"name": "new"}, {"name": "new"}]),
        ("POST /works", [], FULL, 201, []),
        ("POST /works", "1", FULL, 201, []),
        ("POST /long_works?select=id", {"id": 9, "minutes": 31}, FULL, 201, [{"id": 9}]),
        ("POST /vault?select=id", {"id": 1, "open": "x"}, FULL, 201, [{"id": 1}]),
        # what the body lacks
        ("POST /players?columns=name,level&select=level,feels", [{"name": "x"}], FULL, 201,
         [{"level": None, "feels": "calm"}]),
        ("POST /players?columns=id,name,level,feels&select=level,feels",
         [{"name": "x"}, {"name": "y", "level": 1, "feels": "sad"}], f"{FULL},missing=default", 201,
         [{"level": 5, "feels": "calm"}, {"level": 1, "feels": "sad"}]),
        ("PATCH /players?id=eq.1&columns=name,level&select=name,level", {"name": "A"},
         f"{FULL},missing=default", 200, [{"name": "A", "level": 5}]),
        # upsert
        ("POST /works?select=id,title,minutes", {"id": 1, "title": "T"}, f"{FULL},{MERGE}", 200,
         [{"id": 1, "title": "T", "minutes": 28}]),
        ("POST /works?select=id,title", [{"id": 1, "title": "T"}, {"id": 9, "title": "N"}],
         f"{FULL},{MERGE}", 201, [{"id": 1, "title": "T"}, {"id": 9, "title": "N"}]),
        ("POST /works?select=id", [{"id": 1}, {"id": 9}], f"{FULL},{IGNORE}", 201, [{"id": 9}]),
        ("POST /works?select=id", [{"id": 1}], f"{FULL},{IGNORE}", 201, []),
        ("POST /players?on_conflict=email&select=id,name", {"email": "ann@x", "name": "Anna"},
         f"{FULL},{MERGE}", 200, [{"id": 1, "name": "Anna"}]),
        ("POST /notes", {"a": 1, "b": "again"}, f"{FULL},{MERGE}", 201, [{"a": 1, "b": "again"}]),
        # update
        ("PATCH /works?id=eq.1&select=title", {"title": "T"}, FULL, 200, [{"title": "T"}]),
        ("PATCH /works?id=eq.1&select=title", [{"title": "T"}], FULL, 200, [{"title": "T"}]),
        ("PATCH /works?id=eq.1&columns=title&select=title,minutes", {"title": "T", "minutes": 1},
         FULL, 200, [{"title": "T", "minutes": 28}]),
        ("PATCH /works?id=lt.3&order=id.desc&select=id", {"minutes": 1}, FULL, 200,
         [{"id": 2}, {"id": 1}]),
        ("PATCH /works?id=eq.99", {"title": "T"}, FULL, 200, []),
        ("PATCH /works?id=eq.1", {}, FULL, 200, []),
        ("PATCH /works?id=eq.1", [], FULL, 200, []),
        ("PATCH /notes?select=b", {"b": "all"}, FULL, 200, [{"b": "all"}, {"b": "all"}]),
        # put
        ("PUT /works?id=eq.9&select=id", {"id": 9}, FULL, 201, [{"id": 9}]),
        ("PUT /works?id=eq.1&select=id,title", {"id": 1, "title": "T"}, FULL, 200,
         [{"id": 1, "title": "T"}]),
        ("PUT /works?id=eq.9&select=id", [{"id": 9}], FULL, 201, [{"id": 9}]),
        ("PUT /works?id=eq.9&select=title&columns=id", {"id": 9, "title": "T"}, FULL, 201,
         [{"title": "T"}]),
        ("PUT /seats?id=eq.2&zone=eq.a&select=id", {"id": 2, "zone": "a"}, FULL, 201, [{"id": 2}]),
        # delete
        ("DELETE /scores?work_id=eq.1&select=pages", None, FULL, 200, [{"pages": 60}]),
        ("DELETE /scores?work_id=eq.99", None, FULL, 200, []),
        ("DELETE /notes?select=a", None, FULL, 200, [{"a": 1}, {"a": 2}]),
        # nothing to show
        ("POST /works", {"id": 9}, "", 201, None),
        ("POST /works", [], "return=minimal", 201, None),
        ("POST /vault", {"id": 1, "open": "x"}, "", 201, None),
        ("PATCH /works?id=eq.1", {"title": "T"}, "", 204, None),
        ("PATCH /works?id=eq.1", {}, "return=headers-only", 204, None),
        ("DELETE /notes", None, "return=minimal", 204, None),
        ("PUT /works?id=eq.1", {"id": 1}, "", 204, None),
        ("PUT /works?id=eq.9", {"id": 9}, "return=minimal", 204, None),
    ],
)  # fmt: skip
async def test_what_is_written_is_in_the_response(
    api: DataApi, request_line: str, body: Any, prefer: str, status: int, rows: Any
) -> None:
    response = await api.request(request_line, body, prefer=prefer)
    assert response.status_code == status, response.text
    if rows is None:
        assert response.content == b""
        assert "content-type" not in response.headers
    else:
        assert response.json() == rows


@pytest.mark.parametrize(
    ("text", "media_type", "rows"),
    [
        ('id,title\n8,\n9,"a,b"\n', "text/csv", [{"title": ""}, {"title": "a,b"}]),
        ("id,title\n9," + "x" * 200_000, "text/csv", [{"title": "x" * 200_000}]),
        ("id,title,minutes\n9,x,NULL\n", "text/csv; charset=utf-8", [{"title": "x"}]),
        ("id=9&title=a+b", "application/x-www-form-urlencoded", [{"title": "a b"}]),
        ('{"id": 9}', "application/json; charset=utf-8", [{"title": "untitled"}]),
        ('{"id": 9}', "", [{"title": "untitled"}]),
    ],
)
async def test_bodies_come_in_several_forms(
    api: DataApi, text: str, media_type: str, rows: Any
) -> None:
    headers = {"content-type": media_type} if media_type else {}
    response = await api.request("POST /works?select=title", text, prefer=FULL, headers=headers)
    assert (response.status_code, response.json()) == (201, rows)


@pytest.mark.parametrize(
    ("request_line", "body", "prefer", "headers"),
    [
        ("POST /works", {"id": 9}, "", {"content-range": "*/*"}),
        ("POST /works", [{"id": 8}, {"id": 9}], "count=exact", {"content-range": "*/2"}),
        ("PATCH /works?id=lt.3", {"minutes": 1}, "", {"content-range": "0-1/*"}),
        ("PATCH /works?id=lt.3", {"minutes": 1}, "count=exact", {"content-range": "0-1/2"}),
        ("PATCH /works?id=eq.99", {"minutes": 1}, "count=exact", {"content-range": "*/0"}),
        ("DELETE /notes", None, "", {"content-range": "*/*"}),
        ("DELETE /notes", None, "count=exact", {"content-range": "*/2"}),
        ("DELETE /notes", None, "count=planned", {"content-range": "*/*"}),
        ("POST /players", {"name": "x", "id": 50}, "return=headers-only",
         {"location": "/players?id=eq.50"}),
        ("POST /seats", {"id": 2, "zone": "a b"}, "return=headers-only",
         {"location": "/seats?id=eq.2&zone=eq.a%20b"}),
        ("POST /long_works", {"id": 9, "minutes": 31}, "return=headers-only",
         {"location": "/long_works?id=eq.9"}),
    ],
)  # fmt: skip
async def test_headers_tell_of_what_was_written(
    api: DataApi, request_line: str, body: Any, prefer: str, headers: dict[str, str]
) -> None:
    response = await api.request(request_line, body, prefer=prefer)
    assert response.is_success, response.text
    assert {name: response.headers[name] for name in headers} == headers


@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("POST /works", [{"id": 8}, {"id": 9}]),  # several rows
        ("POST /notes", {"a": 1}),  # without a key
    ],
)
async def test_a_location_is_that_of_one_row_with_a_key(
    api: DataApi, request_line: str, body: Any
) -> None:
    response = await api.request(request_line, body, prefer="return=headers-only")
    assert response.status_code == 201
    assert "location" not in response.headers


@pytest.mark.parametrize(
    ("request_line", "body", "prefer", "status", "error"),
    [
        ("POST /works", "not json", "", 400,
         {"code": "PGRST102", "message": "Empty or invalid json"}),
        ("POST /works", "", "", 400, {"code": "PGRST102", "message": "Empty or invalid json"}),
        ("POST /works", [{"id": 8}, {"title": "x"}], "", 400,
         {"code": "PGRST102", "message": "All object keys must match"}),
        ("POST /works", [1, 2], "", 400,
         {"code": "PGRST102", "message": "All object keys must match"}),
        ("POST /works", {"nope": 1}, "", 400, {
            "code": "PGRST204",
            "message": "Could not find the 'nope' column of 'works' in the schema cache",
        }),
        ("POST /works?columns=nope", {"nope": 1}, "", 400, {"code": "PGRST204"}),
        ("PATCH /works?id=eq.1", {"nope": 1}, "", 400, {"code": "PGRST204"}),
        ("PATCH /works?nope=eq.1", {"title": "x"}, "", 400, {"code": "42703"}),
        ("POST /players?on_conflict=nope", {"name": "x"}, MERGE, 400, {"code": "42703"}),
        ("POST /players?on_conflict=name", {"name": "x"}, MERGE, 400, {"code": "42P10"}),
        ("POST /works", {"id": 1}, "", 409, {
            "code": "23505", "details": "Key (id)=(1) already exists.", "hint": None,
        }),
        ("POST /works", [{"id": 9}, {"id": 9}], MERGE, 500, {"code": "21000"}),
        ("POST /scores", {"work_id": 99}, "", 409, {"code": "23503"}),
        ("DELETE /composers?id=eq.1", None, "", 409, {"code": "23503"}),
        ("POST /works", {"title": "x"}, "", 400, {"code": "23502"}),
        ("POST /seats", {"id": 2, "zone": "a", "row_number": 0}, "", 400, {"code": "23514"}),
        ("POST /works", {"id": "x"}, "", 400, {"code": "22P02"}),
        ("POST /works", {"id": 10**12}, "", 400, {"code": "22003"}),
        ("POST /badges", {"id": 1}, "", 400, {"code": "428C9"}),
        ("POST /players", {"name": "x", "rank": 1}, "", 400, {"code": "428C9"}),
        ("POST /listed_works", {"id": 9}, "", 400, {"code": "42809"}),
        ("POST /vault", {"id": 1}, FULL, 401, {"code": "42501"}),
        ("PUT /works?id=eq.1", {"id": 2}, "", 400, {
            "code": "PGRST115",
            "message": "Payload values do not match URL in primary key column(s)",
        }),
        ("PUT /works?id=eq.1", [], "", 400, {"code": "PGRST115"}),
        ("PUT /works?id=eq.1", {"title": "x"}, "", 400, {"code": "PGRST115"}),
        ("PUT /works?id=eq.1&limit=1", {"id": 1}, "", 400, {
            "code": "PGRST114",
            "message": "limit/offset querystring parameters are not allowed for PUT",
        }),
        ("PUT /works", {"id": 1}, "", 405, {
            "code": "PGRST105",
            "message": "Filters must include all and only primary key columns with 'eq' operators",
        }),
        ("PUT /works?id=gt.1", {"id": 1}, "", 405, {"code": "PGRST105"}),
        ("PUT /works?id=eq.1&title=eq.x", {"id": 1}, "", 405, {"code": "PGRST105"}),
        ("PUT /seats?id=eq.1", {"id": 1}, "", 405, {"code": "PGRST105"}),
        ("PUT /notes?a=eq.1", {"a": 1}, "", 405, {"code": "PGRST105"}),
    ],
)  # fmt: skip
async def test_what_cannot_be_written_says_why(
    api: DataApi,
    request_line: str,
    body: Any,
    prefer: str,
    status: int,
    error: dict[str, Any],
) -> None:
    response = await api.request(request_line, body, prefer=prefer)
    assert response.status_code == status, response.text
    assert response.json().items() >= error.items()


@pytest.mark.parametrize(
    ("text", "media_type", "message"),
    [
        ("id,title\n9\n", "text/csv", "All lines must have same number of fields"),
        ("id,title", "text/csv", 'parse error (not enough input) at ""'),
        ("\ufeff{}", "application/json", "Empty or invalid json"),
        (r'{"title": "\ud800"}', "application/json", "Empty or invalid json"),
        ("x", "text/plain", "Content-Type not acceptable: text/plain"),
        ("{}", ONE, f"Content-Type not acceptable: {ONE}"),
    ],
)
async def test_a_body_of_another_form_is_rejected(
    api: DataApi, text: str, media_type: str, message: str
) -> None:
    response = await api.request("POST /works", text, headers={"content-type": media_type})
    assert (response.status_code, response.json()["code"]) == (400, "PGRST102")
    assert response.json()["message"] == message


@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("POST /notes", [{"a": 8}, {"a": 9}]),
        ("PATCH /notes", {"b": "changed"}),
        ("DELETE /notes", None),
    ],
)
@pytest.mark.parametrize("prefer", [FULL, "return=minimal"])
async def test_where_one_row_is_requested_several_are_not_written(
    api: DataApi, request_line: str, body: Any, prefer: str
) -> None:
    prefer = f"{prefer},tx=commit"
    response = await api.request(request_line, body, prefer=prefer, accept=ONE)
    assert (response.status_code, response.json()["code"]) == (406, "PGRST116")
    assert response.json()["details"] == "The result contains 2 rows"
    assert await api.read("/notes") == [{"a": 1, "b": "one"}, {"a": 2, "b": "two"}]


@pytest.mark.parametrize(
    ("request_line", "body", "prefer", "status"),
    [
        ("POST /notes?c=eq.1", {"a": 1}, FULL, 201),  # a filter, which finds no row to insert
        ("POST /notes?or=(c.eq.1)", {"a": 1}, "", 201),
        ("POST /notes?select=c&order=d", {"a": 1}, "return=minimal", 201),
        ("PATCH /notes?a=eq.1&select=c", {"a": 1}, "", 204),
        ("DELETE /notes?a=eq.1&select=c", None, "", 204),
        ("POST /notes?select=c", {"a": 1}, "return=headers-only", 400),
        ("PATCH /notes?c=eq.1", {"a": 1}, "", 400),
        ("DELETE /notes?a=eq.1&order=c", None, FULL, 400),
    ],
)
async def test_an_unknown_column_matters_where_postgres_is_asked_for_it(
    api: DataApi, request_line: str, body: Any, prefer: str, status: int
) -> None:
    response = await api.request(request_line, body, prefer=prefer)
    assert response.status_code == status, response.text
    if status == 400:
        assert response.json()["code"] == "42703"


async def test_related_rows_of_what_was_written_are_not_cut(api: DataApi) -> None:
    url = "PATCH /works?id=eq.1&select=programmes(place)&programmes.limit=1&limit=0"
    response = await api.request(url, {"minutes": 1}, prefer=FULL)
    assert response.json() == [{"programmes": [{"place": 1}, {"place": 2}]}]


async def test_one_row_is_in_the_response_as_an_object(api: DataApi) -> None:
    url = "PATCH /works?id=eq.1&select=id"
    response = await api.request(url, {"minutes": 1}, prefer=FULL, accept=ONE)
    assert response.json() == {"id": 1}
    assert response.headers["content-type"] == f"{ONE}; charset=utf-8"


@pytest.mark.parametrize("query", ["", "?columns=id,n,j"])
@pytest.mark.parametrize("number", ["1e400", "-1e309", "12345678901234567890.12345", "9" * 5000])
async def test_numbers_of_any_size_are_written_as_they_are(
    api: DataApi, query: str, number: str
) -> None:
    response = await api.request(
        f"POST /numbers{query}",
        f'{{"id": 1, "n": {number}, "j": {{"a": {number}}}}}',
        prefer=FULL,
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 201, response.text
    (row,) = json.loads(response.text, parse_float=Decimal, parse_int=Decimal)
    assert row["n"] == row["j"]["a"] == Decimal(number)


@pytest.mark.parametrize("body", ["NaN", '{"id": NaN}', '[{"id": Infinity}]', '{"id": 1', ""])
async def test_what_is_not_json_is_not_written(api: DataApi, body: str) -> None:
    response = await api.request("POST /notes", body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["code"] == "PGRST102"
