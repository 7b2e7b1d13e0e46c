"""Messages of topics over HTTP: server-sent events and WebSockets, from a real server."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import SECRET
from tests.http.streams import SECONDS, Stream, signed_in
from tests.serving import serving
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

APPLICATION = """
from typing import Annotated, Any

from fastapi import Body, FastAPI, WebSocket

from amphibase import Amphibase, MessageFeed, PresenceFeed, Topic
from amphibase.access import authenticated
from amphibase.http import streams

streams.HEARTBEAT_SECONDS = 0.2
ROOMS = Topic("rooms/{room}", read=authenticated, write=authenticated)

db = Amphibase()
app = db.mount(FastAPI())
Room = Annotated[MessageFeed, db.messages(ROOMS)]
RoomPresence = Annotated[PresenceFeed, db.presence(ROOMS)]


@app.post("/rooms/{room}/messages", status_code=204)
async def publish(room: Room, payload: Annotated[Any, Body()]):
    await room.publish(payload)


@app.get("/rooms/{room}/messages")
async def follow(room: Room):
    return room.response()


@app.websocket("/rooms/{room}/messages")
async def follow_over_websocket(websocket: WebSocket, room: Room):
    await room.serve(websocket)


@app.get("/rooms/{room}/presence")
async def follow_presence(presence: RoomPresence):
    return presence.response({"over": "http"})


@app.websocket("/rooms/{room}/presence")
async def presence_over_websocket(websocket: WebSocket, presence: RoomPresence):
    await presence.serve(websocket)
"""


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[str]:
    (tmp_path / "main.py").write_text(APPLICATION)
    environment = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET, "RATE_LIMITS": "off"}
    with serving(tmp_path, environment, "main:app") as url:
        yield url


def test_a_topic_reaches_event_streams_and_websockets_until_the_session_ends(server: str) -> None:
    tokens: dict[str, Any] = signed_in(server)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    path = f"{server}/rooms/7/messages"
    socket = f"{path.replace('http', 'ws', 1)}?access_token={tokens['access_token']}"
    with (
        httpx.stream("GET", path, headers=headers, timeout=SECONDS) as response,
        connect(socket) as websocket,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        assert json.loads(websocket.recv(SECONDS)) == {"event": "opened", "data": {}}
        stream = Stream(response)
        time.sleep(0.5)  # heartbeats are no events
        for payload in ({"text": "käse"}, 0):
            httpx.post(path, json=payload, headers=headers).raise_for_status()
            data = {"topic": "rooms/7", "sender": tokens["user"]["id"], "payload": payload}
            assert stream.next() == ("message", data)
            assert json.loads(websocket.recv(SECONDS)) == {"event": "message", "data": data}
        httpx.post(f"{server}/auth/sign-out", headers=headers).raise_for_status()
        name, closed = stream.next()
        assert (name, closed["code"]) == ("closed", "session_ended")
        with pytest.raises(ConnectionClosedError) as ended:
            websocket.recv(SECONDS)
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1008, "session_ended")


def test_presence_reaches_event_streams_and_websockets_with_its_connections(server: str) -> None:
    tokens: dict[str, Any] = signed_in(server)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    path = f"{server}/rooms/7/presence"
    socket = f"{path.replace('http', 'ws', 1)}?access_token={tokens['access_token']}"
    with connect(socket) as websocket:

        def received() -> tuple[str, Any]:
            event = json.loads(websocket.recv(SECONDS))
            return event["event"], event["data"]

        assert [received(), received()] == [("opened", {}), ("sync", [])]
        with httpx.stream("GET", path, headers=headers, timeout=SECONDS) as response:
            stream = Stream(response)
            name, joined = received()
            presence = {"user_id": tokens["user"]["id"], "payload": {"over": "http"}}
            assert (name, joined) == ("join", {"id": joined["id"], **presence})
            first = stream.next()  # its own presence is in the state, or joins it
            if first == ("sync", []):
                first = stream.next()
            assert first in (("sync", [joined]), ("join", joined))
            for payload, event in (({"n": 1}, "join"), ({"n": 2}, "update")):
                websocket.send(json.dumps({"event": "track", "payload": payload}))
                name, changed = stream.next()
                assert (name, changed["payload"]) == (event, payload)
                assert received() == (name, changed)
            websocket.send(json.dumps({"event": "untrack"}))
            assert stream.next() == received() == ("leave", changed)
        assert received() == ("leave", joined)
        websocket.send("[]")
        with pytest.raises(ConnectionClosedError) as ended:
            websocket.recv(SECONDS)
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1008, "invalid_request")


def test_whom_the_rule_does_not_admit_neither_subscribes_nor_publishes(server: str) -> None:
    path = f"{server}/rooms/7/messages"
    for response in (httpx.get(path), httpx.post(path, json=1)):
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    with pytest.raises(InvalidStatus) as denied, contextlib.ExitStack() as stack:
        stack.enter_context(connect(path.replace("http", "ws", 1)))
    assert denied.value.response.status_code == 403


def test_a_message_that_is_too_large_is_rejected(server: str) -> None:
    headers = {"Authorization": f"Bearer {signed_in(server)['access_token']}"}
    response = httpx.post(f"{server}/rooms/7/messages", json="x" * 7000, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
    response = httpx.get(f"{server}/rooms/{'x' * 600}/messages", headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
