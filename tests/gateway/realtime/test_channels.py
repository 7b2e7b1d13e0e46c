"""The protocol of channels, frame by frame."""

import asyncio
import json
import logging
import os
import socket
from typing import Any
from urllib.parse import quote

import pytest
from tests.gateway.realtime.api import ANON, SECONDS, Api, binary_broadcast, rejection
from tests.gateway.realtime.conftest import Connect, ServeRealtime
from tests.websockets import shake_hands
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from amphibase import server

ROOM = "realtime:room"


def message(text: str, event: str = "said") -> dict[str, Any]:
    return {"type": "broadcast", "event": event, "payload": {"text": text}}


async def test_a_broadcast_reaches_the_others_and_its_sender_if_it_asks_for_it(
    api: Api, connect: Connect
) -> None:
    ann, bob, other = [await connect(api) for _ in range(3)]
    assert await ann.join(ROOM) == {"postgres_changes": []}
    await bob.join(ROOM, broadcast={"self": True, "ack": "true"})
    await other.join("realtime:elsewhere")
    await ann.push(ROOM, "broadcast", message("hello"))
    expected = [None, None, ROOM, "broadcast", message("hello")]
    assert await bob.receive() == expected
    ref = await bob.push(ROOM, "broadcast", message("back"))
    assert (await bob.receive())[4] == message("back")
    assert (await bob.receive())[1:] == [ref, ROOM, "phx_reply", {"status": "ok", "response": {}}]
    assert (await ann.receive())[4] == message("back")
    for wire in (ann, other):
        assert await wire.is_silent()


async def test_a_binary_broadcast_keeps_its_bytes_and_reaches_protocol_1_where_it_is_json(
    api: Api, connect: Connect
) -> None:
    ann, bob = await connect(api), await connect(api)
    await ann.join(ROOM)
    await bob.join(ROOM)
    async with connect_websocket(api.address(vsn="1.0.0")) as old:
        join = {"topic": ROOM, "event": "phx_join", "payload": {"config": {}}, "ref": "1"}
        await old.send(json.dumps(join))
        joined = {"status": "ok", "response": {"postgres_changes": []}}
        assert json.loads(await old.recv()) == {
            "ref": "1", "topic": ROOM, "event": "phx_reply", "payload": joined,
        }  # fmt: skip
        for encoding, content in ((0, b"\x00\xff"), (1, b'{"a": 1.50}')):
            head = bytes([3, 1, 1, len(ROOM), 2, 0, encoding])
            await ann.connection.send(head + b"12" + ROOM.encode() + b"hi" + content)
            received = bytes([4, len(ROOM), 2, 0, encoding]) + ROOM.encode() + b"hi" + content
            assert await bob.receive() == received
        assert json.loads(await asyncio.wait_for(old.recv(), SECONDS)) == {
            "ref": None,
            "topic": ROOM,
            "event": "broadcast",
            "payload": {"type": "broadcast", "event": "hi", "payload": {"a": 1.5}},
        }


async def test_a_broadcast_of_any_size_is_whole(api: Api, connect: Connect) -> None:
    wire = await connect(api)
    await wire.join("realtime:room", broadcast={"self": True})
    for size in (40, 41, 65_450, 65_451):
        content = {"type": "broadcast", "event": "e", "payload": "x" * size}
        await wire.push("realtime:room", "broadcast", content)
        assert (await wire.receive())[4] == content


async def test_phoenix_replies_to_heartbeats_leaves_and_strangers(
    api: Api, connect: Connect
) -> None:
    wire = await connect(api)
    await wire.connection.send('[null,null,"phoenix","heartbeat",{}]')
    assert await wire.receive() == [
        None, None, "phoenix", "phx_reply", {"status": "ok", "response": {}}
    ]  # fmt: skip
    for frame in ("nonsense", "{}", "[1]", '[null,"1",5,"x",{}]', b"\x03\xff", b"\x00"):
        await wire.connection.send(frame)
    unmatched = {"status": "error", "response": {"reason": "unmatched topic"}}
    assert await wire.reply(ROOM, "broadcast", message("x")) == unmatched
    assert await wire.reply("other:room", "phx_join", {}) == unmatched
    assert await wire.join("realtime:") == "TopicNameRequired: You must provide a topic name"
    await wire.join(ROOM)
    first = (await wire.push(ROOM, "phx_join", {"config": {}}), await wire.receive())[1]
    assert first[:2] == [first[1]] * 2
    assert first[2:] == [ROOM, "phx_close", {}]  # of the channel that was there before
    assert (await wire.receive())[3] == "phx_reply"
    assert (await wire.reply(ROOM, "phx_leave", {}))["status"] == "ok"
    assert (await wire.receive())[3] == "phx_close"
    assert await wire.is_silent()


