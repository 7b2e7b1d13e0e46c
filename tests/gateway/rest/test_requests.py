"""Requests name a target, a schema and a role, as PostgREST's documentation describes it."""

import json
from typing import Any

import psycopg
import pytest
from tests.gateway.rest.data_api import USER, DataApi, open_data_api

from amphibase.gateway.rest.request.request import RequestReader


@pytest.mark.parametrize(
    ("request_line", "status", "code", "message"),
    [
        ("GET /a/b", 404, "PGRST125", "Invalid path specified in request URL"),
        ("GET /works/", 404, "PGRST125", "Invalid path specified in request URL"),
        ("GET /rpc/add/x", 404, "PGRST125", "Invalid path specified in request URL"),
        ("POST /", 405, "PGRST117", "Unsupported HTTP method: POST"),
        ("TRACE /works", 405, "PGRST117", "Unsupported HTTP method: TRACE"),
        ("DELETE /rpc/add", 405, "PGRST101", "Cannot use the DELETE method on RPC"),
    ],
)
async def test_what_there_is_not_is_rejected(
    api: DataApi, request_line: str, status: int, code: str, message: str
) -> None:
    response = await api.request(request_line)
    assert response.status_code == status
    assert response.json() == {"code": code, "message": message, "details": None, "hint": None}
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["proxy-status"] == f"PostgREST; error={code}"


async def test_a_function_without_a_name_is_looked_for(api: DataApi) -> None:
    response = await api.request("GET /rpc/")
    assert (response.status_code, response.json()["code"]) == (404, "PGRST202")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "OPTIONS,GET,HEAD"),
        ("/works", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("/notes", "OPTIONS,GET,HEAD,POST,PATCH,DELETE"),
        ("/long_works", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("/listed_works", "OPTIONS,GET,HEAD"),
        ("/rpc/add?a=1", "OPTIONS,GET,HEAD,POST"),
        ("/rpc/sheet?b=1&c=2", "OPTIONS,GET,HEAD,POST"),
        ("/rpc/sheet?d=1&e=2", "OPTIONS,POST"),
        ("/rpc/ring", "OPTIONS,POST"),
    ],
)
async def test_options_tell_what_is_allowed(api: DataApi, path: str, allowed: str) -> None:
    response = await api.request(f"OPTIONS {path}")
    assert (response.status_code, response.headers["allow"]) == (200, allowed)


async def test_a_request_chooses_its_schema(api: DataApi) -> None:
    there, box = {"accept-profile": "archive"}, {"id": 2, "label": "x"}
    response = await api.request("GET /boxes", headers=there)
    assert response.json() == [{"id": 1, "label": "letters"}]
    assert response.headers["content-profile"] == "archive"
    response = await api.request("POST /boxes", box, headers={"content-profile": "archive"})
    assert response.status_code == 201
    assert "content-profile" not in response.headers  # of which only a body has need
    there["prefer"] = "return=representation"
    response = await api.request(
        "PATCH /boxes?id=eq.1", box, headers=there | {"content-profile": "archive"}
    )
    assert response.headers["content-profile"] == "archive"
    response = await api.request("OPTIONS /boxes", headers=there)
    assert response.status_code == 200
    assert (await api.request("GET /boxes")).status_code == 404
    assert (await api.request("POST /boxes", box, headers=there)).status_code == 404


@pytest.mark.parametrize(
    ("method", "header"), [("GET", "accept-profile"), ("POST", "content-profile")]
)
async def test_a_schema_that_is_not_exposed_is_rejected(
    api: DataApi, method: str, header: str
) -> None:
    response = await api.request(f"{method} /works", headers={header: "auth"})
    assert response.status_code == 406
    assert response.json() == {
        "code": "PGRST106",
        "message": "Invalid schema: auth",
        "details": None,
        "hint": "Only the following schemas are exposed: public, archive",
    }


@pytest.mark.parametrize(
    "request_line",
    ["GET /?select=(", "HEAD /?or=(", "OPTIONS /works?order=(", "OPTIONS /rpc/ring?select=("],
)
async def test_a_query_string_must_be_readable_whatever_is_requested(
    api: DataApi, request_line: str
) -> None:
    response = await api.request(request_line)
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("request.method", "GET"),
        ("request.path", "/rpc/setting"),
        ("search_path", '"public", "extensions"'),
        ("transaction_read_only", "on"),
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "3s"),  # of the role
    ],
)
async def test_a_request_is_reported_to_the_database(
    api: DataApi, setting: str, value: str
) -> None:
    assert await api.read(f"/rpc/setting?name={setting}") == value


