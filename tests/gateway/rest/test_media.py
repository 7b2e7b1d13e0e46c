"""Answers take the form that a client asks for, as PostgREST's documentation describes it."""

from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

PLAN = "application/vnd.pgrst.plan"
OBJECT = "application/vnd.pgrst.object"
ARRAY = "application/vnd.pgrst.array"
TABBED = "text/tab-separated-values"
LINES = "application/x-lines"
BYTES = "application/octet-stream"
UTF8 = "; charset=utf-8"


@pytest.mark.parametrize(
    ("url", "accept", "content_type", "body"),
    [
        ("/works?select=id&id=eq.1", "*/*", "application/json; charset=utf-8", '[{"id":1}]'),
        ("/works?select=id&id=eq.1", "application/json", f"application/json{UTF8}", '[{"id":1}]'),
        ("/works?select=id&id=eq.1", "application/xml, */*;q=0.1", f"application/json{UTF8}",
         '[{"id":1}]'),
        ("/works?select=id&id=eq.1", "text/csv;q=0.5, application/json", f"application/json{UTF8}",
         '[{"id":1}]'),
        ("/works?select=id,title&id=lt.3", "text/csv", f"text/csv{UTF8}",
         "id,title\n1,Trio\n2,Concerto"),
        ("/works?select=id&id=eq.99", "text/csv", f"text/csv{UTF8}", "\n"),
        ("/works?select=id,minutes&id=eq.5", f"{OBJECT}+json", f"{OBJECT}+json{UTF8}",
         '{"id":5,"minutes":null}'),
        ("/works?select=id,minutes&id=eq.5", OBJECT, f"{OBJECT}+json{UTF8}",
         '{"id":5,"minutes":null}'),
        ("/works?select=id,minutes&id=eq.5", f"{OBJECT}+json;nulls=stripped",
         f"{OBJECT}+json;nulls=stripped{UTF8}", '{"id":5}'),
        ("/works?select=id,minutes&id=eq.5", f"{ARRAY}+json;nulls=stripped",
         f"{ARRAY}+json;nulls=stripped{UTF8}", '[{"id":5}]'),
        ("/works?select=id,minutes&id=gte.4&order=id", f"{ARRAY}+json;nulls=stripped",
         f"{ARRAY}+json;nulls=stripped{UTF8}", '[{"id":4,"minutes":45},{"id":5}]'),
        ("/works?select=id&id=eq.5", f"{ARRAY}+json", f"application/json{UTF8}", '[{"id":5}]'),
        # Of types that are preferred alike, the most specific.
        ("/works?select=id&id=eq.5", "*/*, text/csv", f"text/csv{UTF8}", "id\n5"),
        ("/works?select=id,minutes&id=eq.5", f"{OBJECT}, {OBJECT};nulls=stripped",
         f"{OBJECT}+json;nulls=stripped{UTF8}", '{"id":5}'),
        ("/rpc/names?limit=2", "text/csv", f"text/csv{UTF8}", "pgrst_scalar\nClara\nFanny"),
        ("/rpc/works_of?composer=1&select=id", "text/csv", f"text/csv{UTF8}", "id\n1\n2"),
        # handlers of a table's rows, of any rows, and functions
        ("/works?id=lt.3", TABBED, TABBED, "1\tTrio\n2\tConcerto"),
        ("/works?select=*&id=eq.1", TABBED, TABBED, "1\tTrio"),
        ("/rpc/works_of?composer=1", TABBED, TABBED, "1\tTrio\n2\tConcerto"),
        ("/works?select=id&id=lt.3", LINES, LINES, '{"id":1}\n{"id":2}'),
        ("/scores?work_id=eq.1", LINES, LINES, '{"work_id":1,"pages":60}'),
        ("/rpc/add?a=1", LINES, LINES, "11"),
        ("/rpc/names?limit=1", LINES, LINES, '{"pgrst_scalar":"Clara"}'),
        ("/rpc/sheet?b=1", TABBED, TABBED, "1\tTrio"),
        ("/rpc/sheet?a=1", "*/*", f"application/json{UTF8}", '"text"'),
        ("/rpc/page", "text/html", "text/html", "<p>hi</p>"),
        ("/rpc/page", "application/xhtml+xml, TEXT/HTML, */*;q=0.8", "text/html", "<p>hi</p>"),
        ("/rpc/page", "*/*", f"application/json{UTF8}", '"<p>hi</p>"'),
        ("/rpc/page", "application/json", f"application/json{UTF8}", '"<p>hi</p>"'),
        ("/rpc/picture", "*/*", BYTES, b"\x89\xff"),
        ("/rpc/picture", "image/png", BYTES, b"\x89\xff"),
        ("/rpc/picture", "application/json", BYTES, b"\x89\xff"),
        ("/rpc/png", "image/*", "image/png", b"\x89\xff"),
        ("/signs", "*/*", BYTES, b"*****"),
        ("/signs", "text/csv", BYTES, b"*****"),
        ("/signs?select=id&id=eq.1", "*/*", f"application/json{UTF8}", '[{"id":1}]'),
    ],
)  # fmt: skip
async def test_a_response_has_the_form_requested(
    api: DataApi, url: str, accept: str, content_type: str, body: str | bytes
) -> None:
    response = await api.request(f"GET {url}", accept=accept)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == content_type
    assert response.content == (body if isinstance(body, bytes) else body.encode())
    assert response.headers["content-length"] == str(len(response.content))
    head = await api.request(f"HEAD {url}", accept=accept)
    assert (head.status_code, head.content) == (200, b"")


