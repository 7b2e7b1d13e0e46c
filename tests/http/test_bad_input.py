"""What bad input gets: a clear problem, no trace, nothing half-written."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import jwt
import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import Row, func, select
from tests.backends import sql_backend_of
from tests.conftest import SECRET

from amphibase import Amphibase, Settings, create_access_token
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.models import User
from amphibase.schema.tables import tables
from amphibase.testing.client import Client, open_client

ANN = {"email": "ann@example.com", "password": "correct horse battery"}


class Clients(NamedTuple):
    """Clients of one application."""

    app: FastAPI
    anonymous: Client
    ann: Client
    root: Client


@pytest.fixture(scope="module")
async def shared_clients(shared_settings: Settings) -> AsyncIterator[Clients]:
    """An application for all tests in which nothing changes, once of each kind."""
    app = Amphibase(shared_settings).mount(FastAPI())
    async with open_client(app) as anonymous:
        ann = await anonymous.as_user("ann@example.com")
        root = await anonymous.as_user("root@example.com", admin=True)
        yield Clients(app, anonymous, ann, root)


@pytest.fixture
async def clients(shared_clients: Clients) -> AsyncIterator[Clients]:
    """The shared application, which holds as many accounts, sessions and the like afterwards."""
    before = await row_counts(shared_clients.app)
    yield shared_clients
    assert await row_counts(shared_clients.app) == before


async def row_counts(app: FastAPI) -> Sequence[Row[Any]]:
    """How many rows each table of accounts has."""
    database = sql_backend_of(app).database
    of_accounts = [*tables(database.dialect).auth.sorted_tables, User.__table__]
    counts = (select(func.count()).select_from(table) for table in of_accounts)
    async with database.read() as connection:
        return (
            await connection.execute(select(*(each.scalar_subquery() for each in counts)))
        ).all()


def check(response: httpx.Response, status: int, code: str | None = None) -> Any:
    """The answer is a problem of that status, and says nothing of the inside."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    if code:
        assert problem["code"] == code
    for inside in ("Traceback", "sqlalchemy", "psycopg", "sqlite", "SELECT", "INSERT"):
        assert inside not in response.text
    return problem


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"email": "\xff"}',
        b"[" * 50_000,
        b'{"email": ' + b"9" * 5000 + b"}",
    ],
)
async def test_a_body_that_is_no_json_object_is_rejected(clients: Clients, body: bytes) -> None:
    """Whatever is wrong with the JSON, the answer has one status and one code."""
    headers = {"Content-Type": "application/json"}
    check(
        await clients.anonymous.post("/auth/sign-up", content=body, headers=headers),
        422,
        "validation_error",
    )


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
async def test_a_body_that_does_not_say_it_is_json_is_explained(
    clients: Clients, headers: dict[str, str]
) -> None:
    """What `curl -d` sends by itself is answered with the header that it lacks."""
    response = await clients.anonymous.post("/auth/sign-up", content=b"{}", headers=headers)
    problem = check(response, 415, "unsupported_media_type")
    assert "Content-Type: application/json" in problem["detail"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": 1}, "email"),
        ({"email": None}, "email"),
        ({"email": "not an address"}, "email"),
        ({"email": "a@" + "b" * 300 + ".com"}, "email"),
        ({"email": "nul\x00@example.com"}, "email"),
        ({"password": ["x"]}, "password"),
        ({"password": "nul\x00nul\x00nul"}, "password"),
        ({"password": ""}, "password"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"is_admin": True}, "is_admin"),
        ({"id": str(uuid4())}, "id"),
    ],
)
async def test_a_wrong_field_is_named_and_its_value_is_not_repeated(
    clients: Clients, changes: dict[str, Any], field: str
) -> None:
    problem = check(
        await clients.anonymous.post("/auth/sign-up", json=ANN | changes), 422, "validation_error"
    )
    assert field in [error["field"] for error in problem["errors"]]
    assert ANN["password"] not in str(problem)
    assert "item" not in problem["detail"]  # a text has characters


async def test_lone_surrogates_are_rejected(clients: Clients) -> None:
    body = b'{"email": "ann@example.com", "password": "correct horse", "name": "\\ud800"}'
    headers = {"Content-Type": "application/json"}
    check(await clients.anonymous.post("/auth/sign-up", content=body, headers=headers), 422)


async def test_a_large_body_is_rejected_without_being_read(clients: Clients) -> None:
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(10 * 16):
            sent += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"Content-Type": "application/json"}
    response = await clients.anonymous.post("/auth/sign-up", content=chunks(), headers=headers)
    check(response, 413, "payload_too_large")
    check(
        await clients.anonymous.post("/auth/sign-up", content=b"x" * 10_000_000, headers=headers),
        413,
    )


@pytest.mark.parametrize("length", [b"abc", b"-1", b"\xb2", b"9" * 5000])
async def test_a_lying_content_length_is_a_clear_response(clients: Clients, length: bytes) -> None:
    headers = {b"Content-Type": b"application/json", b"Content-Length": length}
    check(await clients.anonymous.post("/auth/sign-up", content=b"{}", headers=headers), 413)