async def test_a_broadcast_goes_on_as_it_came(api: Api, connect: Connect) -> None:
    ann, bob = await connect(api), await connect(api)
    await ann.join(ROOM, broadcast={"ack": "TRUE"})
    await bob.join(ROOM)
    for payload in ({**message("a"), "more": [1]}, {"without": "an event"}, {}):
        assert (await ann.reply(ROOM, "broadcast", payload))["status"] == "ok"
        assert (await bob.receive())[4] == payload


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({"event": "track"}, "ok"),
        ({"event": "track", "payload": "x"}, "error"),
        ({"event": "Untrack"}, "ok"),
        ({"event": "other"}, "error"),
        ({"event": 5}, "error"),
        ({}, "ok"),
    ],
)
async def test_calls_of_presence_have_a_reply(
    api: Api, connect: Connect, payload: dict[str, Any], status: str
) -> None:
    wire = await connect(api)
    await wire.join(ROOM, presence={"enabled": False})
    ref = await wire.push(ROOM, "presence", payload)
    frame = await wire.receive()
    if frame[3] == "presence_state":
        frame = await wire.receive()
    reason = {"reason": "Presence track payload must be a map"} if "payload" in payload else {}
    assert frame[1:] == [ref, ROOM, "phx_reply", {"status": status, "response": reason}]


@pytest.mark.parametrize(("key", "name"), [(5, "5"), (True, "true"), (1.5, "1.5")])
async def test_a_key_of_presence_may_be_a_number(
    api: Api, connect: Connect, key: Any, name: str
) -> None:
    wire = await connect(api)
    await wire.join(ROOM, presence={"enabled": True, "key": key})
    assert (await wire.receive())[3] == "presence_state"
    await wire.reply(ROOM, "presence", {"event": "track", "payload": {}})
    assert [*(await wire.receive())[4]["joins"]] == [name]


async def test_presence_is_a_state_and_then_joins_and_leaves(api: Api, connect: Connect) -> None:
    ann, bob = await connect(api), await connect(api)
    for wire, key in ((ann, "ann"), (bob, "bob")):
        await wire.join(ROOM, presence={"key": key, "enabled": True})
        assert (await wire.receive())[3:] == ["presence_state", {}]
    track = {"type": "presence", "event": "TRACK", "payload": {"at": 1}}
    assert await ann.reply(ROOM, "presence", track) == {"status": "ok", "response": {}}
    assert (await ann.receive())[3] == "presence_diff"
    (_, _, _, event, diff) = await bob.receive()
    (meta,) = diff["joins"]["ann"]["metas"]
    assert (event, meta["at"], diff["leaves"]) == ("presence_diff", 1, {})
    await ann.reply(ROOM, "presence", track)  # the same again
    await ann.reply(ROOM, "presence", {**track, "payload": {"at": 2}})
    diff = (await bob.receive())[4]
    (changed,) = diff["joins"]["ann"]["metas"]
    assert changed["phx_ref_prev"] == meta["phx_ref"] != changed["phx_ref"]
    assert diff["leaves"] == {"ann": {"metas": [meta]}}
    late = await connect(api)
    await late.join(ROOM)
    await late.push(ROOM, "presence", {"event": "track", "payload": {}})
    assert (await late.receive())[3:] == ["presence_state", {"ann": {"metas": [changed]}}]
    await ann.connection.close()
    diffs = [(await bob.receive())[4] for _ in range(2)]
    assert diffs[1] == {"joins": {}, "leaves": {"ann": {"metas": [changed]}}}


