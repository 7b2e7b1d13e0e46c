"""Functions are called as PostgREST's documentation describes it."""

import json
from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

ONE = "application/vnd.pgrst.object+json"
NULL_WORK = dict.fromkeys(
    ("id", "title", "composer_id", "arranger_id", "minutes", "data", "tags", "season")
)


@pytest.mark.parametrize(
    ("request_line", "body", "value"),
    [
        # arguments
        ("GET /rpc/add?a=1", None, 11),
        ("GET /rpc/add?a=1&b=2", None, 3),
        ("POST /rpc/add", {"a": 1, "b": "2"}, 3),
        ("POST /rpc/add", [{"a": 1}], 11),
        ("POST /rpc/add?columns=a", {"a": 1, "more": 2}, 11),
        ("POST /rpc/ring", "", 1),
        ("POST /rpc/ring", {}, 1),
        ("POST /rpc/over", {"a": 1}, "one"),
        ("POST /rpc/over", {"a": 1, "b": 2}, "two"),
        ("GET /rpc/total?n=1&n=2", None, 3),
        ("POST /rpc/total", {"n": [1, 2, 3]}, 6),
        ("POST /rpc/total", {}, None),
        ("GET /rpc/letters?a={x,y}", None, ["x", "y"]),
        ("POST /rpc/letters", {"a": ["x", "y"]}, ["x", "y"]),
        ("POST /rpc/whole_json", {"x": [1]}, {"x": [1]}),
        ("POST /rpc/whole_json", [{"x": 1}, {"x": 2}], [{"x": 1}, {"x": 2}]),
        # results
        ("GET /rpc/nobody", None, None),
        ("GET /rpc/nothings", None, []),
        ("GET /rpc/names", None, ["Clara", "Fanny", "Lili", "Nobody"]),
        ("GET /rpc/names?pgrst_scalar=like.*a*&order=pgrst_scalar.desc&limit=1", None, ["Fanny"]),
        ("GET /rpc/names?select=pgrst_scalar&limit=1", None, ["Clara"]),
        ("GET /rpc/one_column", None, [{"x": 1}, {"x": 2}]),
        ("GET /rpc/pairs", None, [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]),
        ("GET /rpc/outs?a=3", None, {"b": 6, "c": "c3"}),
        ("GET /rpc/one_out?a=3", None, {"b": 6}),
        ("GET /rpc/in_and_out?a=3", None, {"a": 6}),
        ("GET /rpc/one_work?number=99", None, NULL_WORK),
        # rows are read as those of a table
        ("GET /rpc/works_of?composer=1&select=id&order=id.desc", None, [{"id": 2}, {"id": 1}]),
        ("GET /rpc/works_of?composer=1&id=eq.2&select=id,scores(pages)", None,
         [{"id": 2, "scores": {"pages": 120}}]),
        ("POST /rpc/works_of?select=id&id=eq.1", {"composer": 1}, [{"id": 1}]),
        ("GET /rpc/works_of?composer=1&select=full_title&full_title=like.T*", None,
         [{"full_title": "Trio (28)"}]),
        ("GET /rpc/works_of?composer=1&select=id&limit=1&offset=1", None, [{"id": 2}]),
        ("GET /rpc/works_of?composer=1&select=count(),minutes.sum()", None,
         [{"count": 2, "sum": 68}]),
        ("GET /rpc/works_of?composer=1&limit=0", None, []),
        ("GET /rpc/one_work?number=1&select=title,composers!works_composer(name)", None,
         {"title": "Trio", "composers": {"name": "Clara"}}),
        ("GET /rpc/pairs?x=gt.1&select=k:y", None, [{"k": "b"}]),
        ("GET /rpc/pairs?order=x.desc&select=x::text", None, [{"x": "2"}, {"x": "1"}]),
        ("POST /rpc/compose?select=title", {"title": "New"}, [{"title": "New"}]),
    ],
)  # fmt: skip
async def test_a_function_answers(api: DataApi, request_line: str, body: Any, value: Any) -> None:
    response = await api.request(request_line, body)
    assert (response.status_code, response.json()) == (200, value)


