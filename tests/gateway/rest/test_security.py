"""Who asks sees and changes what policies and grants allow, whatever they send."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.conftest import PASSWORD, ProjectDatabase
from tests.gateway.rest.rls_api import RlsApi, open_rls_api

from amphibase.gateway.project import copy
from amphibase.gateway.service_roles import url_of
from amphibase.postgres import Server


@pytest.fixture
async def rls_api(project: ProjectDatabase) -> AsyncIterator[RlsApi]:
    async with open_rls_api(project.owner, project.authenticator) as opened:
        yield opened


@pytest.fixture(scope="module")
async def lasting_guarded(postgres: Server, project_template: str) -> AsyncIterator[RlsApi]:
    """The same, for tests that leave nothing behind."""
    name = f"guarded_{os.getpid()}"
    url = await copy(project_template, name)
    async with open_rls_api(url, url_of(url, "authenticator", PASSWORD)) as opened:
        yield opened
    postgres.drop_database(name)


WAYS = [
    "/notes?select=title",
    "/notes?select=title&title=like.*",
    "/notes?or=(id.gt.0,title.neq.x)&select=title",
    "/titles?select=title",
    "/rpc/all_notes?select=title",
    "/labels?select=name,notes(title)",
    "/notes?select=title,labels(name)&order=id.desc&limit=100",
    "/notes?select=title&offset=0&limit=1000",
]


def texts(response: httpx.Response) -> str:
    assert response.status_code in (200, 206), response.text
    return response.text


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_reads_rows_of_others(rls_api: RlsApi, way: str) -> None:
    ann, _ = await rls_api.write("of ann")
    bob, _ = await rls_api.write("of bob")
    rls_api.execute("INSERT INTO labels (note_id, name) SELECT id, 'on ' || title FROM notes")
    responses = [await rls_api.request("GET", way, token) for token in (ann, bob, None)]
    of_ann, of_bob, of_nobody = map(texts, responses)
    assert "of ann" in of_ann
    assert "of bob" not in of_ann
    assert "of bob" in of_bob
    assert "of ann" not in of_bob
    assert "of " not in of_nobody


async def test_without_the_policy_they_would_see_all(rls_api: RlsApi) -> None:
    """What the test above finds is the policy's doing."""
    await rls_api.write("of ann")
    bob, _ = await rls_api.write("of bob")
    rls_api.execute("ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
    assert "of ann" in texts(await rls_api.request("GET", "/notes", bob))


async def test_nobody_changes_rows_of_others(rls_api: RlsApi) -> None:
    ann, ann_id = await rls_api.write("of ann")
    bob, _ = await rls_api.write("of bob")
    full = {"prefer": "return=representation"}
    changed = await rls_api.request("PATCH", "/notes?title=eq.of ann", bob, {"title": "x"}, **full)
    assert changed.json() == []
    gone = await rls_api.request("DELETE", "/notes", bob, **full)
    assert [row["title"] for row in gone.json()] == ["of bob"]
    planted = {"id": 99, "owner": str(ann_id), "title": "planted"}
    assert (await rls_api.request("POST", "/notes", bob, planted)).status_code == 403
    assert (await rls_api.request("PUT", "/notes?id=eq.99", bob, planted)).status_code == 403
    assert (await rls_api.request("POST", "/notes", None, planted)).status_code == 401
    stolen = await rls_api.request(
        "POST",
        "/notes",
        bob,
        {"id": 1, "title": "stolen"},
        prefer="resolution=merge-duplicates",
    )
    assert stolen.status_code == 403
    assert (await rls_api.request("GET", "/notes?select=title", ann)).json() == [
        {"title": "of ann"}
    ]


async def test_a_table_without_a_grant_is_rejected(rls_api: RlsApi) -> None:
    ann, _ = await rls_api.write()
    rejected = await rls_api.request("GET", "/secrets", ann)
    assert (rejected.status_code, rejected.json()["code"]) == (403, "42501")
    unknown = await rls_api.request("GET", "/secrets")
    assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
    served = await rls_api.request("GET", "/secrets", rls_api.token(role="service_role"))
    assert served.json() == [{"id": 1, "word": "xyzzy"}]


async def test_a_role_that_is_taken_ends_with_its_request(rls_api: RlsApi) -> None:
    """Even where a function takes it for the whole session."""
    ann, ann_id = await rls_api.write()
    for _ in range(4):
        await rls_api.request("POST", "/rpc/become", ann, {"name": "service_role"})
        rejected = await rls_api.request("GET", "/secrets", ann)
        assert rejected.status_code == 403
        seen = (await rls_api.request("GET", "/rpc/whoami", ann)).json()
        assert (seen["role"], seen["uid"]) == ("authenticated", str(ann_id))
        nobody = (await rls_api.request("GET", "/rpc/whoami")).json()
        assert (nobody["role"], nobody["uid"]) == ("anon", None)


async def test_callers_at_the_same_time_are_not_mixed_up(rls_api: RlsApi) -> None:
    people = {user: rls_api.token(user) for user in (uuid4() for _ in range(20))}

    async def request(user: Any, token: str | None) -> None:
        seen = (await rls_api.request("GET", "/rpc/whoami", token)).json()
        assert seen["uid"] == (str(user) if user else None)

    turns = [
        request(user, token) for _ in range(10) for user, token in [*people.items(), (None, None)]
    ]
    await asyncio.gather(*turns)


@pytest.mark.parametrize("role", ["postgres", "supabase_admin", "nobody_knows", "", "none"])
async def test_a_token_names_only_roles_that_requests_may_have(rls_api: RlsApi, role: str) -> None:
    response = await rls_api.request("GET", "/secrets", rls_api.token(role=role))
    assert response.status_code in (400, 401, 403), response.text
    assert "xyzzy" not in response.text


@pytest.mark.parametrize(
    "forged",
    [
        jwt.encode({"role": "service_role"}, "a guess that is as long as a secret", "HS256"),
        jwt.encode({"role": "service_role"}, "", "none"),
        "a.b.c",
        "",
        "x" * 10_000,
    ],
)
async def test_a_forged_token_is_rejected(rls_api: RlsApi, forged: str) -> None:
    response = await rls_api.request("GET", "/notes", forged)
    assert response.status_code == 401
    assert response.json()["code"] in ("PGRST301", "PGRST303")


async def test_a_token_that_expires_between_two_equal_requests_is_rejected(
    rls_api: RlsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = rls_api.tokens.issue({"role": "authenticated", "exp": time.time() + 60})
    assert (await rls_api.request("GET", "/notes", token)).status_code == 200
    monkeypatch.setattr("amphibase.accounts.jwt.verifier.time", lambda: time.time() + 120)
    response = await rls_api.request("GET", "/notes", token)
    assert (response.status_code, response.json()["message"]) == (401, "JWT expired")


PLACES = [
    "select={}", "select={}:title", "select=title::{}", "select=title->{}", "select=title->>{}",
    "select={}(title)", "select=title,labels!{}(name)", "select=x:{}.sum()", "select=...{}(name)",
    "order={}", "order=title.{}", "order=labels({})", "limit={}", "offset={}", "columns={}",
    "on_conflict={}", "{}=eq.1", "title={}", "title=eq.{}", "title=in.({})", "title=fts({}).x",
    "title=is.{}", "or=({}.eq.1)", "or=(title.eq.{})", "and={}", "labels.{}=eq.1", "title->{}=eq.1",
    "title=like(any).{}", "title=match.{}", "title=cs.{}", "{}.limit=1",
]  # fmt: skip
POISONS = [
    "x'; DROP TABLE secrets; --",
    'x"; DROP TABLE secrets; --',
    'title") FROM notes; DROP TABLE secrets; --',
    "1); DROP TABLE secrets; --",
    "1 UNION SELECT word FROM secrets",
    "(SELECT word FROM secrets)",
    '"word" FROM "secrets" --',
    "$1",
    "$$; DROP TABLE secrets; $$",
    "\\'; DROP TABLE secrets; --",
    "text); DROP TABLE secrets; --",
    "pg_sleep(10)",
    "%s %(x)s",
    "\x00",
    "'" * 200,
]


async def _poison(rls_api: RlsApi, token: str, place: str, poison: str) -> None:
    for written in (poison, f'"{poison}"'):
        request = place.replace("{}", quote(written, safe=""))
        for method, body in (("GET", None), ("POST", {"id": 5, "title": "t"}), ("PATCH", {})):
            response = await rls_api.request(method, f"/notes?{request}", token, body)
            assert response.status_code < 500, (method, request, response.text)
            assert "xyzzy" not in response.text


@pytest.mark.parametrize("place", PLACES)
async def test_nothing_in_a_query_string_is_run_as_sql(lasting_guarded: RlsApi, place: str) -> None:
    token, _ = await lasting_guarded.write()
    for poison in POISONS:
        await _poison(lasting_guarded, token, place, poison)
    assert lasting_guarded.execute("SELECT word FROM secrets") == "xyzzy"


@settings(max_examples=60, suppress_health_check=[*HealthCheck])
@given(
    st.sampled_from(PLACES), st.text(st.sampled_from(["'", '"', ";", "-", "(", ")", ",", "a", "$"]))
)
async def test_no_text_in_a_query_string_is_an_error_of_ours(
    lasting_guarded: RlsApi, place: str, text: str
) -> None:
    token = lasting_guarded.token(uuid4())
    response = await lasting_guarded.request(
        "GET", "/notes?" + place.replace("{}", quote(text)), token
    )
    assert response.status_code < 500, response.text
    assert response.json() if response.status_code >= 400 else True


@pytest.mark.parametrize(
    "body",
    [
        {"title'; DROP TABLE secrets; --": 1},
        {'title" = (SELECT word FROM secrets) --': 1},
        [{"id": 7, "title": "'); DROP TABLE secrets; --"}],
    ],
)
async def test_nothing_in_a_body_is_run_as_sql(lasting_guarded: RlsApi, body: Any) -> None:
    token, _ = await lasting_guarded.write()
    for method, path in (("POST", "/notes"), ("PATCH", "/notes?id=eq.7"), ("POST", "/rpc/become")):
        response = await lasting_guarded.request(method, path, token, body)
        assert response.status_code < 500, response.text
    assert lasting_guarded.execute("SELECT word FROM secrets") == "xyzzy"


async def test_a_schema_that_is_not_exposed_is_not_there(rls_api: RlsApi) -> None:
    for schema in ("auth", "storage", "pg_catalog", "information_schema"):
        response = await rls_api.request("GET", "/users", accept_profile=schema)
        assert (response.status_code, response.json()["code"]) == (406, "PGRST106")
    for path in ("/auth.users", '/"auth"."users"', "/pg_catalog.pg_authid"):
        assert (await rls_api.request("GET", path)).status_code == 404


async def test_the_claims_cannot_be_set_by_a_header(rls_api: RlsApi) -> None:
    forged = {"request_jwt_claims": '{"role":"service_role"}', "role": "service_role"}
    seen = (await rls_api.request("GET", "/rpc/whoami", **forged)).json()
    assert (seen["role"], seen["uid"]) == ("anon", None)


async def test_a_client_that_goes_away_takes_its_statement_along(rls_api: RlsApi) -> None:
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%doze%' AND state = 'active'"
    running += " AND pid <> pg_backend_pid()"
    token = rls_api.token(role="service_role")
    asking = asyncio.create_task(_ask_and_leave(rls_api, token, running))
    await asyncio.wait_for(asking, 60)
    await until(lambda: not rls_api.execute(running))
    assert (await rls_api.request("GET", "/rpc/whoami", token)).status_code == 200


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.02)


async def _ask_and_leave(rls_api: RlsApi, token: str, running: str) -> None:
    """A request over ASGI whose client disconnects once the statement runs."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append("body")
            return {"type": "http.request", "body": b"{}"}
        await until(lambda: rls_api.execute(running))
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"no listener awaits {message}")

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/rpc/doze",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }
    await rls_api.service(scope, receive, send)


async def test_a_lost_database_is_reported_and_comes_back(rls_api: RlsApi) -> None:
    token, _ = await rls_api.write("one")
    name = psycopg.conninfo.conninfo_to_dict(rls_api.owner_url)["dbname"]
    other = rls_api.owner_url.rpartition("/")[0] + "/postgres"
    with psycopg.connect(other, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        server.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = %s",
            [name],
        )
        lost = await rls_api.request("GET", "/notes", token)
        assert (lost.status_code, lost.json()["code"]) == (503, "PGRST000")
        assert lost.headers["retry-after"]
        assert str(name) not in lost.text
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    again = await rls_api.request("GET", "/notes?select=title", token)
    assert again.json() == [{"title": "one"}]


async def test_what_a_migration_adds_is_served_without_a_restart(rls_api: RlsApi) -> None:
    assert (await rls_api.request("GET", "/later")).status_code == 404
    rls_api.execute("CREATE TABLE later AS SELECT 1 AS id")
    deadline = time.monotonic() + 60
    while (response := await rls_api.request("GET", "/later")).status_code == 404:
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.02)
    assert response.json() == [{"id": 1}]