def forged(**changes: Any) -> dict[str, Any]:
    # Issued while the tests are collected, and used long after.
    tomorrow = int(time.time()) + 86_400
    return {"sub": str(uuid4()), "aud": "authenticated", "exp": tomorrow} | changes


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "a.b.c",
        "x" * 20_000,
        jwt.encode(forged(), "another key that is long enough, really", algorithm="HS256"),
        jwt.encode(forged(), "", algorithm="none"),
        jwt.encode(forged(exp=1), SECRET, algorithm="HS256"),
        jwt.encode(forged(aud="others"), SECRET, algorithm="HS256"),
        jwt.encode(forged(aud=None), SECRET, algorithm="HS256"),
        jwt.encode(forged(sub="no uuid"), SECRET, algorithm="HS256"),
        jwt.encode(forged(session_id="no uuid"), SECRET, algorithm="HS256"),
        jwt.encode(forged(session_id=7), SECRET, algorithm="HS256"),
        jwt.encode(forged(), SECRET, algorithm="HS512"),
        jwt.encode({"sub": str(uuid4()), "aud": "authenticated"}, SECRET, algorithm="HS256"),
        jwt.encode(forged(exp=10**30), SECRET, algorithm="HS256"),
        KeyRing([Key.generate()]).issue(forged()),
    ],
)
async def test_a_token_that_does_not_hold_is_rejected(clients: Clients, token: str) -> None:
    response = await clients.anonymous.get(
        "/users/me", headers={"Authorization": f"Bearer {token}"}
    )
    check(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_good_token_of_someone_who_is_not_there_is_rejected(clients: Clients) -> None:
    token = jwt.encode(forged(), SECRET, algorithm="HS256")
    response = await clients.anonymous.get(
        "/users/me", headers={"Authorization": f"Bearer {token}"}
    )
    check(response, 401, "session_ended")


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    """A token signed by HS256 with the public key's bytes does not pass for one of ES256."""
    key = Key.generate()
    public = KeyRing([key]).jwks()["keys"][0]
    token = jwt.encode(forged(), str(public), algorithm="HS256", headers={"kid": key.kid})
    from amphibase import InvalidToken

    with pytest.raises(InvalidToken):
        KeyRing([key]).verify(token)


@pytest.mark.parametrize("id", ["1", "x", "None", "%00", "'; drop table users; --"])
async def test_an_id_that_is_no_uuid_is_rejected(clients: Clients, id: str) -> None:
    response = await clients.root.get(f"/users/{id}")
    assert response.status_code in (404, 422)
    check(response, response.status_code)


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": str(10**12)},
        {"limit": "x"},
        {"is_active": "perhaps"},
        {"email": "no address"},
        {"name": "\x00"},
        {"cursor": "\x00"},
    ],
)
async def test_a_bad_query_is_rejected(clients: Clients, parameters: dict[str, str]) -> None:
    problem = check(await clients.root.get("/users", params=parameters), 422)
    assert problem["errors"][0]["field"] == next(iter(parameters))


@pytest.mark.parametrize("cursor", ["x", "é", "AAAA", "A" * 4000])
async def test_a_tampered_cursor_is_rejected(clients: Clients, cursor: str) -> None:
    check(await clients.root.get("/users", params={"cursor": cursor}), 400, "invalid_cursor")


async def test_unknown_paths_and_methods_are_problems(clients: Clients) -> None:
    nowhere = await clients.anonymous.get("/nowhere?token=secret")
    check(nowhere, 404, "not_found")
    assert nowhere.json()["detail"] == "There is no route GET /nowhere"
    response = await clients.anonymous.put("/users/me")
    check(response, 405, "method_not_allowed")
    allowed = response.headers["allow"]
    assert response.json()["detail"].endswith(f" is not allowed here: the methods are {allowed}")
    assert response.headers["allow"] == "GET, PATCH, DELETE"
    response = await clients.anonymous.post("/files/uploads/a.txt")
    assert response.headers["allow"] == "GET, HEAD, PUT, DELETE"


@pytest.mark.parametrize("scope", ["", "everything", "local'"])
async def test_an_unknown_scope_of_signing_out_is_rejected(clients: Clients, scope: str) -> None:
    check(await clients.ann.post("/auth/sign-out", params={"scope": scope}), 422)
    assert (await clients.ann.get("/users/me")).status_code == 200


async def test_a_fault_of_the_program_shows_nothing_of_it(app: FastAPI, client: Client) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the inside")

    response = await client.get("/broken")
    check(response, 500, "internal_error")
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("status", "given", "expected"),
    [
        (499, "gone", {"code": "error", "detail": "gone", "title": "Error"}),
        (520, "odd", {"code": "error", "detail": "odd", "title": "Error"}),
        (409, "taken", {"code": "conflict", "detail": "taken", "title": "Conflict"}),
        (
            409,
            {"code": "sold_out", "left": 0},
            {"code": "sold_out", "left": 0, "title": "Conflict"},
        ),
        (400, {"detail": "no", "status": 200}, {"code": "bad_request", "detail": "no"}),
        (400, ["a", "b"], {"code": "bad_request", "errors": ["a", "b"]}),
    ],
)
async def test_errors_of_the_application_keep_what_they_say(
    app: FastAPI, client: Client, status: int, given: Any, expected: dict[str, Any]
) -> None:
    """Any status and any detail of an HTTPException becomes a problem."""

    @app.get("/rejected")
    async def rejected() -> None:
        raise HTTPException(status, given)

    problem = check(await client.get("/rejected"), status)
    assert problem | expected == problem


async def test_a_token_of_ones_own_making_is_good(app: FastAPI, client: Client) -> None:
    db: Amphibase = app.state.amphibase
    ann = await client.as_user("ann@example.com")
    token = create_access_token({"sub": str(ann.user.id)}, settings=db.settings)
    response = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert response.json()["email"] == "ann@example.com"