@pytest.mark.parametrize(
    ("name", "body", "media_type", "value"),
    [
        ("whole_text", "hello", "text/plain", "HELLO"),
        ("whole_bytes", b"\x00\xff", "application/octet-stream", 2),
        ("whole_xml", "<a/>", "text/xml", "<a/>"),
        ("add", "a=1&b=5", "application/x-www-form-urlencoded", 6),
        ("total", "n=1&n=2", "application/x-www-form-urlencoded", 3),
        ("letters", "a={x,y}", "application/x-www-form-urlencoded", ["x", "y"]),
        ("add", "a,b\n1,2", "text/csv", 3),
    ],
)
async def test_arguments_come_in_several_forms(
    api: DataApi, name: str, body: str | bytes, media_type: str, value: Any
) -> None:
    response = await api.request(f"POST /rpc/{name}", body, headers={"content-type": media_type})
    assert (response.status_code, response.json()) == (200, value)


@pytest.mark.parametrize("request_line", ["POST /rpc/nothing", "GET /rpc/nothing"])
async def test_a_function_without_a_result_has_no_content(api: DataApi, request_line: str) -> None:
    response = await api.request(request_line)
    assert (response.status_code, response.content) == (204, b"")
    assert not response.headers.keys() & {"content-type", "content-length"}


@pytest.mark.parametrize(
    ("request_line", "prefer", "status", "range"),
    [
        ("GET /rpc/names?limit=2", "count=exact", 206, "0-1/4"),
        ("GET /rpc/works_of?composer=1&offset=1", "count=exact", 206, "1-1/2"),
        ("GET /rpc/works_of?composer=1", "", 200, "0-1/*"),
        ("HEAD /rpc/works_of?composer=1", "count=exact", 200, "0-1/2"),
        ("GET /rpc/works_of?composer=1&select=composer_id,count()", "count=exact", 206, "0-0/2"),
        ("GET /rpc/works_of?composer=9", "count=exact", 200, "*/0"),
        ("GET /rpc/works_of?composer=1&offset=9", "count=exact", 416, "*/2"),
    ],
)
async def test_rows_of_functions_are_counted(
    api: DataApi, request_line: str, prefer: str, status: int, range: str
) -> None:
    response = await api.request(request_line, prefer=prefer)
    assert (response.status_code, response.headers["content-range"]) == (status, range)


def not_found(called: str, searched: str, hint: str | None) -> dict[str, Any]:
    return {
        "code": "PGRST202",
        "message": f"Could not find the function public.{called} in the schema cache",
        "details": f"Searched for the function public.{searched}, but no matches were found in "
        "the schema cache.",
        "hint": hint and f"Perhaps you meant to call the function public.{hint}",
    }


OR_JSON = "or with a single unnamed json/jsonb parameter"