async def test_limits_are_those_of_the_settings(serve: ServeRealtime, connect: Connect) -> None:
    api = await serve(
        max_connections=2, max_channels=2, max_messages=1, max_joins=1, max_payload_kilobytes=1
    )
    ann, bob = await connect(api), await connect(api)
    assert await rejection(api, ANON) == (429, {"error": "Too many connected users"})
    for name in ("a", "b"):
        await ann.join(f"realtime:{name}")
    assert await ann.join("realtime:c") == "ChannelRateLimitReached: Too many channels"
    large = message("x" * 1600)
    reason = {"reason": "payload_size_exceeded"}
    assert (await ann.reply("realtime:a", "broadcast", large))["response"] == reason
    for _ in range(61):
        await ann.push("realtime:a", "broadcast", message("x"))
    assert (await ann.receive())[4]["message"] == "Too many messages per second"
    assert (await ann.receive())[3] == "phx_close"
    for _ in range(58):
        await bob.reply(ROOM, "phx_join", {"config": {}})
        await bob.reply(ROOM, "phx_leave", {})
        await bob.receive()
    assert await bob.join(ROOM) == "ClientJoinRateLimitReached: Too many joins per second"
    with pytest.raises(ConnectionClosed) as closed:
        await bob.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def test_a_client_that_does_not_read_is_closed_and_delays_no_other(
    serve: ServeRealtime, connect: Connect
) -> None:
    api = await serve(max_queued_kilobytes=100)
    ann, bob = await connect(api), await connect(api)
    stalled = await connect(api, max_queue=1)
    for wire in (ann, bob, stalled):
        await wire.join(ROOM)
    content, sent = message("x" * 60_000), 300
    for _ in range(sent):
        await ann.push(ROOM, "broadcast", content)
        assert (await bob.receive())[4] == content
    with pytest.raises(ConnectionClosed) as closed:
        await stalled.drain(sent)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        1013, "The client reads too slowly"
    )  # fmt: skip


