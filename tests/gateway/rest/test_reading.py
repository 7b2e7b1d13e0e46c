"""Rows are read over HTTP as PostgREST's documentation describes it."""

from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        ("id=eq.1", [1]),
        ("id=gt.1&id=lt.4", [2, 3]),
        ("id=in.(1,2)", [1, 2]),
        ("id=in.()", []),
        ("id=not.in.(1,2,3)", [4, 5]),
        ('title=in.("Trio","Psalm")', [1, 4]),
        ('title=in.("a,b","c\\"d")', []),
        ("id=eq(any).{1,2}", [1, 2]),
        ("title=like(all).{T*,*o}", [1]),
        ("title=not.like(any).{T*,*o}", [3, 4, 5]),
        ("title=ilike.TRIO", [1]),
        ("title=match.^T", [1]),
        ("title=imatch.^t", [1]),
        ("title=eq.", []),
        ("minutes=is.null", [5]),
        ("minutes=is.NULL", [5]),
        ("minutes=not.is.null", [1, 2, 3, 4]),
        ("minutes=isdistinct.28", [2, 3, 4, 5]),
        ("tags=cs.{piano}", [1, 2]),
        ("tags=cd.{piano,x}", [2, 4, 5]),
        ("tags=ov.{trio,x}", [1]),
        ("tags=eq.{piano}", [2]),
        ('tags->0=eq."piano"', [1, 2]),
        ("season=sl.[2021-01-01,2023-01-01)", [1]),
        ("season=sr.[2020-01-01,2020-06-01)", [2]),
        ("season=nxr.[2020-01-01,2020-06-01)", [1]),
        ("season=nxl.[2021-01-01,2021-06-01)", [2]),
        ("season=ov.[2020-02-01,2020-04-01)", [1]),
        ("season=adj.[2020-06-01,2020-07-01)", [1]),
        ("data->>key=eq.a", [2]),
        ("data->>key=in.(g,e)", [1, 4]),
        ("data->n=gt.5", [2]),
        ("data->parts->0->n=eq.1", [1]),
        ("data->parts->-1->>n=eq.2", [1]),
        ('data=cs.{"key":"g"}', [1]),
        ("data->key=is.null", [3, 5]),
        ("or=(minutes.is.null,and(id.gte.1,id.lt.3))", [1, 2, 5]),
        ("not.or=(id.eq.1,id.eq.2)", [3, 4, 5]),
        ("and=(id.gt.1,not.or(id.eq.3,id.eq.4))", [2, 5]),
        ('or=(title.eq."a,b",tags.cs.{piano,trio})', [1]),
        ("or=(title.not.eq.Trio,id.in.(1))", [1, 2, 3, 4, 5]),
        ("full_title=like.T*", [1]),
    ],
)
async def test_filters_choose_the_rows(api: DataApi, conditions: str, ids: list[int]) -> None:
    rows = await api.read(f"/works?select=id&order=id&{conditions}")
    assert [row["id"] for row in rows] == ids


@pytest.mark.parametrize(
    "condition",
    [
        "body=fts.fat", "body=fts(english).cat", "body=plfts(english).fat cats",
        "body=phfts(english).fat cats", 'body=wfts."fat cats"', "paper=fts.rats",
        "paper->>x=fts.rats", "words=fts(english).cats", "words=wfts.cat or dog",
        "words=not.fts.dog",
    ],
)  # fmt: skip
async def test_words_are_found_in_texts_documents_and_vectors(api: DataApi, condition: str) -> None:
    assert await api.read(f"/texts?select=id&{condition}") == [{"id": 1}]


@pytest.mark.parametrize(
    ("url", "rows"),
    [
        ("/works?select=scores()&id=eq.1", [{}]),
        ("/works?select=id,name:title&id=eq.1", [{"id": 1, "name": "Trio"}]),
        ("/works?select=id::text,m:minutes::float&id=eq.1", [{"id": "1", "m": 28}]),
        ("/works?select=data->>key,data->parts->0->n,k:data->key&id=eq.1",
         [{"key": "g", "n": 1, "k": "g"}]),
        ("/works?select=tags->0&id=eq.1", [{"tags": "piano"}]),
        ("/works?select=full_title&id=eq.5", [{"full_title": "Sketch (?)"}]),
        ("/works?select=id&order=data->>key.desc.nullslast,id&limit=2", [{"id": 1}, {"id": 4}]),
        ("/works?select=id&order=minutes.nullsfirst&limit=1", [{"id": 5}]),
        ("/works?select=id&order=full_title.desc&limit=1", [{"id": 1}]),
        ("/works?select=count()", [{"count": 5}]),
        ("/works?select=minutes.count()", [{"count": 4}]),
        ("/works?select=composer_id,minutes.sum()&order=composer_id&limit=2",
         [{"composer_id": 1, "sum": 68}, {"composer_id": 2, "sum": 22}]),
        ("/works?select=most:minutes.max(),minutes.avg()::int", [{"most": 45, "avg": 34}]),
        ("/works?select=n:data->>n::int.sum()::text", [{"n": "7"}]),
        ('/odd%20table?select="my id","a.b",Grün&"a.b"=eq.x',
         [{"my id": 1, "a.b": "x", "Grün": 5}]),
        ('/odd%20table?select="c,d"&"c,d"=in.("y")', [{"c,d": "y"}]),
        ("/odd%20table?select=my id&my id=eq.2&order=my id", [{"my id": 2}]),
        ("/notes?limit=0", []),
        ("/notes?select=a&offset=-1", [{"a": 1}, {"a": 2}]),
        ("/notes?select=a&limit=many", [{"a": 1}, {"a": 2}]),
        ("/vault?select=id,open", []),
    ],
)  # fmt: skip
async def test_columns_are_chosen_and_ordered(api: DataApi, url: str, rows: Any) -> None:
    assert await api.read(url) == rows


