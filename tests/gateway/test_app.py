"""The gateway, on a socket, before a service that reports what reached it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from tests.websockets import connect, shake_hands

from amphibase import server as serving
from amphibase.errors import Unavailable
from amphibase.gateway import app as gateway_app
from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.keys import ApiKeys
from amphibase.gateway.service import deny_websocket

KEYS = ApiKeys("secret", "anon.j.wt", "service.j.wt", "sb_publishable_abc", "sb_secret_abc")
LIMIT = 1000


class Telling:
    """Answers what reached it; `?fail=` says how it fails instead."""

    closed = 0

    async def start(self) -> None: ...

    async def close(self) -> None:
        type(self).closed += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await deny_websocket(scope, receive, send, 418, str(dict(scope["headers"])))
            return
        request = Request(scope, receive)
        match request.query_params.get("fail"):
            case "lost":
                raise Unavailable("The database does not answer", retry_after=7)
            case "fault":
                raise RuntimeError("a secret of the inside")
        body = b"".join([chunk async for chunk in request.stream()])
        values = {
            "root_path": scope["root_path"],
            "path": scope["path"],
            "authorization": request.headers.getlist("authorization"),
            "profile": request.headers.get("content-profile"),
            "query": request.url.query,
            "origin": {
                name: value
                for name, value in request.headers.items()
                if name.startswith(("x-forwarded", "x-real"))
            },
            "body": len(body),
        }
        await JSONResponse(values)(scope, receive, send)


@asynccontextmanager
async def serving_gateway(body_seconds: float) -> AsyncIterator[str]:
    mounts = {
        "/rest/v1": Mount(Telling, LIMIT, takes_origin=True),
        "/storage/v1": Mount(Telling),
    }
    ready = asyncio.Event()
    gateway = Gateway(mounts, KEYS, body_seconds=body_seconds)
    server = serving.server(gateway, ready=ready.set, host="127.0.0.1", port=0, proxy_headers=False)
    serve = asyncio.create_task(server.serve())
    await ready.wait()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serve


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The URL of a gateway."""
    async with serving_gateway(60) as url:
        yield url


@pytest.fixture
async def impatient_url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The URL of a gateway that cuts clients that stall for a fifth of a second."""
    monkeypatch.setattr(gateway_app, "TAKE_SECONDS", 0.2)
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    async with serving_gateway(0.2) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


async def cut_after(url: str, text: bytes) -> bytes:
    """What the server has answered when it closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text)
    response = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return response


@pytest.mark.parametrize("prefix", ["/rest/v1", "/storage/v1"])
async def test_a_service_responds_for_what_is_behind_its_prefix(
    client: httpx.AsyncClient, prefix: str
) -> None:
    body = (await client.get(f"{prefix}/some/thing")).json()
    assert (body["root_path"], body["path"]) == (prefix, f"{prefix}/some/thing")


async def test_the_data_api_knows_where_a_request_came_from_and_believes_no_client(
    client: httpx.AsyncClient,
) -> None:
    forged = {"x-forwarded-for": "192.0.2.1", "x-real-ip": "192.0.2.1", "x-forwarded-proto": "s"}
    body = (await client.get("/rest/v1/notes", headers=forged)).json()
    assert body["origin"] == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "127.0.0.1",
        "x-forwarded-port": str(client.base_url.port),
        "x-forwarded-proto": "http",
        "x-real-ip": "127.0.0.1",
    }
    for host, name, port in (("shop.example", "shop.example", "80"), ("[::1]:81", "[::1]", "81")):
        body = (await client.get("/rest/v1/notes", headers={"host": host})).json()
        assert body["origin"]["x-forwarded-host"] == name
        assert body["origin"]["x-forwarded-port"] == port


