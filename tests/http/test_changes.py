"""The changes of rows over HTTP: server-sent events and WebSockets, from a real server."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from starlette.websockets import WebSocket, WebSocketState
from tests.http.streams import BOB, SECONDS, Server, Stream, served, signed_in
from tests.models import Note
from tests.serving import serving
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from amphibase import ANONYMOUS, Amphibase
from amphibase.errors import InvalidRequest, Unavailable
from amphibase.http import event_stream
from amphibase.testing.supabase import LocalSupabase

IMPATIENT = """
from amphibase.http import event_stream, streams

event_stream.SEND_SECONDS = 1
streams.HEARTBEAT_SECONDS = 0.2
"""
KILLABLE = """
import os
import signal


@app.post("/kill")
async def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""
ON_PROJECT = """
from fastapi import FastAPI
from tests.models import Task

from amphibase import Amphibase

db = Amphibase()
app = db.mount(FastAPI())
app.include_router(db.router(Task))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("changes")
    with served(folder, f"sqlite:///{folder}/app.db", MAX_STREAMS_PER_CALLER="2") as server:
        yield server
    log = (folder / "server.log").read_text()
    assert server.tokens["access_token"] not in log
    assert "Traceback" not in log, log


@contextlib.contextmanager
def served_on_project(folder: Path, project: LocalSupabase) -> Iterator[Server]:
    """Serve a model of the tests, whose table the project has."""
    environment = {
        "BACKEND": "supabase",
        "SUPABASE_URL": project.url,
        "SUPABASE_ANON_KEY": project.anon_key,
        "SUPABASE_SERVICE_KEY": project.service_role_key,
        "RATE_LIMITS": "off",
    }
    (folder / "main.py").write_text(ON_PROJECT)
    with serving(folder, environment, "main:app") as url:
        yield Server(url, project.db_url, signed_in(url), "t_tasks")


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "supabase"])
def test_a_stream_goes_on_after_a_restart_and_misses_nothing_of_another_process(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def serve() -> contextlib.AbstractContextManager[Server]:
        if kind == "supabase":
            return served_on_project(tmp_path, request.getfixturevalue("supabase"))
        return served(tmp_path, request.getfixturevalue(f"{kind}_url"))

    with serve() as server:
        path = f"/{server.table}/changes"
        with server.stream(path) as stream:
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            id = server.write("one")
            name, row = stream.next()
            assert (name, row["id"], row["title"]) == ("added", str(id), "one")
        server.write("two")
    server.write("three")
    with serve() as server:
        with server.stream(path, **{"Last-Event-ID": stream.last_id}) as resumed:
            server.write("four")
            titles = [resumed.next()[1]["title"] for _ in range(3)]
        assert titles == ["two", "three", "four"]


def test_a_stream_whose_server_is_killed_goes_on_and_misses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    titles = set()
    with served(tmp_path, url, KILLABLE) as server:
        with server.stream() as stream:
            for number in range(20):
                server.write(str(number))
            titles |= {stream.next()[1]["title"] for _ in range(5)}
            with pytest.raises(httpx.TransportError):
                httpx.post(f"{server.url}/kill", headers=server.headers)
        server.write("20")
    after = {"Last-Event-ID": stream.last_id}
    with served(tmp_path, url) as server, server.stream(**after) as resumed:
        while "20" not in titles:
            name, row = resumed.next()
            assert name == "added"
            titles.add(row["title"])
    assert titles == {str(number) for number in range(21)}


def test_a_stream_has_rows_that_change_and_keys_of_those_that_go(server: Server) -> None:
    rows = f"{server.url}/chores"
    with server.stream() as stream:
        response = httpx.post(rows, json={"title": "tea", "stars": 1}, headers=server.headers)
        assert response.status_code == 201, response.text
        added = response.json()
        assert stream.next() == ("added", added)
        path = f"{rows}/{added['id']}"
        changed = httpx.patch(path, json={"stars": 2}, headers=server.headers).json()
        assert stream.next() == ("changed", changed)
        httpx.delete(path, headers=server.headers)
        assert stream.next() == ("removed", {"id": added["id"]})


def test_filters_of_the_query_string_and_of_the_route_apply(server: Server) -> None:
    with (
        server.stream("/chores/changes?stars=lt.3&title=neq.dull") as few,
        server.stream("/good?title=neq.dull") as good,
    ):
        for title, stars in (("a", 1), ("dull", 1), ("dull", 9), ("b", 9), ("c", 2)):
            server.write(title, stars)
        assert [few.next()[1]["title"] for _ in range(2)] == ["a", "c"]
        assert good.next()[1]["title"] == "b"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?stars=much.3", 422, "validation_error"),
        ("?order=stars", 422, "validation_error"),
        ("?colour=eq.red", 422, "validation_error"),
    ],
)
def test_what_is_no_filter_is_rejected(server: Server, query: str, status: int, code: str) -> None:
    response = httpx.get(f"{server.url}/chores/changes{query}", headers=server.headers)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_a_browser_sends_the_token_in_the_query(server: Server) -> None:
    token = server.tokens["access_token"]
    url = f"{server.url}/chores/changes?access_token={token}"
    with httpx.stream(
        "GET", url, headers={"Accept": "text/event-stream"}, timeout=SECONDS
    ) as response:
        stream = Stream(response)
        server.write("tea")
        assert stream.next()[1]["title"] == "tea"


def test_others_and_strangers_get_nothing(server: Server) -> None:
    bob = httpx.post(f"{server.url}/auth/sign-up", json=BOB).json()
    headers = {"Authorization": f"Bearer {bob['access_token']}"}
    with (
        server.stream(**headers) as stream,
        httpx.stream("GET", f"{server.url}/chores/changes", timeout=SECONDS) as strangers,
    ):
        server.write("ann's")
        server.write("bob's", owner=UUID(bob["user"]["id"]))
        assert stream.next()[1]["title"] == "bob's"
        strangers.request.extensions["timeout"]["read"] = 0.5  # from here on
        received: list[str] = []
        with contextlib.suppress(httpx.ReadTimeout):
            received.extend(strangers.iter_lines())
        assert not any(line.startswith("data") for line in received)


def test_a_cursor_that_does_not_hold_is_a_loss(server: Server) -> None:
    with server.stream(**{"Last-Event-ID": "nonsense"}) as stream:
        assert stream.next() == ("lost", {})
        server.write("tea")
        assert stream.next()[1]["title"] == "tea"


def test_a_caller_has_so_many_streams(server: Server) -> None:
    with server.stream(), server.stream():
        with server.stream() as third:
            assert third.response.status_code == 429
            assert int(third.response.headers["retry-after"]) > 0
        with pytest.raises(InvalidStatus) as denied:
            over_websocket(server)
        assert denied.value.response.status_code == 429
    for _ in range(400):  # the server notices that they have left
        with server.stream() as again:
            if again.response.status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("no place became free")


def test_a_stream_ends_with_the_session(tmp_path: Path) -> None:
    with served(tmp_path, f"sqlite:///{tmp_path}/app.db", IMPATIENT) as server:
        with server.stream() as stream, over_websocket(server) as websocket:
            websocket.recv()
            httpx.post(f"{server.url}/auth/sign-out", headers=server.headers).raise_for_status()
            name, data = stream.next()
            assert (name, data["code"]) == ("closed", "session_ended")
            with pytest.raises(ConnectionClosedError) as closed:
                websocket.recv(SECONDS)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "session_ended")


def test_streams_end_at_once_when_the_server_stops(tmp_path: Path) -> None:
    with served(tmp_path, f"sqlite:///{tmp_path}/app.db") as server:
        stream = server.stream()
        opened = stream.__enter__()
        websocket = over_websocket(server)
        websocket.recv()
    assert "graceful shutdown exceeded" not in (tmp_path / "server.log").read_text()
    with pytest.raises(EOFError):
        opened.next()
    stream.__exit__(None, None, None)
    with pytest.raises(ConnectionClosedError) as closed:
        websocket.recv(SECONDS)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_a_client_that_takes_nothing_is_closed_delays_no_other_and_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with served(tmp_path, url, IMPATIENT, MAX_STREAMS_PER_CALLER="2") as server:
        host, port = httpx.URL(server.url).host, httpx.URL(server.url).port
        with socket.create_connection((host, port or 0)) as slow:
            token = server.headers["Authorization"]
            head = f"GET /chores/changes HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
            slow.sendall(head.encode())
            assert slow.recv(12) == b"HTTP/1.1 200"
            with server.stream() as stream:
                for number in range(40):
                    server.write(f"{number} {'x' * 500_000}")
                    assert stream.next()[1]["title"].startswith(f"{number} ")
                wait_for_place(server)
            slow.settimeout(SECONDS)
            received = b"".join(iter(lambda: slow.recv(1 << 20), b""))
        *_, (cursor, last) = re.findall(rb'id: (\S+)\nevent.*\n.*"title":"(\d+) .*\n\n', received)
        assert int(last) < 39
        with server.stream(**{"Last-Event-ID": cursor.decode()}) as resumed:
            for number in range(int(last) + 1, 40):
                assert resumed.next()[1]["title"].startswith(f"{number} ")
        assert (
            "A stream was closed whose client takes nothing"
            in (tmp_path / "server.log").read_text()
        )


@pytest.mark.parametrize(
    ("batch_seconds", "takes_all", "reason"),
    [(60, True, Unavailable), (0.2, False, TimeoutError)],
)
async def test_a_client_may_take_a_large_batch_slowly_for_some_time(
    monkeypatch: pytest.MonkeyPatch, batch_seconds: float, takes_all: bool, reason: type[Exception]
) -> None:
    monkeypatch.setattr(event_stream, "SEND_SECONDS", 2)
    monkeypatch.setattr(event_stream, "BATCH_SECONDS", batch_seconds)
    taken: list[str] = []

    class OneBatch:
        async def batch(self, wait: float) -> Sequence[str]:
            if taken:
                raise Unavailable
            return [*"abcdefghijkl"]

    async def take(part: str) -> None:
        await asyncio.sleep(0.2)
        taken.append(part)

    feed = SimpleNamespace(caller=ANONYMOUS, backend=None)
    end = await event_stream.delivered(cast(Any, feed), OneBatch(), iter, take)
    assert isinstance(end, reason)
    assert (taken == [*"abcdefghijkl"]) == takes_all


def test_a_model_without_a_log_is_rejected_where_its_changes_are_declared() -> None:
    with pytest.raises(InvalidRequest, match="Note keeps no log"):
        Amphibase().changes(Note)


async def test_a_client_that_leaves_while_something_is_sent_ends_its_stream_and_is_no_error() -> (
    None
):
    class Endless:
        async def batch(self, wait: float) -> Sequence[str]:
            return ["a"]

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send" and 'data":a' in message["text"]:
            raise OSError  # as uvicorn does

    async def receive() -> Any:
        if websocket.client_state is WebSocketState.CONNECTING:
            return {"type": "websocket.connect"}
        return await asyncio.Event().wait()

    feed = SimpleNamespace(
        caller=ANONYMOUS,
        backend=None,
        slot=contextlib.nullcontext,
        cursor=lambda stream: None,
        event=lambda item: event_stream.StreamEvent("added", item),
    )
    websocket = WebSocket({"type": "websocket"}, receive, send)
    opened = contextlib.nullcontext(Endless())
    async with asyncio.timeout(SECONDS):
        await event_stream.serve_events(websocket, cast(Any, feed), opened)
    assert websocket.application_state is WebSocketState.DISCONNECTED


def wait_for_place(server: Server) -> None:
    """Wait until one of two streams has ended."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with server.stream() as third:
            if third.response.status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the slow client still has its place")


def over_websocket(server: Server, path: str = "/chores/changes", query: str = "") -> Any:
    url = f"{server.url.replace('http', 'ws')}{path}?access_token={server.tokens['access_token']}"
    return connect(url + query)


def test_a_websocket_has_the_same(server: Server) -> None:
    with over_websocket(server, query="&stars=gt.4") as websocket:
        opened = json.loads(websocket.recv())
        assert opened["event"] == "opened"
        server.write("dull", stars=1)
        id = server.write("tea")
        message = json.loads(websocket.recv(SECONDS))
        assert (message["event"], message["data"]["id"]) == ("added", str(id))
    with over_websocket(server, "/good", f"&after={opened['cursor']}") as websocket:
        websocket.recv()
        message = json.loads(websocket.recv(SECONDS))
        assert (message["event"], message["data"]["id"]) == ("added", str(id))
