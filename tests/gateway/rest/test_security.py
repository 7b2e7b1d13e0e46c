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
from tests.gateway.rest.guarded import Guarded, guarded_at

from amphibase.gateway.project import copy, url_of
from amphibase.postgres import Server


@pytest.fixture
async def guarded(project: ProjectDatabase) -> AsyncIterator[Guarded]:
    async with guarded_at(project.owner, project.authenticator) as opened:
        yield opened


@pytest.fixture(scope="module")
async def lasting_guarded(postgres: Server, project_template: str) -> AsyncIterator[Guarded]:
    """The same, for tests that leave nothing behind."""
    name = f"guarded_{os.getpid()}"
    url = await copy(project_template, name)
    async with guarded_at(url, url_of(url, "authenticator", PASSWORD)) as opened:
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


def texts(answer: httpx.Response) -> str:
    assert answer.status_code in (200, 206), answer.text
    return answer.text


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_reads_rows_of_others(guarded: Guarded, way: str) -> None:
    ann, _ = await guarded.write("of ann")
    bob, _ = await guarded.write("of bob")
    guarded.execute("INSERT INTO labels (note_id, name) SELECT id, 'on ' || title FROM notes")
    answers = [await guarded.ask("GET", way, token) for token in (ann, bob, None)]
    of_ann, of_bob, of_nobody = map(texts, answers)
    assert "of ann" in of_ann
    assert "of bob" not in of_ann
    assert "of bob" in of_bob
    assert "of ann" not in of_bob
    assert "of " not in of_nobody


async def test_without_the_policy_they_would_see_all(guarded: Guarded) -> None:
    """What the test above finds is the policy's doing."""
    await guarded.write("of ann")
    bob, _ = await guarded.write("of bob")
    guarded.execute("ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
    assert "of ann" in texts(await guarded.ask("GET", "/notes", bob))


async def test_nobody_changes_rows_of_others(guarded: Guarded) -> None:
    ann, ann_id = await guarded.write("of ann")
    bob, _ = await guarded.write("of bob")
    full = {"prefer": "return=representation"}
    changed = await guarded.ask("PATCH", "/notes?title=eq.of ann", bob, {"title": "x"}, **full)
    assert changed.json() == []
    gone = await guarded.ask("DELETE", "/notes", bob, **full)
    assert [row["title"] for row in gone.json()] == ["of bob"]
    planted = {"id": 99, "owner": str(ann_id), "title": "planted"}
    assert (await guarded.ask("POST", "/notes", bob, planted)).status_code == 403
    assert (await guarded.ask("PUT", "/notes?id=eq.99", bob, planted)).status_code == 403
    assert (await guarded.ask("POST", "/notes", None, planted)).status_code == 401
    stolen = await guarded.ask(
        "POST",
        "/notes",
        bob,
        {"id": 1, "title": "stolen"},
        prefer="resolution=merge-duplicates",
    )
    assert stolen.status_code == 403
    assert (await guarded.ask("GET", "/notes?select=title", ann)).json() == [{"title": "of ann"}]


async def test_a_table_without_a_grant_is_refused(guarded: Guarded) -> None:
    ann, _ = await guarded.write()
    refused = await guarded.ask("GET", "/secrets", ann)
    assert (refused.status_code, refused.json()["code"]) == (403, "42501")
    unknown = await guarded.ask("GET", "/secrets")
    assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
    served = await guarded.ask("GET", "/secrets", guarded.token(role="service_role"))
    assert served.json() == [{"id": 1, "word": "xyzzy"}]


async def test_a_role_that_is_taken_ends_with_its_request(guarded: Guarded) -> None:
    """Even where a function takes it for the whole session."""
    ann, ann_id = await guarded.write()
    for _ in range(4):
        await guarded.ask("POST", "/rpc/become", ann, {"name": "service_role"})
        refused = await guarded.ask("GET", "/secrets", ann)
        assert refused.status_code == 403
        seen = (await guarded.ask("GET", "/rpc/whoami", ann)).json()
        assert (seen["role"], seen["uid"]) == ("authenticated", str(ann_id))
        nobody = (await guarded.ask("GET", "/rpc/whoami")).json()
        assert (nobody["role"], nobody["uid"]) == ("anon", None)


async def test_callers_at_the_same_time_are_not_mixed_up(guarded: Guarded) -> None:
    people = {user: guarded.token(user) for user in (uuid4() for _ in range(20))}

    async def ask(user: Any, token: str | None) -> None:
        seen = (await guarded.ask("GET", "/rpc/whoami", token)).json()
        assert seen["uid"] == (str(user) if user else None)

    turns = [ask(user, token) for _ in range(10) for user, token in [*people.items(), (None, None)]]
    await asyncio.gather(*turns)


@pytest.mark.parametrize("role", ["postgres", "supabase_admin", "nobody_knows", "", "none"])
async def test_a_token_names_only_roles_that_requests_may_have(guarded: Guarded, role: str) -> None:
    answer = await guarded.ask("GET", "/secrets", guarded.token(role=role))
    assert answer.status_code in (400, 401, 403), answer.text
    assert "xyzzy" not in answer.text


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
async def test_a_forged_token_is_refused(guarded: Guarded, forged: str) -> None:
    answer = await guarded.ask("GET", "/notes", forged)
    assert answer.status_code == 401
    assert answer.json()["code"] in ("PGRST301", "PGRST303")


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


async def _poison(guarded: Guarded, token: str, place: str, poison: str) -> None:
    for written in (poison, f'"{poison}"'):
        asked = place.replace("{}", quote(written, safe=""))
        for method, body in (("GET", None), ("POST", {"id": 5, "title": "t"}), ("PATCH", {})):
            answer = await guarded.ask(method, f"/notes?{asked}", token, body)
            assert answer.status_code < 500, (method, asked, answer.text)
            assert "xyzzy" not in answer.text


@pytest.mark.parametrize("place", PLACES)
async def test_nothing_in_a_query_string_is_run_as_sql(
    lasting_guarded: Guarded, place: str
) -> None:
    token, _ = await lasting_guarded.write()
    for poison in POISONS:
        await _poison(lasting_guarded, token, place, poison)
    assert lasting_guarded.execute("SELECT word FROM secrets") == "xyzzy"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(PLACES), st.text(st.sampled_from(["'", '"', ";", "-", "(", ")", ",", "a", "$"]))
)
async def test_no_text_in_a_query_string_is_an_error_of_ours(
    lasting_guarded: Guarded, place: str, text: str
) -> None:
    token = lasting_guarded.token(uuid4())
    answer = await lasting_guarded.ask("GET", "/notes?" + place.replace("{}", quote(text)), token)
    assert answer.status_code < 500, answer.text
    assert answer.json() if answer.status_code >= 400 else True