@pytest.mark.parametrize("path", ["/", "/rest/v2/notes", "/rest/v10", "/restv1", "/realtime/v1"])
async def test_where_there_is_no_service_it_says_what_kong_says(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.json() == {"message": "no Route matched with those values"}


async def test_graphql_is_a_function_of_the_data_api(client: httpx.AsyncClient) -> None:
    for path in ("/graphql/v1", "/graphql/v1/"):
        response = await client.post(path, json={}, headers={"apikey": "sb_publishable_abc"})
        body = response.json()
        assert (body["path"], body["profile"]) == ("/rest/v1/rpc/graphql", "graphql_public")
        assert body["authorization"] == ["Bearer anon.j.wt"]


async def test_a_call_of_a_function_gets_what_one_that_is_not_deployed_responds(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/functions/v1/hello", json={})
    assert (response.status_code, response.headers["sb-error-code"]) == (404, "NOT_FOUND")
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.json() == {"code": "NOT_FOUND", "message": "Requested function was not found"}


async def test_it_says_that_it_is_there(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("given", "reaches"),
    [
        ({}, []),
        ({"Authorization": "Bearer user.j.wt"}, ["Bearer user.j.wt"]),
        ({"apikey": "anon.j.wt"}, ["Bearer anon.j.wt"]),
        ({"apikey": "anon.j.wt", "Authorization": "Bearer user.j.wt"}, ["Bearer user.j.wt"]),
        ({"apikey": "sb_publishable_abc"}, ["Bearer anon.j.wt"]),
        ({"apikey": "sb_secret_abc"}, ["Bearer service.j.wt"]),
        ({"Authorization": "Bearer sb_secret_abc"}, ["Bearer service.j.wt"]),
        (
            {"apikey": "sb_publishable_abc", "Authorization": "Bearer sb_publishable_abc"},
            ["Bearer anon.j.wt"],
        ),
        (
            {"apikey": "sb_secret_abc", "Authorization": "Bearer user.j.wt"},
            ["Bearer user.j.wt"],
        ),
    ],
)
async def test_an_api_key_becomes_the_token_it_stands_for(
    client: httpx.AsyncClient, given: dict[str, str], reaches: list[str]
) -> None:
    assert (await client.get("/rest/v1/", headers=given)).json()["authorization"] == reaches


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("apikey=eyJ.j.wt&a=eq.1", {}, (["Bearer eyJ.j.wt"], "a=eq.1")),
        ("a=eq.1&apikey=sb_publishable_abc", {}, (["Bearer anon.j.wt"], "a=eq.1")),
        ("apikey=sb_secret_abc", {"authorization": "Bearer user.j.wt"}, (["Bearer user.j.wt"], "")),
        ("apikey=eq.a.b", {}, ([], "apikey=eq.a.b")),
        ("apikey=eyJ.j.wt", {"apikey": "anon.j.wt"}, (["Bearer anon.j.wt"], "apikey=eyJ.j.wt")),
    ],
)
async def test_the_api_key_of_a_link_counts_and_does_not_reach_the_service(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], expected: tuple[list[str], str]
) -> None:
    response = (await client.get(f"/rest/v1/?{query}", headers=headers)).json()
    assert (response["authorization"], response["query"]) == expected


@pytest.mark.parametrize("given", [{"apikey": "sb_secret_x"}, {"authorization": "Bearer sb_x"}])
async def test_an_opaque_key_of_another_project_is_rejected(
    client: httpx.AsyncClient, given: dict[str, str]
) -> None:
    response = await client.get("/rest/v1/", headers=given)
    assert response.status_code == 401
    assert response.json()["message"] == "Invalid API key"


async def test_every_page_may_ask_beforehand_and_read_the_response(
    client: httpx.AsyncClient,
) -> None:
    headers = {
        "Origin": "https://example.com",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "apikey,x-client-info",
    }
    preflight = await client.options("/rest/v1/notes", headers=headers)
    assert preflight.status_code == 200
    assert preflight.content == b""
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "apikey,x-client-info"
    response = await client.get("/rest/v1/notes", headers={"Origin": "https://example.com"})
    assert response.headers["access-control-allow-origin"] == "*"
    for name in ("Content-Range", "Location", "Upload-Offset", "X-Total-Count"):
        assert name in response.headers["access-control-expose-headers"]


async def test_a_response_to_no_page_lists_no_headers(client: httpx.AsyncClient) -> None:
    response = await client.get("/rest/v1/notes")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-expose-headers" not in response.headers