async def test_without_accept_a_response_is_json_unless_a_table_renders_all(
    api: DataApi,
) -> None:
    del api.client.headers["accept"]
    try:
        assert (await api.request("GET /notes?a=eq.1")).json() == [{"a": 1, "b": "one"}]
        assert (await api.request("GET /signs")).content == b"*****"
    finally:
        api.client.headers["accept"] = "*/*"


@pytest.mark.parametrize(
    ("request_line", "accept"),
    [
        ("GET /works", "application/xml"),
        ("GET /works", "application/xml, text/html"),
        ("GET /works?select=id", TABBED),
        ("GET /composers", TABBED),
        ("GET /rpc/names", "text/plain"),
        ("GET /rpc/add?a=1", "image/png"),
        ("GET /rpc/sheet?a=1", TABBED),
        ("GET /rpc/sheet?d=1&e=1", TABBED),
        ("POST /works", "application/xml"),
        ("GET /", "text/csv"),
    ],
)
async def test_a_form_that_there_is_not_is_rejected(
    api: DataApi, request_line: str, accept: str
) -> None:
    body = {"id": 9} if request_line.startswith("POST") else None
    response = await api.request(request_line, body, accept=accept)
    assert response.status_code == 406
    assert response.json() == {
        "code": "PGRST107",
        "message": f"None of these media types are available: {accept}",
        "details": None,
        "hint": None,
    }


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        ("GET /nowhere", "PGRST205"),
        ("GET /works?select=nowhere(*)", "PGRST200"),
        ("POST /nowhere", "PGRST205"),
        ("GET /rpc/nowhere", "PGRST202"),
        ("GET /works", "PGRST107"),
    ],
)
@pytest.mark.parametrize("prefer", ["", "handling=strict, foo"])
async def test_a_name_that_is_not_there_is_reported_before_the_form_and_the_preferences(
    api: DataApi, request_line: str, code: str, prefer: str
) -> None:
    body = {"id": 9} if request_line.startswith("POST") else None
    response = await api.request(request_line, body, accept="application/xml", prefer=prefer)
    assert response.json()["code"] == code