@pytest.mark.parametrize(
    "body",
    [
        {"title'; DROP TABLE secrets; --": 1},
        {'title" = (SELECT word FROM secrets) --': 1},
        [{"id": 7, "title": "'); DROP TABLE secrets; --"}],
    ],
)
async def test_nothing_in_a_body_is_run_as_sql(lasting_guarded: Guarded, body: Any) -> None:
    token, _ = await lasting_guarded.write()
    for method, path in (("POST", "/notes"), ("PATCH", "/notes?id=eq.7"), ("POST", "/rpc/become")):
        answer = await lasting_guarded.ask(method, path, token, body)
        assert answer.status_code < 500, answer.text
    assert lasting_guarded.execute("SELECT word FROM secrets") == "xyzzy"


async def test_a_schema_that_is_not_exposed_is_not_there(guarded: Guarded) -> None:
    for schema in ("auth", "storage", "pg_catalog", "information_schema"):
        answer = await guarded.ask("GET", "/users", accept_profile=schema)
        assert (answer.status_code, answer.json()["code"]) == (406, "PGRST106")
    for path in ("/auth.users", '/"auth"."users"', "/pg_catalog.pg_authid"):
        assert (await guarded.ask("GET", path)).status_code == 404


async def test_the_claims_cannot_be_set_by_a_header(guarded: Guarded) -> None:
    forged = {"request_jwt_claims": '{"role":"service_role"}', "role": "service_role"}
    seen = (await guarded.ask("GET", "/rpc/whoami", **forged)).json()
    assert (seen["role"], seen["uid"]) == ("anon", None)


async def test_a_client_that_goes_away_takes_its_statement_along(guarded: Guarded) -> None:
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%doze%' AND state = 'active'"
    running += " AND pid <> pg_backend_pid()"
    token = guarded.token(role="service_role")
    asking = asyncio.create_task(_ask_and_leave(guarded, token, running))
    await asyncio.wait_for(asking, 20)
    await until(lambda: not guarded.execute(running))
    assert (await guarded.ask("GET", "/rpc/whoami", token)).status_code == 200


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.02)


async def _ask_and_leave(guarded: Guarded, token: str, running: str) -> None:
    """A request over ASGI whose client disconnects once the statement runs."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append("body")
            return {"type": "http.request", "body": b"{}"}
        await until(lambda: guarded.execute(running))
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nobody is there to be told {message}")

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/rpc/doze",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }
    await guarded.service(scope, receive, send)


async def test_a_lost_database_is_said_and_comes_back(guarded: Guarded) -> None:
    token, _ = await guarded.write("one")
    name = psycopg.conninfo.conninfo_to_dict(guarded.owner_url)["dbname"]
    other = guarded.owner_url.rpartition("/")[0] + "/postgres"
    with psycopg.connect(other, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        server.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = %s",
            [name],
        )
        lost = await guarded.ask("GET", "/notes", token)
        assert (lost.status_code, lost.json()["code"]) == (503, "PGRST000")
        assert lost.headers["retry-after"]
        assert str(name) not in lost.text
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    again = await guarded.ask("GET", "/notes?select=title", token)
    assert again.json() == [{"title": "one"}]


async def test_what_a_migration_adds_is_served_without_a_restart(guarded: Guarded) -> None:
    assert (await guarded.ask("GET", "/later")).status_code == 404
    guarded.execute("CREATE TABLE later AS SELECT 1 AS id")
    deadline = time.monotonic() + 10
    while (answer := await guarded.ask("GET", "/later")).status_code == 404:
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.02)
    assert answer.json() == [{"id": 1}]