async def test_headers_and_cookies_are_reported_as_json(api: DataApi) -> None:
    headers = {"X-Thing": "v", "Cookie": "a=1; b=2"}
    value = await api.read("/rpc/setting?name=request.headers", headers=headers)
    assert json.loads(value)["x-thing"] == "v"
    assert "cookie" not in json.loads(value)
    value = await api.read("/rpc/setting?name=request.cookies", headers=headers)
    assert json.loads(value) == {"a": "1", "b": "2"}


async def test_a_function_looks_at_each_request_before(api: DataApi) -> None:
    async with await psycopg.AsyncConnection.connect(api.url) as connection:
        await connection.execute("""
            CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                IF current_setting('request.headers')::json ->> 'x-evil' IS NOT NULL THEN
                    RAISE EXCEPTION 'No' USING HINT = 'be good';
                END IF;
                PERFORM set_config('response.headers', '[{"X-Seen": "yes"}]', true);
            END $$
        """)
    async with open_data_api(api.url, db_pre_request="public.look") as watched:
        response = await watched.request("GET /notes")
        assert (response.status_code, response.headers["x-seen"]) == (200, "yes")
        for path in ("/notes", "/"):
            response = await watched.request(f"GET {path}", headers={"x-evil": "1"})
            assert (response.status_code, response.json()["message"]) == (400, "No")
        assert (await watched.request("GET /")).status_code == 200


async def test_no_more_rows_come_than_the_settings_allow(api: DataApi) -> None:
    async with open_data_api(api.url, db_max_rows=2) as short:
        response = await short.request("GET /works?select=id", prefer="count=exact")
        assert (response.status_code, response.headers["content-range"]) == (206, "0-1/5")
        assert len(await short.read("/works?limit=9")) == 2
        [row] = await short.read("/concerts?select=works(id)&limit=1&order=id")
        assert len(row["works"]) == 2
        response = await short.request(
            "PATCH /works?select=id", {"minutes": 1}, prefer="return=representation"
        )
        assert len(response.json()) == 5


async def test_what_is_switched_off_is_rejected(api: DataApi) -> None:
    settings: dict[str, Any] = {
        "db_aggregates_enabled": False, "db_plan_enabled": False, "openapi_mode": "disabled",
        "db_tx_end": "commit",
    }  # fmt: skip
    async with open_data_api(api.url, **settings) as plain:
        response = await plain.request("GET /works?select=minutes.sum()")
        assert (response.status_code, response.json()["code"]) == (400, "PGRST123")
        response = await plain.request("GET /works", accept="application/vnd.pgrst.plan")
        assert (response.status_code, response.json()["code"]) == (406, "PGRST107")
        response = await plain.request("GET /")
        assert (response.status_code, response.json()["code"]) == (404, "PGRST126")
        response = await plain.request("GET /works", prefer="tx=rollback")
        assert "preference-applied" not in response.headers


async def test_minimal_errors_have_neither_details_nor_hints(api: DataApi) -> None:
    async with open_data_api(api.url, client_error_verbosity="minimal") as terse:
        response = await terse.request("GET /workz")
        assert response.json() == {
            "code": "PGRST205",
            "message": "Could not find the table 'public.workz' in the schema cache",
        }
        response = await terse.request("GET /works?offset=1000", prefer="count=exact")
        assert response.status_code == 416
        assert response.json() == {
            "code": "PGRST103", "message": "Requested range not satisfiable",
        }  # fmt: skip
        response = await terse.request("GET /works?id=eq.x")
        assert response.json().keys() == {"code", "message"}


async def test_the_root_describes_what_a_role_may_use(api: DataApi) -> None:
    response = await api.request("GET /", claims=USER)
    assert response.headers["content-type"] == "application/openapi+json; charset=utf-8"
    document = response.json()
    assert document["swagger"] == "2.0"
    assert {"/works", "/long_works", "/rpc/add"} <= document["paths"].keys()
    assert "/vault" not in document["paths"]
    assert "/vault" in (await api.read("/"))["paths"]
    assert "/boxes" in (await api.read("/", headers={"accept-profile": "archive"}))["paths"]


async def test_the_root_describes_columns(api: DataApi) -> None:
    definitions = (await api.read("/"))["definitions"]
    works, scores = definitions["works"]["properties"], definitions["scores"]["properties"]
    primary = "Note:\nThis is a Primary Key.<pk/>"
    assert works["id"] == {"format": "int32", "type": "integer", "description": primary}
    assert works["title"] == {"format": "text", "type": "string", "default": "untitled"}
    assert works["tags"]["items"] == {"type": "string"}
    assert scores["work_id"]["description"] == (
        f"{primary}\nThis is a Foreign Key to `works.id`.<fk table='works' column='id'/>"
    )
    assert definitions["works"]["required"] == ["id", "title"]