@pytest.mark.parametrize(
    ("request_line", "body", "status", "error"),
    [
        ("GET /rpc/name", None, 404,
         not_found("name without parameters", "name without parameters", "names")),
        ("POST /rpc/add", {"a": 1, "c": 2}, 404,
         not_found("add(a, c)", f"add with parameters a, c {OR_JSON}", "add(a, b)")),
        ("POST /rpc/add", {"c": 2}, 404,
         not_found("add(c)", f"add with parameter c {OR_JSON}", None)),
        ("GET /rpc/add", None, 404,
         not_found("add without parameters", "add without parameters", None)),
        ("GET /rpc/works_of?composer=eq.1", None, 404, {"code": "PGRST202"}),
        ("POST /rpc/twice", {"a": 1}, 300, {
            "code": "PGRST203",
            "message": "Could not choose the best candidate function between: "
            "public.twice(a => integer), public.twice(a => text)",
            "details": None,
            "hint": "Try renaming the parameters or the function itself in the database so "
            "function overloading can be resolved",
        }),
        ("POST /rpc/whole_json", [1, 2], 400, {"code": "PGRST102"}),
        ("PATCH /rpc/add", {}, 405,
         {"code": "PGRST101", "message": "Cannot use the PATCH method on RPC"}),
        ("GET /rpc/add?a=x", None, 400, {"code": "22P02"}),
        ("GET /rpc/works_of?composer=1&select=nope", None, 400,
         {"code": "42703", "message": "column pgrst_call.nope does not exist"}),
        ("GET /rpc/works_of?composer=1&select=id&nope=eq.1", None, 400,
         {"code": "42703", "message": "column pgrst_call.nope does not exist"}),
        ("GET /rpc/works_of?composer=1&nope=eq.1", None, 400,
         {"code": "42703", "message": "column works.nope does not exist"}),
        ("GET /rpc/works_of?composer=1&select=id&order=nope", None, 400,
         {"code": "42703", "message": "column works.nope does not exist"}),
        ("GET /rpc/pairs?select=x,yy", None, 400, {
            "code": "42703", "message": "column pgrst_call.yy does not exist",
            "hint": 'Perhaps you meant to reference the column "pgrst_call.y".',
        }),
        ("GET /rpc/pairs?select=*,z", None, 400,
         {"code": "42703", "message": "column pairs.z does not exist"}),
        ("GET /rpc/outs?a=3&order=z", None, 400,
         {"code": "42703", "message": "column outs.z does not exist"}),
        ("GET /rpc/names?select=other", None, 400,
         {"code": "42703", "message": "column names.other does not exist", "hint": None}),
        ("GET /rpc/names?nope=eq.1", None, 400,
         {"code": "42703", "message": "column names.nope does not exist", "hint": None}),
        ("GET /rpc/compose?title=x", None, 405, {
            "code": "25006", "message": "cannot execute INSERT in a read-only transaction",
        }),
        ("POST /rpc/slow", None, 500, {
            "code": "57014", "message": "canceling statement due to statement timeout",
        }),
    ],
)  # fmt: skip
async def test_a_call_that_fails_says_why(
    api: DataApi, request_line: str, body: Any, status: int, error: dict[str, Any]
) -> None:
    response = await api.request(request_line, body)
    assert response.status_code == status, response.text
    assert response.json().items() >= error.items()


async def test_a_body_of_csv_is_never_taken_whole(api: DataApi) -> None:
    headers = {"content-type": "text/csv"}
    response = await api.request("POST /rpc/whole_json", "a,b\n1,2", headers=headers)
    assert response.status_code == 404
    assert response.json()["details"] == (
        "Searched for the function public.whole_json with parameters a, b, but no matches were "
        "found in the schema cache."
    )


async def test_a_raw_body_needs_a_parameter_that_takes_it(api: DataApi) -> None:
    headers = {"content-type": "text/xml"}
    response = await api.request("POST /rpc/whole_text", "<a/>", headers=headers)
    assert response.status_code == 404
    assert response.json()["details"] == (
        "Searched for the function public.whole_text with a single unnamed xml parameter, but no "
        "matches were found in the schema cache."
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [("PT402", 402), ("PT599", 599), ("PTABC", 500), ("P0001", 400), ("28000", 403),
     ("42P17", 500), ("53400", 500), ("57P01", 503), ("XX000", 500), ("40001", 500),
     ("0P000", 403), ("HV000", 500), ("22000", 400), ("22023", 400)],
)  # fmt: skip
async def test_what_a_function_raises_has_its_status(api: DataApi, state: str, status: int) -> None:
    body = {"state": state, "message": "role", "detail": "d", "hint": "h"}
    response = await api.request("POST /rpc/fail", body)
    assert response.status_code == status
    assert response.json() == {"code": state, "message": "role", "details": "d", "hint": "h"}
    assert response.headers["proxy-status"] == f"PostgREST; error={state}"


async def test_a_function_raises_a_whole_response(api: DataApi) -> None:
    message = {"code": "123", "message": "Pay", "details": "all", "hint": "soon"}
    detail = {"status": 402, "headers": {"X-Owed": "5"}}
    body = {"state": "PGRST", "message": json.dumps(message), "detail": json.dumps(detail)}
    response = await api.request("POST /rpc/fail", body)
    assert (response.status_code, response.json()) == (402, message)
    assert response.headers["x-owed"] == "5"