@pytest.mark.parametrize(
    ("request_line", "accept", "prefer", "code"),
    [
        ("GET /works?select=nope", "application/xml", "handling=strict, foo", "PGRST107"),
        ("GET /works?select=nope", "", "handling=strict, foo", "PGRST122"),
        ("GET /works?select=nope", "", "foo", "42703"),
        ("PATCH /works?nope=eq.1", "application/xml", "handling=strict, foo", "PGRST122"),
        ("PATCH /works?nope=eq.1", "application/xml", "foo", "PGRST107"),
        ("GET /rpc/names?select=nope", "application/xml", "handling=strict, foo", "PGRST107"),
    ],
)
async def test_what_postgres_says_is_reported_after_the_form_and_the_preferences(
    api: DataApi, request_line: str, accept: str, prefer: str, code: str
) -> None:
    body = {"minutes": 1} if request_line.startswith("PATCH") else None
    response = await api.request(request_line, body, accept=accept, prefer=prefer)
    assert response.json()["code"] == code


@pytest.mark.parametrize(
    ("accept", "shown"),
    [
        ("Text/X;q=0.5, image/png; a=b", "image/png;a=b, Text/X"),
        (f'{PLAN}; options=wal|analyze; for="image/png"',
         f'{PLAN}+text; for="image/png"; options=analyze|wal'),
        (f"{PLAN}+xml", f"{PLAN}+xml"),
    ],
)  # fmt: skip
async def test_a_rejected_form_is_named_without_its_quality(
    api: DataApi, accept: str, shown: str
) -> None:
    response = await api.request("GET /works", accept=accept)
    message = f"None of these media types are available: {shown}"
    assert (response.status_code, response.json()["message"]) == (406, message)


async def test_an_object_is_exactly_one_row(api: DataApi) -> None:
    for url, rows in (("/works?id=eq.99", 0), ("/works", 5)):
        response = await api.request(f"GET {url}", accept=f"{OBJECT}+json")
        assert response.status_code == 406
        assert response.json() == {
            "code": "PGRST116",
            "message": "Cannot coerce the result to a single JSON object",
            "details": f"The result contains {rows} rows",
            "hint": None,
        }


@pytest.mark.parametrize(
    ("request_line", "body", "accept", "content_type", "words"),
    [
        ("GET /works", None, PLAN, f'{PLAN}+text; for="application/json"', "Scan"),
        ("GET /works", None, f"{PLAN}+json", f'{PLAN}+json; for="application/json"', '"Plan"'),
        ("GET /works?select=id", None, f'{PLAN}+text; for="text/csv"; options=verbose|analyze',
         f'{PLAN}+text; for="text/csv"; options=analyze|verbose', "actual"),
        ("GET /works", None, f'{PLAN}; for="{OBJECT}"', f'{PLAN}+text; for="{OBJECT}+json"',
         "Scan"),
        ("GET /works", None, f'{PLAN}; for="{TABBED}"', f'{PLAN}+text; for="{TABBED}"', "Scan"),
        ("GET /rpc/works_of?composer=1", None, PLAN, f'{PLAN}+text; for="application/json"',
         "Scan"),
        ("POST /works", {"id": 9}, PLAN, f'{PLAN}+text; for="application/json"', "Insert on works"),
        ("PATCH /works?id=eq.1", {"minutes": 1}, PLAN, f'{PLAN}+text; for="application/json"',
         "Update on works"),
        ("DELETE /works?id=eq.1", None, PLAN, f'{PLAN}+text; for="application/json"',
         "Delete on works"),
    ],
)  # fmt: skip
async def test_a_plan_is_how_postgres_would_do_it(
    api: DataApi, request_line: str, body: Any, accept: str, content_type: str, words: str
) -> None:
    response = await api.request(request_line, body, accept=accept, prefer="tx=commit")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == content_type + UTF8
    assert words in response.text
    assert (await api.read("/works?select=count()")) == [{"count": 5}]