async def test_a_change_of_the_schema_is_seen(api: DataApi) -> None:
    async with await psycopg.AsyncConnection.connect(api.url) as connection:
        await connection.execute("CREATE TABLE fresh (id int)")
    response = await api.request("GET /fresh")
    for _ in range(1000):  # the news and its reading take some round trips
        if response.status_code == 200:
            break
        await api.read("/notes")
        response = await api.request("GET /fresh")
    assert response.json() == []


async def test_headers_and_queries_are_utf_8_and_numbers_of_any_length(
    api: DataApi,
) -> None:
    request = RequestReader(["Ö"]).read("GET", "/works", [(b"accept-profile", "Ö".encode())])
    assert request.schema == "Ö"
    response = await api.request("GET /works?select=id", headers={"Range": "9" * 5000 + "-"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("cookie", "told"),
    [
        ('a=1; b={"c":1}; d=2', {"a": "1", "b": '{"c":1}', "d": "2"}),
        ("odd name=1; [x]=2; good=3", {"odd name": "1", "[x]": "2", "good": "3"}),
        ('a="b c"; alone; =x; d==', {"a": "b c", "alone": "", "d": "="}),
        ('a="' + '\\"' * 30_000 + '"; b=1', {"a": '\\"' * 30_000, "b": "1"}),
    ],
)
async def test_cookies_are_reported_whatever_is_in_them(
    api: DataApi, cookie: str, told: dict[str, str]
) -> None:
    value = await api.read("/rpc/setting?name=request.cookies", headers={"Cookie": cookie})
    assert json.loads(value) == told


async def test_the_time_zone_of_a_request_comes_before_that_of_its_role(
    api: DataApi,
) -> None:
    async with await psycopg.AsyncConnection.connect(api.url) as connection:
        database = connection.info.dbname
        await connection.execute(
            f"ALTER ROLE anon IN DATABASE {database} SET \"TimeZone\" = 'Asia/Tokyo'".encode()
        )
    async with open_data_api(api.url) as there:
        read = "/rpc/setting?name=TimeZone"
        assert await there.read(read) == "Asia/Tokyo"
        assert await there.read(read, prefer="timezone=Asia/Tbilisi") == "Asia/Tbilisi"


@pytest.mark.parametrize(("prepares", "cached"), [(True, True), (False, False)])
async def test_nothing_is_prepared_where_a_pooler_would_reject_it(
    api: DataApi, prepares: bool, cached: bool
) -> None:
    async with open_data_api(api.url, db_prepared_statements=prepares) as there:
        assert len(await there.read("/works?select=id&limit=1", prefer="count=planned")) == 1
        response = await there.request("POST /notes", {"a": 1}, prefer="return=representation")
        assert response.json() == [{"a": 1, "b": None}]
        assert (await there.request("POST /rpc/isolation")).json() == "serializable"
        assert (await there.read("/rpc/prepared") > 0) is cached


async def test_responses_say_how_long_they_took_and_repeat_a_header(api: DataApi) -> None:
    settings: dict[str, Any] = {
        "server_timing_enabled": True, "server_trace_header": "X-Request-Id",
    }  # fmt: skip
    async with open_data_api(api.url, **settings) as timed:
        response = await timed.request("GET /works", headers={"x-request-id": "7"})
        phases = [each.partition(";dur=") for each in response.headers["server-timing"].split(", ")]
        assert [phase for phase, _, _ in phases] == [
            "jwt", "parse", "plan", "transaction", "response",
        ]  # fmt: skip
        assert {phase for phase, _, duration in phases if float(duration)} >= {"transaction"}
        assert response.headers["x-request-id"] == "7"
        rejected = await timed.request("GET /nowhere", headers={"x-request-id": "8"})
        assert (rejected.status_code, rejected.headers["x-request-id"]) == (404, "8")
        assert "server-timing" not in rejected.headers
        assert (await timed.request("OPTIONS /works")).headers["x-request-id"] == ""
    assert "server-timing" not in (await api.request("GET /works")).headers


async def test_a_function_takes_the_place_of_the_description(api: DataApi) -> None:
    async with open_data_api(api.url, db_root_spec="public.names") as rooted:
        assert await rooted.read("/?limit=1") == ["Clara"]
        response = await rooted.request("OPTIONS /")
        assert response.headers["allow"] == "OPTIONS,GET,HEAD,POST"
        assert (await rooted.request("PUT /", {})).json()["code"] == "PGRST101"
    async with open_data_api(api.url, db_root_spec="names", openapi_mode="disabled") as closed:
        assert (await closed.request("GET /")).json()["code"] == "PGRST126"


async def test_sql_reads_the_applications_own_settings(
    api: DataApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGRST_APP_SETTINGS_PLAN", "free")
    async with open_data_api(api.url) as configured:
        assert await configured.read("/rpc/setting?name=app.settings.plan") == "free"
