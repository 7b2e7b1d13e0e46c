"""Requests name what they are about and who asks, as PostgREST's documentation describes it."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from tests.gateway.rest.orchestra import Orchestra, open_orchestra

from amphibase.gateway.rest.request.request import read_asked

USER = {"sub": "00000000-0000-0000-0000-000000000001", "role": "authenticated"}


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
async def test_what_there_is_not_is_refused(
    orchestra: Orchestra, request_line: str, status: int, code: str, message: str
) -> None:
    answer = await orchestra.ask(request_line)
    assert answer.status_code == status
    assert answer.json() == {"code": code, "message": message, "details": None, "hint": None}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["proxy-status"] == f"PostgREST; error={code}"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "OPTIONS,GET,HEAD"),
        ("/works", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("/notes", "OPTIONS,GET,HEAD,POST,PATCH,DELETE"),
        ("/long_works", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("/listed_works", "OPTIONS,GET,HEAD"),
        ("/rpc/add", "OPTIONS,GET,HEAD,POST"),
        ("/rpc/ring", "OPTIONS,POST"),
    ],
)
async def test_options_tell_what_is_allowed(orchestra: Orchestra, path: str, allowed: str) -> None:
    answer = await orchestra.ask(f"OPTIONS {path}")
    assert (answer.status_code, answer.headers["allow"]) == (200, allowed)


async def test_a_request_chooses_its_schema(orchestra: Orchestra) -> None:
    there, box = {"accept-profile": "archive"}, {"id": 2, "label": "x"}
    answer = await orchestra.ask("GET /boxes", headers=there)
    assert answer.json() == [{"id": 1, "label": "letters"}]
    assert answer.headers["content-profile"] == "archive"
    answer = await orchestra.ask("POST /boxes", box, headers={"content-profile": "archive"})
    assert (answer.status_code, answer.headers["content-profile"]) == (201, "archive")
    assert (await orchestra.ask("GET /boxes")).status_code == 404
    assert (await orchestra.ask("POST /boxes", box, headers=there)).status_code == 404


@pytest.mark.parametrize(
    ("method", "header"), [("GET", "accept-profile"), ("POST", "content-profile")]
)
async def test_a_schema_that_is_not_exposed_is_refused(
    orchestra: Orchestra, method: str, header: str
) -> None:
    answer = await orchestra.ask(f"{method} /works", headers={header: "auth"})
    assert answer.status_code == 406
    assert answer.json() == {
        "code": "PGRST106",
        "message": "Invalid schema: auth",
        "details": None,
        "hint": "Only the following schemas are exposed: public, archive",
    }


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        (None, "anon"),
        ({"sub": "x"}, "anon"),
        (USER, "authenticated"),
        ({"role": "service_role"}, "service_role"),
    ],
)
async def test_a_request_acts_as_the_role_of_its_token(
    orchestra: Orchestra, claims: dict[str, Any] | None, role: str
) -> None:
    assert await orchestra.read("/rpc/setting?name=role", claims=claims) == role
    told = await orchestra.read("/rpc/setting?name=request.jwt.claims", claims=claims)
    assert json.loads(told) == {**(claims or {}), "role": role}


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(each).encode()) for each in (header, claims))
    return b".".join(part.rstrip(b"=") for part in parts).decode()


@pytest.mark.parametrize(
    ("authorization", "code", "message"),
    [
        ("Bearer ", "PGRST301", "Empty JWT is sent in Authorization header"),
        ("bearer a", "PGRST301", "Expected 3 parts in JWT; got 1"),
        ("Bearer a.b", "PGRST301", "Expected 3 parts in JWT; got 2"),
        ("Bearer a.b.c", "PGRST301", "JWT couldn't be decoded"),
        (f"Bearer {unsigned({'alg': 'HS256'}, USER)}.AAAA", "PGRST301",
         "No suitable key or wrong key type"),
        (f"Bearer {unsigned({'alg': 'none'}, USER)}.", "PGRST301",
         "Wrong or unsupported encoding algorithm"),
    ],
)  # fmt: skip
async def test_a_token_that_is_none_is_refused(
    orchestra: Orchestra, authorization: str, code: str, message: str
) -> None:
    answer = await orchestra.ask("GET /works", headers={"authorization": authorization})
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.json()["message"] == message
    assert answer.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", error_description="{message}"'
    )


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": -60}, "JWT expired"),
        ({"nbf": 60}, "JWT not yet valid"),
        ({"iat": 60}, "JWT issued at future"),
        ({"exp": -5, "nbf": 5, "iat": 5}, None),  # clocks differ
    ],
)
async def test_a_token_holds_for_its_time(
    orchestra: Orchestra, claims: dict[str, int], message: str | None
) -> None:
    now = int(time.time())
    claims = {name: now + difference for name, difference in claims.items()}
    answer = await orchestra.ask("GET /works", claims={**USER, **claims})
    assert answer.status_code == (401 if message else 200)
    if message:
        assert (answer.json()["code"], answer.json()["message"]) == ("PGRST303", message)


async def test_a_role_that_may_not_is_forbidden_and_nobody_is_asked_who_they_are(
    orchestra: Orchestra,
) -> None:
    answer = await orchestra.ask("GET /vault", claims=USER)
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")
    assert "www-authenticate" not in answer.headers
    answer = await orchestra.ask("GET /vault")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_role_that_there_is_not_is_refused(orchestra: Orchestra) -> None:
    answer = await orchestra.ask("GET /works", claims={"role": "nobody"})
    assert (answer.status_code, answer.json()["code"]) == (401, "22023")
    assert answer.json()["message"] == 'role "nobody" does not exist'


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
async def test_a_request_is_told_to_the_database(
    orchestra: Orchestra, setting: str, value: str
) -> None:
    assert await orchestra.read(f"/rpc/setting?name={setting}") == value


async def test_headers_and_cookies_are_told_as_json(orchestra: Orchestra) -> None:
    headers = {"X-Thing": "v", "Cookie": "a=1; b=2"}
    told = await orchestra.read("/rpc/setting?name=request.headers", headers=headers)
    assert json.loads(told)["x-thing"] == "v"
    assert "cookie" not in json.loads(told)
    told = await orchestra.read("/rpc/setting?name=request.cookies", headers=headers)
    assert json.loads(told) == {"a": "1", "b": "2"}


async def test_where_nobody_may_be_unknown_a_token_is_needed(orchestra: Orchestra) -> None:
    async with open_orchestra(orchestra.url, db_anon_role=None) as closed:
        answer = await closed.ask("GET /works")
        assert (answer.status_code, answer.json()["code"]) == (401, "PGRST302")
        assert answer.json()["message"] == "Anonymous access is disabled"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await closed.ask("GET /works", claims=USER)).status_code == 200


@pytest.mark.parametrize(
    ("audience", "status"),
    [("here", 200), (["there", "here"], 200), ([], 200), (None, 200), ("there", 401),
     (["there"], 401), (5, 401)],
)  # fmt: skip
async def test_a_token_is_meant_for_an_audience(
    orchestra: Orchestra, audience: Any, status: int
) -> None:
    async with open_orchestra(orchestra.url, jwt_aud="here") as strict:
        answer = await strict.ask("GET /works", claims={**USER, "aud": audience})
        assert answer.status_code == status
        assert status == 200 or answer.json()["code"] == "PGRST303"
        assert (await strict.ask("GET /works", claims=USER)).status_code == 200


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        (".app.roles[1]", {"app": {"roles": ["x", "service_role"]}}),
        ('."https://here/role".key', {"https://here/role": {"key": "service_role"}}),
        ('.roles[?(@ == "service_role")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ != "x")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ ^== "serv")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ ==^ "role")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ *== "ice_")]', {"roles": ["x", "service_role"]}),
        (".groups[0][1:]", {"groups": ["/service_role"]}),
        (".groups[0][1:-1]", {"groups": ["/service_role/"]}),
    ],
)
async def test_the_role_is_where_the_settings_say(
    orchestra: Orchestra, path: str, claims: dict[str, Any]
) -> None:
    async with open_orchestra(orchestra.url, jwt_role_claim_key=path) as there:
        assert await there.read("/rpc/setting?name=role", claims=claims) == "service_role"
        assert await there.read("/rpc/setting?name=role", claims={"roles": 1}) == "anon"


async def test_a_function_looks_at_each_request_before(orchestra: Orchestra) -> None:
    async with await psycopg.AsyncConnection.connect(orchestra.url) as connection:
        await connection.execute("""
            CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                IF current_setting('request.headers')::json ->> 'x-evil' IS NOT NULL THEN
                    RAISE EXCEPTION 'No' USING HINT = 'be good';
                END IF;
                PERFORM set_config('response.headers', '[{"X-Seen": "yes"}]', true);
            END $$
        """)
    async with open_orchestra(orchestra.url, db_pre_request="public.look") as watched:
        answer = await watched.ask("GET /notes")
        assert (answer.status_code, answer.headers["x-seen"]) == (200, "yes")
        for path in ("/notes", "/"):
            answer = await watched.ask(f"GET {path}", headers={"x-evil": "1"})
            assert (answer.status_code, answer.json()["message"]) == (400, "No")
        assert (await watched.ask("GET /")).status_code == 200


async def test_no_more_rows_come_than_the_settings_allow(orchestra: Orchestra) -> None:
    async with open_orchestra(orchestra.url, db_max_rows=2) as short:
        answer = await short.ask("GET /works?select=id", prefer="count=exact")
        assert (answer.status_code, answer.headers["content-range"]) == (206, "0-1/5")
        assert len(await short.read("/works?limit=9")) == 2
        [row] = await short.read("/concerts?select=works(id)&limit=1&order=id")
        assert len(row["works"]) == 2
        answer = await short.ask(
            "PATCH /works?select=id", {"minutes": 1}, prefer="return=representation"
        )
        assert len(answer.json()) == 5


async def test_what_is_switched_off_is_refused(orchestra: Orchestra) -> None:
    settings: dict[str, Any] = {
        "db_aggregates_enabled": False, "db_plan_enabled": False, "openapi_mode": "disabled",
        "db_tx_end": "commit",
    }  # fmt: skip
    async with open_orchestra(orchestra.url, **settings) as plain:
        answer = await plain.ask("GET /works?select=minutes.sum()")
        assert (answer.status_code, answer.json()["code"]) == (400, "PGRST123")
        answer = await plain.ask("GET /works", accept="application/vnd.pgrst.plan")
        assert (answer.status_code, answer.json()["code"]) == (406, "PGRST107")
        answer = await plain.ask("GET /")
        assert (answer.status_code, answer.json()["code"]) == (404, "PGRST126")
        answer = await plain.ask("GET /works", prefer="tx=rollback")
        assert "preference-applied" not in answer.headers


async def test_the_root_describes_what_a_role_may_use(orchestra: Orchestra) -> None:
    answer = await orchestra.ask("GET /", claims=USER)
    assert answer.headers["content-type"] == "application/openapi+json; charset=utf-8"
    document = answer.json()
    assert document["swagger"] == "2.0"
    assert {"/works", "/long_works", "/rpc/add"} <= document["paths"].keys()
    assert "/vault" not in document["paths"]
    assert "/vault" in (await orchestra.read("/"))["paths"]
    assert "/boxes" in (await orchestra.read("/", headers={"accept-profile": "archive"}))["paths"]


async def test_the_root_describes_columns(orchestra: Orchestra) -> None:
    definitions = (await orchestra.read("/"))["definitions"]
    works, scores = definitions["works"]["properties"], definitions["scores"]["properties"]
    primary = "Note:\nThis is a Primary Key.<pk/>"
    assert works["id"] == {"format": "integer", "type": "integer", "description": primary}
    assert works["title"] == {"format": "text", "type": "string", "default": "untitled"}
    assert works["tags"]["items"] == {"type": "string"}
    assert scores["work_id"]["description"] == (
        f"{primary}\nThis is a Foreign Key to `works.id`.<fk table='works' column='id'/>"
    )
    assert definitions["works"]["required"] == ["id", "title"]


async def test_a_change_of_the_schema_is_seen(orchestra: Orchestra) -> None:
    async with await psycopg.AsyncConnection.connect(orchestra.url) as connection:
        await connection.execute("CREATE TABLE fresh (id int)")
    answer = await orchestra.ask("GET /fresh")
    for _ in range(1000):  # the news and its reading take some round trips
        if answer.status_code == 200:
            break
        await orchestra.read("/notes")
        answer = await orchestra.ask("GET /fresh")
    assert answer.json() == []


async def test_headers_and_queries_are_utf_8_and_numbers_of_any_length(
    orchestra: Orchestra,
) -> None:
    asked = read_asked(
        "GET", "/works", "title=eq.Grün".encode(), [(b"accept-profile", "Ö".encode())], ["Ö"]
    )
    assert (asked.schema, asked.query_string) == ("Ö", "title=eq.Grün")
    answer = await orchestra.ask("GET /works?select=id", headers={"Range": "9" * 5000 + "-"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("cookie", "told"),
    [
        ('a=1; b={"c":1}; d=2', {"a": "1", "b": '{"c":1}', "d": "2"}),
        ("odd name=1; [x]=2; good=3", {"odd name": "1", "[x]": "2", "good": "3"}),
        ('a="b c"; alone; =x; d==', {"a": "b c", "alone": "", "d": "="}),
        ('a="' + '\\"' * 30_000 + '"; b=1', {"a": '\\"' * 30_000, "b": "1"}),
    ],
)
async def test_cookies_are_told_whatever_is_in_them(
    orchestra: Orchestra, cookie: str, told: dict[str, str]
) -> None:
    found = await orchestra.read("/rpc/setting?name=request.cookies", headers={"Cookie": cookie})
    assert json.loads(found) == told


async def test_the_time_zone_of_a_request_comes_before_that_of_its_role(
    orchestra: Orchestra,
) -> None:
    async with await psycopg.AsyncConnection.connect(orchestra.url) as connection:
        database = connection.info.dbname
        await connection.execute(
            f"ALTER ROLE anon IN DATABASE {database} SET \"TimeZone\" = 'Asia/Tokyo'".encode()
        )
    async with open_orchestra(orchestra.url) as there:
        read = "/rpc/setting?name=TimeZone"
        assert await there.read(read) == "Asia/Tokyo"
        assert await there.read(read, prefer="timezone=Asia/Tbilisi") == "Asia/Tbilisi"


@pytest.mark.parametrize(("prepares", "kept"), [(True, True), (False, False)])
async def test_nothing_is_prepared_where_a_pooler_would_refuse_it(
    orchestra: Orchestra, prepares: bool, kept: bool
) -> None:
    async with open_orchestra(orchestra.url, db_prepared_statements=prepares) as there:
        assert len(await there.read("/works?select=id&limit=1", prefer="count=planned")) == 1
        answer = await there.ask("POST /notes", {"a": 1}, prefer="return=representation")
        assert answer.json() == [{"a": 1, "b": None}]
        assert (await there.ask("POST /rpc/isolation")).json() == "serializable"
        assert (await there.read("/rpc/prepared") > 0) is kept