def sockets() -> int:
    """How many sockets this process has open, on both sides."""
    links = [os.readlink(each.path) for each in os.scandir("/proc/self/fd") if each.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_a_client_that_takes_nothing_does_not_keep_its_socket(
    serve: ServeRealtime, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ACK_SECONDS", 1)
    api = await serve(max_queued_kilobytes=100)
    stalled, ann = await connect(api, max_queue=1), await connect(api)
    for wire in (stalled, ann):
        await wire.join(ROOM)
    before = sockets()
    for _ in range(300):
        await ann.push(ROOM, "broadcast", message("x" * 60_000))
    assert await ann.is_silent()
    async with asyncio.timeout(60):
        while sockets() >= before:  # noqa: ASYNC110 - nothing else says so
            await asyncio.sleep(0.1)


async def test_when_the_service_closes_clients_hear_that_they_may_come_back(
    api: Api, connect: Connect
) -> None:
    wire = await connect(api)
    await wire.join(ROOM)
    await api.service.close()
    assert (await wire.receive())[4]["message"] == "Server requested disconnect"
    with pytest.raises(ConnectionClosed) as closed:
        await wire.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_broadcasts_over_http_reach_the_topic(api: Api, connect: Connect) -> None:
    wire = await connect(api)
    await wire.join(ROOM)
    sent = {"topic": "room", "event": "said", "payload": {"text": "hello"}}
    response = await api.post("/broadcast", {"messages": [sent, {**sent, "id": "7"}]})
    assert (response.status_code, response.content) == (202, b"")
    assert (await wire.receive())[4] == message("hello")
    assert (await wire.receive())[4] == {**message("hello"), "meta": {"id": "7"}}
    for body, content in (
        (b'{"text": 1}', b'{"text": 1}'),
        (b"[1]", b'{"_json":[1]}'),
        (b"", b"{}"),
    ):
        headers = {"content-type": "application/json"}
        said = await api.post("/broadcast/room/events/said", content=body, headers=headers)
        assert said.status_code == 202
        assert await wire.receive() == binary_broadcast(ROOM, "said", content)
    path = "/broadcast/room/events/raw"
    headers = {"content-type": "application/octet-stream"}
    assert (await api.post(path, content=b"\xff", headers=headers)).status_code == 202
    assert (await wire.receive())[-1:] == b"\xff"
    rejected = await api.post("/broadcast", {"messages": [{"topic": "room"}, sent]})
    blank = ["can't be blank"]
    assert rejected.status_code == 422
    assert rejected.json() == {"errors": {"messages": [{"event": blank, "payload": blank}, {}]}}
    for messages, errors in (
        (None, blank),
        ([], blank),
        ("x", ["is invalid"]),
        ([1], ["is invalid"]),
        ([{**sent, "topic": " ", "payload": "x"}], [{"topic": blank, "payload": ["is invalid"]}]),
        (
            [{**sent, "private": "yes", "id": 7}],
            [{"private": ["is invalid"], "id": ["is invalid"]}],
        ),
    ):
        rejected = await api.post("/broadcast", {"messages": messages})
        assert rejected.status_code == 422
        assert rejected.json() == {"errors": {"messages": errors}}
    for json_path in ("/broadcast", "/broadcast/room/events/said"):
        headers = {"content-type": "application/json"}
        rejected = await api.post(json_path, content=b"{", headers=headers)
        assert (rejected.status_code, rejected.json()) == (400, {"message": "bad request"})
    text = await api.post(path, content=b"x", headers={"content-type": "text/plain"})
    assert text.status_code == 415
    foreign = await api.post("/broadcast", {"messages": [sent]}, token="x.y.z")
    assert (foreign.status_code, foreign.json()) == (401, {"message": "Unauthorized"})


async def test_no_log_has_the_key_of_a_handshake(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn.access", "uvicorn.error"):
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.DEBUG)
    host, port = api.url.removeprefix("http://").split(":")
    target = f"/realtime/v1/websocket?apikey={ANON}&vsn=2.0.0"
    assert (await shake_hands(host, int(port), target)).startswith("HTTP/1.1 101 ")
    written = "".join(each.getMessage() for each in caplog.records)
    assert "vsn=2.0.0" in written
    assert ANON not in written


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


async def test_what_is_nested_too_deep_harms_nobody(api: Api, connect: Connect) -> None:
    ann, bob = await connect(api), await connect(api)
    for wire, key in ((ann, "ann"), (bob, "bob")):
        await wire.join(ROOM, presence={"key": key, "enabled": True})
        await wire.receive()
    for levels in (98, 150, 251, 400):
        track = {"type": "presence", "event": "track", "payload": nested(levels)}
        await ann.push(ROOM, "presence", track)
        await ann.push(ROOM, "broadcast", {**message(""), "payload": nested(levels)})
    head = bytes([3, 0, 1, len(ROOM), 2, 0, 1])
    content = json.dumps(nested(400)).encode()
    await ann.connection.send(head + b"1" + ROOM.encode() + b"hi" + content)
    for _ in range(2):  # the reply to the first, and its diff
        await ann.receive()
    assert await ann.is_silent()
    received = [(await bob.receive())[3] for _ in range(2)]
    assert sorted(received) == ["broadcast", "presence_diff"]
    assert await bob.is_silent()
    late = await connect(api)
    await late.join(ROOM, presence={"enabled": True})
    assert (await late.receive())[3] == "presence_state"
    for path, body in (
        ("/broadcast", {"messages": [{**message(""), "topic": "room", "payload": nested(400)}]}),
        ("/broadcast/room/events/said", nested(400)),
    ):
        assert (await api.post(path, body)).status_code == 422


async def test_the_limit_of_a_broadcast_counts_all_that_others_receive(
    serve: ServeRealtime, connect: Connect
) -> None:
    api = await serve(max_payload_kilobytes=1)
    ann, bob = await connect(api), await connect(api)
    await ann.join(ROOM)
    await bob.join(ROOM)
    reason = (await ann.reply(ROOM, "broadcast", {**message(""), "more": "x" * 1600}))["response"]
    assert reason == {"reason": "payload_size_exceeded"}
    long = "The event has more than 255 bytes"
    reply = await ann.reply(ROOM, "broadcast", message("", event="é" * 128))
    assert reply["response"] == {"reason": long}
    await ann.push(ROOM, "broadcast", {**message("hello"), "more": "x"})
    assert (await bob.receive())[4] == {**message("hello"), "more": "x"}
    too_long = "is too long. Maximum 255 bytes"
    assert await ann.join(f"realtime:{'x' * 247}") == f"InvalidJoinPayload: The topic {too_long}"
    assert await ann.join("realtime:y", presence={"key": "k" * 256}) == (
        f"InvalidJoinPayload: The key of presence {too_long}"
    )
    sent = {"topic": "x" * 247, "event": "e" * 256, "payload": {}}
    limit = ["should be at most 255 byte(s)"]
    errors = (await api.post("/broadcast", {"messages": [sent]})).json()["errors"]["messages"]
    assert errors == [{"topic": limit, "event": limit}]


@pytest.mark.parametrize("topic", ["a/b", "50%25", "ä ?#", "a%2Fb"])
async def test_a_topic_of_a_path_is_decoded_once(api: Api, connect: Connect, topic: str) -> None:
    wire = await connect(api)
    await wire.join(f"realtime:{topic}")
    path = f"/broadcast/{quote(topic, safe='')}/events/{quote('a/%41', safe='')}"
    assert (await api.post(path, {"text": "hello"})).status_code == 202
    received = binary_broadcast(f"realtime:{topic}", "a/%41", b'{"text":"hello"}')
    assert await wire.receive() == received
    assert (await api.post("/broadcast/a/b/events/said", {})).status_code == 404