@pytest.mark.parametrize(
    ("name", "message", "details"),
    [
        ("fail", "x", "Invalid JSON value for MESSAGE: 'x'"),
        ("fail_half", '{"code": "1", "message": "m"}', "DETAIL is missing in the RAISE statement"),
    ],
)
async def test_a_response_raised_by_half_is_an_error(
    api: DataApi, name: str, message: str, details: str
) -> None:
    body = {"message": message} | ({"state": "PGRST", "detail": "{}"} if name == "fail" else {})
    response = await api.request(f"POST /rpc/{name}", body)
    assert (response.status_code, response.json()["code"]) == (500, "PGRST121")
    assert response.json()["details"] == details


async def test_a_function_sets_status_and_headers(api: DataApi) -> None:
    headers = [{"X-Tea": "yes"}, {"Set-Cookie": "a=1"}, {"Set-Cookie": "b=2"}, {"Vary": "Cookie"}]
    body = {"status": "418", "headers": json.dumps(headers)}
    response = await api.request("POST /rpc/response", body)
    assert (response.status_code, response.headers["x-tea"]) == (418, "yes")
    assert response.headers.get_list("vary") == ["Cookie"]
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        ("x", "[]", "PGRST112"),
        ("100", "[]", "PGRST112"),
        ("200", '{"a": "b"}', "PGRST111"),
        ("200", "[1]", "PGRST111"),
    ],
)
async def test_what_is_no_status_and_no_header_is_an_error(
    api: DataApi, status: str, headers: str, code: str
) -> None:
    response = await api.request("POST /rpc/response", {"status": status, "headers": headers})
    assert (response.status_code, response.json()["code"]) == (500, code)


async def test_a_function_has_the_isolation_it_requests(api: DataApi) -> None:
    assert (await api.request("POST /rpc/isolation")).json() == "serializable"


async def test_one_row_of_a_function_is_an_object(api: DataApi) -> None:
    url = "/rpc/works_of?composer=1&select=id"
    assert await api.read(f"{url}&id=eq.1", accept=ONE) == {"id": 1}
    response = await api.request(f"GET {url}", accept=ONE)
    assert (response.status_code, response.json()["code"]) == (406, "PGRST116")


@pytest.mark.parametrize("status", ["204", "304"])
async def test_a_status_without_a_body_has_none(api: DataApi, status: str) -> None:
    response = await api.request("GET /rpc/with_status", headers={"X-Status": status})
    assert (response.status_code, response.content) == (int(status), b"")
    assert "content-length" not in response.headers


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection"])
async def test_a_function_cannot_say_where_a_response_ends(api: DataApi, name: str) -> None:
    body = {"status": "200", "headers": json.dumps([{name: "1"}])}
    response = await api.request("POST /rpc/response", body)
    assert (response.status_code, response.json()["code"]) == (500, "PGRST111")


@pytest.mark.parametrize(
    "body",
    [
        {"state": "PT204"},
        {"state": "PT304"},
        {
            "state": "PGRST",
            "message": '{"code": "a", "message": "b"}',
            "detail": '{"status": 204, "headers": {}}',
        },
    ],
)
async def test_an_error_whose_status_has_no_body_sends_none(
    api: DataApi, body: dict[str, str]
) -> None:
    """What followed the headers would be taken for the next response of the connection."""
    response = await api.request("POST /rpc/fail", body)
    assert response.status_code in (204, 304)
    assert response.content == b""
    assert "content-length" not in response.headers


async def test_an_error_has_no_status_of_an_interim_response(api: DataApi) -> None:
    assert (await api.request("POST /rpc/fail", {"state": "PT100"})).status_code == 500


async def test_a_code_that_is_raised_adds_no_header(api: DataApi) -> None:
    message = {"code": "1\r\nX-Evil: yes", "message": "m"}
    detail = {"status": 400, "headers": {"Content-Length": "1", "X-Good": "yes"}}
    body = {"state": "PGRST", "message": json.dumps(message), "detail": json.dumps(detail)}
    response = await api.request("POST /rpc/fail", body)
    assert (response.status_code, response.json()["code"]) == (400, message["code"])
    assert "proxy-status" not in response.headers
    assert response.headers.get_list("content-length") == [str(len(response.content))]
    assert response.headers["x-good"] == "yes"
