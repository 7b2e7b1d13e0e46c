"""The gateway's HTTP beside uvicorn's own: the same bytes, in fewer pieces."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from amphibase import server as serving
from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.http_protocol import HttpProtocol
from amphibase.gateway.keys import ApiKeys
from amphibase.server import HeaderTimeoutProtocol

KEYS = ApiKeys("secret", "anon.j.wt", "service.j.wt", "sb_publishable_abc", "sb_secret_abc")
SMALL = b'[{"id":1}]'
LENGTH = (b"content-length", b"%d" % len(SMALL))
RESPONSES = {
    "small": (200, [(b"content-type", b"application/json"), LENGTH], [SMALL]),
    "empty": (200, [(b"content-length", b"0")], [b""]),
    "no-content": (204, [], [b""]),
    "not-found": (404, [LENGTH], [SMALL]),
    "large": (200, [(b"content-length", b"50000")], [b"x" * 50_000]),
    "chunks": (200, [], [b"one", b"two"]),
    "parts": (200, [LENGTH], [SMALL[:4], SMALL[4:]]),
    "closed": (200, [LENGTH, (b"connection", b"close")], [SMALL]),
    "too-short": (200, [(b"content-length", b"11")], [SMALL]),
    "too-long": (200, [(b"content-length", b"9")], [SMALL]),
    "line": (200, [LENGTH, (b"x-own", b"a\r\nset-cookie: forged")], [SMALL]),
    "control": (200, [LENGTH, (b"x-own", b"\x01")], [SMALL]),
    "tab": (200, [LENGTH, (b"x-own", b"a\tb \xfc")], [SMALL]),
}


class Responding:
    """Responds as its path says."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers, parts = RESPONSES[scope["path"].rpartition("/")[2]]
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        for part in parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": parts[-1]})


@asynccontextmanager
async def serving_by(protocol: type[HeaderTimeoutProtocol]) -> AsyncIterator[int]:
    """Serve a gateway by a protocol; gives its port."""
    ready = asyncio.Event()
    gateway = Gateway({"/rest/v1": Mount(Responding)}, KEYS)
    server = serving.server(gateway, ready=ready.set, host="127.0.0.1", port=0, http=protocol)
    serve = asyncio.create_task(server.serve())
    await ready.wait()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serve


async def exchange(protocol: type[HeaderTimeoutProtocol], *requests: bytes) -> bytes:
    """Return all that a connection answers to requests that are sent at once, but for the time."""
    async with serving_by(protocol) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(requests))
        response = await asyncio.wait_for(reader.read(), 60)
        writer.close()
    return re.sub(rb"date: [^\r]*", b"date: now", response)


def request(name: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} /rest/v1/{name} HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode()


LAST = request("small", more="connection: close\r\n")


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_response_is_the_bytes_that_uvicorn_sends(name: str, method: str) -> None:
    requests = (request(name, method), LAST)
    responded = await exchange(HttpProtocol, *requests)
    assert responded == await exchange(HeaderTimeoutProtocol, *requests)
    assert b"forged" not in responded


@pytest.mark.parametrize(
    "more", ["expect: 100-continue\r\ncontent-length: 2\r\n", "origin: https://example.com\r\n"]
)
async def test_what_a_request_has_more_changes_nothing_of_it(more: str) -> None:
    body = b"{}" if "content-length" in more else b""
    requests = (request("small", "POST", more), body, LAST)
    assert await exchange(HttpProtocol, *requests) == await exchange(
        HeaderTimeoutProtocol, *requests
    )


async def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """It would be freed long after the processor's caches have forgotten it."""
    async with serving_by(HttpProtocol) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        gc.collect()
        gc.disable()
        try:
            for name in ["small", "large"] * 5:
                writer.write(request(name))
                await asyncio.wait_for(reader.readuntil(RESPONSES[name][2][0]), 60)
            cycles = [each for each in gc.get_objects() if isinstance(each, RequestResponseCycle)]
        finally:
            gc.enable()
        writer.close()
    assert len(cycles) < 5


async def test_a_small_response_needs_none_of_the_servers_own_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving_by(HttpProtocol) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send(self: RequestResponseCycle, message: object) -> None:
            raise AssertionError(message)

        with monkeypatch.context() as patch:
            patch.setattr(RequestResponseCycle, "send", send)
            for _ in range(2):
                writer.write(request("small"))
                response = await asyncio.wait_for(reader.readuntil(SMALL), 60)
                assert response.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