@pytest.mark.parametrize(
    ("request_line", "prefer", "range", "status", "content_range"),
    [
        ("GET /works", "", None, 200, "0-4/*"),
        ("GET /works?limit=2", "", None, 200, "0-1/*"),
        ("GET /works?limit=2&offset=1", "count=exact", None, 206, "1-2/5"),
        ("GET /works?limit=9", "count=exact", None, 200, "0-4/5"),
        ("GET /works?limit=2", "count=estimated", None, 206, "0-1/5"),
        ("GET /rpc/names?limit=2", "count=planned", None, 200, "0-1/*"),
        ("GET /rpc/names?limit=2", "count=estimated", None, 206, "0-1/4"),
        ("GET /works?offset=5", "count=exact", None, 206, "*/5"),
        ("GET /works?offset=6", "count=exact", None, 416, "*/5"),
        ("GET /works?offset=6", "", None, 200, "*/*"),
        ("GET /works?id=eq.99", "count=exact", None, 200, "*/0"),
        ("GET /works?limit=0", "", None, 200, "*/*"),
        ("GET /works", "count=exact", "1-2", 206, "1-2/5"),
        ("GET /works", "", "items=1-2", 200, "1-2/*"),
        ("GET /works", "", "3-", 200, "3-4/*"),
        ("GET /works?limit=3", "", "1-9", 200, "1-2/*"),
        ("GET /works?limit=0", "", "0-5", 200, "*/*"),
        ("GET /works", "", "none", 200, "0-4/*"),
        ("HEAD /works", "count=exact", "1-2", 200, "0-4/5"),
        ("HEAD /works?limit=2", "count=exact", None, 206, "0-1/5"),
        ("GET /works?select=composer_id,count()", "count=exact", None, 206, "0-3/5"),
    ],
)
async def test_a_range_is_read_and_told(
    api: DataApi,
    request_line: str,
    prefer: str,
    range: str | None,
    status: int,
    content_range: str,
) -> None:
    headers = {} if range is None else {"range": range}
    response = await api.request(request_line, headers=headers, prefer=prefer)
    assert (response.status_code, response.headers["content-range"]) == (status, content_range)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("url", "accept", "headers"),
    [
        ("/works?offset=9", "text/csv",
         {"content-type": "text/csv; charset=utf-8", "content-location": "/works?offset=9"}),
        ("/rpc/names?offset=9", "*/*", {"content-type": "application/json; charset=utf-8"}),
    ],
)  # fmt: skip
async def test_a_part_after_the_end_has_the_headers_of_a_response_and_an_error_for_a_body(
    api: DataApi, method: str, url: str, accept: str, headers: dict[str, str]
) -> None:
    prefer = "count=exact, handling=lenient, tx=commit"
    response = await api.request(f"{method} {url}", prefer=prefer, accept=accept)
    assert response.status_code == 416
    applied = {"preference-applied": "count=exact, tx=commit, handling=lenient"}
    assert {**headers, **applied}.items() <= dict(response.headers).items()
    assert "proxy-status" not in response.headers
    if method == "GET":
        rows = response.headers["content-range"].removeprefix("*/")
        details = f"An offset of 9 was requested, but there are only {rows} rows."
        assert (response.json()["code"], response.json()["details"]) == ("PGRST103", details)


@pytest.mark.parametrize(
    ("url", "range", "details"),
    [
        ("/works?limit=-1", None, "Limit should be greater than or equal to zero."),
        ("/works?limit=1", "1-4", "Limit should be greater than or equal to zero."),
        ("/works", "3-1", "The lower boundary must be lower than or equal to the upper boundary in "
         "the Range header."),
    ],
)  # fmt: skip
async def test_a_range_without_rows_is_rejected(
    api: DataApi, url: str, range: str | None, details: str
) -> None:
    response = await api.request(f"GET {url}", headers={"range": range} if range else {})
    assert response.status_code == 416
    assert response.json() == {
        "code": "PGRST103",
        "message": "Requested range not satisfiable",
        "details": details,
        "hint": None,
    }