@pytest.mark.parametrize("path", ["/rest/v1/notes", "/rest/v1/notes?fail=lost", "/graphql/v1"])
async def test_where_origins_are_named_no_other_page_reads_a_response(path: str) -> None:
    mounts = {"/rest/v1": Mount(Telling, allowed_origins=["https://own.example"])}
    transport = httpx.ASGITransport(Gateway(mounts, KEYS))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for origin, shown in (("https://own.example", True), ("https://other.example", False)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
            preflight = await client.options(path, headers=asked)
            response = await client.get(path, headers={"Origin": origin})
            for headers in (preflight.headers, response.headers):
                assert headers.get("access-control-allow-origin") == (origin if shown else None)
                assert ("access-control-allow-credentials" in headers) is shown
            assert ("access-control-allow-methods" in preflight.headers) is shown
        response = await client.get("/", headers={"Origin": "https://other.example"})
        assert response.headers["access-control-allow-origin"] == "*"


async def test_options_that_no_browser_asks_beforehand_reach_the_service(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.options("/storage/v1/upload/resumable")).json()["path"]


async def test_a_body_over_the_limit_is_413_whether_its_length_is_declared_or_not(
    client: httpx.AsyncClient,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    bodies: list[Any] = [b"x" * (LIMIT + 1), chunks()]
    for body in bodies:
        response = await client.post("/rest/v1/notes", content=body)
        assert response.status_code == 413, response.text
        assert response.headers["access-control-allow-origin"] == "*"
    fits = await client.post("/rest/v1/notes", content=b"x" * LIMIT)
    assert fits.json()["body"] == LIMIT
    elsewhere = await client.post("/storage/v1/object", content=b"x" * (LIMIT + 1))
    assert elsewhere.json()["body"] == LIMIT + 1


async def test_a_body_that_does_not_come_is_cut(impatient_url: str) -> None:
    head = b"POST /rest/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
    response = await cut_after(impatient_url, head)
    assert response.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("start", [b"", b"GET /rest/v1/ HTTP/1.1\r\nHost: x\r\n"])
async def test_a_request_that_does_not_come_is_cut(impatient_url: str, start: bytes) -> None:
    assert await cut_after(impatient_url, start) == b""


async def test_headers_without_end_are_cut(url: str) -> None:
    response = await cut_after(url, b"GET / HTTP/1.1\r\nX: " + b"x" * (serving.MAX_HEAD_BYTES + 1))
    assert response.startswith(b"HTTP/1.1 400 ")


async def test_a_database_that_is_lost_is_503_and_says_when_to_come_again(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/rest/v1/?fail=lost")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"


async def test_a_fault_of_a_service_is_told_without_its_inside(client: httpx.AsyncClient) -> None:
    response = await client.get("/rest/v1/?fail=fault")
    assert response.status_code == 500
    assert response.json() == {"message": "An unexpected error occurred"}
    assert response.headers["access-control-allow-origin"] == "*"


async def test_a_gateway_that_was_closed_has_new_services_at_the_next_request() -> None:
    items = []

    def make() -> Telling:
        items.append(Telling())
        return items[-1]

    gateway = Gateway({"/rest/v1": Mount(make)}, KEYS)
    transport = httpx.ASGITransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.get("/rest/v1/")
        before = Telling.closed
        await gateway.close()
        assert Telling.closed == before + 1
        await client.get("/rest/v1/")
    assert len(items) == 2


async def test_all_services_are_closed_even_where_one_fails_to() -> None:
    class Failing(Telling):
        async def close(self) -> None:
            raise Unavailable("The database does not answer")

    mounts = {"/a": Mount(Telling), "/b": Mount(Failing), "/c": Mount(Telling)}
    gateway = Gateway(mounts, KEYS)
    await gateway.start()
    before = Telling.closed
    with pytest.raises(Unavailable):
        await gateway.close()
    assert Telling.closed == before + 2


async def test_a_service_that_many_projects_do_not_use_is_made_at_its_first_request() -> None:
    made = []

    def make(name: str) -> Telling:
        made.append(name)
        return Telling()

    rest = Mount(lambda: make("rest"))
    realtime = Mount(lambda: make("realtime"), starts_early=False)
    gateway = Gateway({"/rest/v1": rest, "/realtime/v1": realtime}, KEYS)
    await gateway.start()
    assert made == ["rest"]
    transport = httpx.ASGITransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.get("/realtime/v1/")
    assert made == ["rest", "realtime"]


@pytest.mark.parametrize("path", ["/realtime/v1/websocket", "/", "/rest/v2"])
async def test_a_websocket_of_a_service_that_is_not_there_is_a_404_and_its_key_is_in_no_log(
    url: str, path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn.access", "uvicorn.error"):
        # Servers of other tests in this process have set them as they need them.
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.DEBUG)
    host, port = url.removeprefix("http://").split(":")
    response = await shake_hands(host, int(port), f"{path}?apikey=anon.j.wt&vsn=1.0.0")
    assert response.startswith("HTTP/1.1 404 ")
    assert "application/json" in response
    written = [each.getMessage() for each in caplog.records]
    assert any("vsn=1.0.0" in line for line in written)
    assert "anon.j.wt" not in "".join(written)


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("apikey=sb_secret_abc", {}, "Bearer service.j.wt"),
        ("", {"apikey": "sb_publishable_abc"}, "Bearer anon.j.wt"),
        ("apikey=sb_secret_abc", {"authorization": "Bearer user.j.wt"}, "Bearer user.j.wt"),
        ("apikey=sb_secret_other", {}, None),
    ],
)
async def test_a_websocket_reaches_its_service_with_the_token_of_its_api_key(
    query: str, headers: dict[str, str], expected: str | None
) -> None:
    gateway = Gateway({"/realtime/v1": Mount(Telling)}, KEYS)
    start, body = await connect(gateway, f"/realtime/v1/websocket?{query}", headers)
    assert start["status"] == (401 if expected is None else 418)
    assert expected is None or expected in body["body"].decode()


async def test_where_the_server_cannot_respond_a_handshake_is_closed() -> None:
    (message,) = await connect(Gateway({}, KEYS), "/", responds=False)
    assert message["type"] == "websocket.close"