async def test_the_location_of_content_is_the_same_for_the_same_content(
    api: DataApi,
) -> None:
    for query in ("select=id,title&id=eq.1", "id=eq.1&select=id%2Ctitle"):
        response = await api.request(f"GET /works?{query}")
        assert response.headers["content-location"] == "/works?id=eq.1&select=id%2Ctitle"
    response = await api.request("GET /works?id=gte.1&select=id&id=lt.1")
    assert response.headers["content-location"] == "/works?id=gte.1,lt.1&select=id"
    response = await api.request("GET /notes")
    assert response.headers["content-location"] == "/notes"


@pytest.mark.parametrize(
    ("url", "status", "error"),
    [
        ("/works?select=nope", 400,
         {"code": "42703", "message": "column works.nope does not exist", "hint": None}),
        ("/works?nope=eq.1", 400, {"code": "42703"}),
        ("/works?order=titl", 400, {
            "code": "42703",
            "hint": 'Perhaps you meant to reference the column "works.title".',
        }),
        ("/works?select=id&order=count", 400, {"code": "42703"}),
        ("/works?select=id::nope", 400, {"code": "42704"}),
        ("/works?select=data->n.sum()", 404, {"code": "42883"}),
        ("/works?select=data->>parts->n", 404, {
            "code": "42883", "message": "operator does not exist: text -> unknown",
        }),
        ("/works?select=data->>parts->0", 404, {
            "code": "42883", "message": "operator does not exist: text -> integer",
        }),
        ("/works?id=eq.x", 400, {"code": "22P02"}),
        ("/works?id=eq(any).(1)", 400, {"code": "22P02"}),
        ("/texts?body=fts(nope).x", 400, {"code": "42704"}),
        ("/texts?id=fts(english).x", 404, {
            "code": "42883", "message": "function to_tsvector(unknown, integer) does not exist",
        }),
        ("/works?id=1", 400, {
            "code": "PGRST100",
            "message": '"failed to parse filter (1)" (line 1, column 1)',
            "details": 'unexpected "1" expecting "not" or operator (eq, gt, ...)',
        }),
        ("/works?id=in.1", 400, {"details": 'unexpected "1" expecting "("'}),
        ("/works?or=(id.eq.1", 400, {
            "message": '"failed to parse logic tree ((id.eq.1)" (line 1, column 11)',
        }),
        ("/works?select=id,", 400, {"code": "PGRST100"}),
        ("/works?or=()", 400, {"code": "PGRST100"}),
        ("/works?id=neq(any).{1}", 400, {"code": "PGRST100"}),
        ("/vault", 401, {"code": "42501", "message": "permission denied for table vault"}),
        ("/work", 404, {
            "code": "PGRST205",
            "message": "Could not find the table 'public.work' in the schema cache",
            "details": None,
            "hint": "Perhaps you meant the table 'public.works'",
        }),
        ("/seats_a", 404, {"code": "PGRST205"}),
        ("/zzz", 404, {"code": "PGRST205", "hint": None}),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_says_why(
    api: DataApi, url: str, status: int, error: dict[str, Any]
) -> None:
    response = await api.request(f"GET {url}")
    assert response.status_code == status, response.text
    assert response.json().items() >= error.items()


@pytest.mark.parametrize(
    ("request_line", "prefer", "missing"),
    [
        ("GET /sealed", "", "SELECT"),
        ("GET /works?select=id,sealed(id)", "", "SELECT"),
        ("POST /sealed", "return=minimal", "INSERT"),
        ("POST /sealed", "return=representation", "SELECT, INSERT"),
        ("POST /sealed", "resolution=merge-duplicates", "SELECT, INSERT"),
        ("PATCH /sealed?id=eq.1", "", "SELECT"),
        ("DELETE /sealed?id=eq.1", "", "SELECT, DELETE"),
    ],
)
async def test_a_missing_grant_is_named(
    api: DataApi, request_line: str, prefer: str, missing: str
) -> None:
    body = {"id": 1} if request_line.startswith(("POST", "PATCH")) else None
    response = await api.request(request_line, body, prefer=prefer)
    assert response.status_code == 401, response.text
    assert response.json() == {
        "code": "42501",
        "details": None,
        "hint": "Grant the required privileges to the current role with: "
        f"GRANT {missing} ON public.sealed TO anon;",
        "message": "permission denied for table sealed",
    }


async def test_caches_learn_on_what_a_response_depends(api: DataApi) -> None:
    response = await api.request("GET /works?limit=1")
    assert response.headers["vary"] == "Accept, Prefer, Range"
