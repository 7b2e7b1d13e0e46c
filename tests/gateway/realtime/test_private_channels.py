"""Private channels, by the policies of `realtime.messages`, and messages of the database."""

import asyncio
import time
from typing import Any

import pytest
from tests.gateway.realtime.api import ANN, BOB, SERVICE, Api, binary_broadcast
from tests.gateway.realtime.conftest import Connect, on_both_sources

from amphibase.gateway.realtime import channel, database_messages

ROOM = "realtime:room:1"

POLICIES = f"""
CREATE POLICY reads ON realtime.messages FOR SELECT TO authenticated
    USING (realtime.topic() LIKE 'room:%' AND auth.uid() IN ('{ANN}', '{BOB}')
        AND (extension = 'broadcast' OR auth.uid() = '{ANN}'));
CREATE POLICY writes ON realtime.messages FOR INSERT TO authenticated
    WITH CHECK (realtime.topic() LIKE 'room:%' AND auth.uid() = '{ANN}');
"""
SAID: dict[str, Any] = {"type": "broadcast", "event": "said", "payload": {"text": "hello"}}
DENIED = "Unauthorized: You do not have permissions to read from this Channel topic: "


async def test_policies_decide_who_reads_and_who_writes(api: Api, connect: Connect) -> None:
    await api.run(POLICIES)
    ann, bob, anon = [await connect(api) for _ in range(3)]
    assert await anon.join(ROOM, private=True) == f"{DENIED}room:1"
    assert await ann.join("realtime:hall", api.token(), private=True) == f"{DENIED}hall"
    await anon.join(ROOM)  # the public topic of the same name is another
    presence = {"presence": {"enabled": True}}
    await ann.join(ROOM, api.token(), private=True, broadcast={"ack": True}, **presence)
    assert (await ann.receive())[3] == "presence_state"
    await bob.join(ROOM, api.token(BOB), private=True, broadcast={"ack": True}, **presence)
    await bob.push(ROOM, "broadcast", SAID)  # in silence
    track = {"event": "track", "payload": {}}
    assert await bob.reply(ROOM, "presence", track) == {"status": "error", "response": {}}
    assert await ann.reply(ROOM, "broadcast", SAID) == {"status": "ok", "response": {}}
    assert (await bob.receive())[3:] == ["broadcast", SAID]
    assert await ann.reply(ROOM, "presence", track) == {"status": "ok", "response": {}}
    assert (await ann.receive())[3] == "presence_diff"
    for wire in (ann, bob, anon):  # bob may not see who is present
        assert await wire.is_silent()


async def test_a_new_token_is_asked_for_its_own_permissions(api: Api, connect: Connect) -> None:
    await api.run(POLICIES)
    wire = await connect(api)
    await wire.join(ROOM, api.token(BOB), private=True, broadcast={"ack": True})
    await wire.push(ROOM, "broadcast", SAID)  # which he may not
    await wire.push(ROOM, "access_token", {"access_token": api.token(ANN)})
    assert (await wire.reply(ROOM, "broadcast", SAID))["status"] == "ok"
    await wire.push(ROOM, "access_token", {"access_token": api.token(role="anon")})
    assert (await wire.receive())[4]["message"] == DENIED.partition(": ")[2] + "room:1"
    assert (await wire.receive())[3] == "phx_close"


async def test_a_new_token_that_reads_less_ends_the_channel(api: Api, connect: Connect) -> None:
    await api.run(POLICIES)
    alone, wire = await connect(api), await connect(api)
    await alone.join(ROOM, api.token(), private=True)
    await wire.join(ROOM, api.token(), private=True, presence={"enabled": True})
    assert (await wire.receive())[3] == "presence_state"
    for each in (alone, wire):  # bob does not read presence
        await each.push(ROOM, "access_token", {"access_token": api.token(BOB)})
    assert await alone.is_silent()
    message = (await wire.receive())[4]["message"]
    assert message == "You no longer have permission to read from this Channel topic: room:1"
    assert (await wire.receive())[3] == "phx_close"


async def test_a_replay_needs_the_permission_to_read_broadcasts(api: Api, connect: Connect) -> None:
    await api.run(
        "CREATE POLICY presence ON realtime.messages FOR SELECT TO authenticated "
        "USING (extension = 'presence')"
    )
    wire = await connect(api)
    replay = {"broadcast": {"replay": {"since": 0, "limit": 100}}}
    assert await wire.join(ROOM, api.token(), private=True, **replay) == f"{DENIED}room:1"
    assert await wire.join(ROOM, api.token(), private=True) == {"postgres_changes": []}


async def test_nobody_needs_the_permission_to_be_absent(api: Api, connect: Connect) -> None:
    await api.run(POLICIES)
    wire = await connect(api)
    await wire.join(ROOM, api.token(BOB), private=True)
    assert (await wire.reply(ROOM, "presence", {"event": "untrack"}))["status"] == "ok"


async def test_a_text_makes_a_broadcast_over_http_private(api: Api, connect: Connect) -> None:
    await api.run(POLICIES)
    public, private = await connect(api), await connect(api)
    await public.join(ROOM)
    await private.join(ROOM, api.token(), private=True)
    sent = {"topic": "room:1", "event": "said", "payload": {}, "private": "true"}
    for token, is_sent in ((api.token(BOB), False), (api.token(), True)):
        response = await api.post("/broadcast", {"messages": [sent]}, token=token)
        assert response.status_code == 202
        if is_sent:
            assert (await private.receive())[4]["event"] == "said"
        for wire in (public, private):
            assert await wire.is_silent()


async def test_broadcasts_over_http_need_the_permission_too(api: Api, connect: Connect) -> None:
    await api.run(POLICIES)
    wire = await connect(api)
    await wire.join(ROOM, SERVICE, private=True)
    message = {"topic": "room:1", "event": "said", "payload": {"text": "hello"}, "private": True}
    path = "/broadcast/room:1/events/said?private=true"
    for token, status in ((api.token(BOB), 403), (api.token(), 202)):
        response = await api.post("/broadcast", {"messages": [message]}, token=token)
        assert response.status_code == 202
        response = await api.post(path, {"text": "hello"}, token=token)
        assert response.status_code == status
    assert (await wire.receive())[4] == SAID  # those of ann alone
    assert await wire.receive() == binary_broadcast(ROOM, "said", b'{"text":"hello"}')
    assert await wire.is_silent()


@on_both_sources
async def test_what_the_database_sends_reaches_the_topic_in_order(
    api: Api, connect: Connect
) -> None:
    await api.run(
        POLICIES,
        "CREATE TABLE shop.boats (id int PRIMARY KEY, name text)",
        """
        CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM realtime.broadcast_changes(
                'room:1', TG_OP, TG_OP, TG_TABLE_NAME, TG_TABLE_SCHEMA, NEW, OLD);
            RETURN NEW;
        END $$
        """,
        "CREATE TRIGGER tell AFTER INSERT OR UPDATE ON shop.boats"
        " FOR EACH ROW EXECUTE FUNCTION shop.tell()",
    )
    ann, public = await connect(api), await connect(api)
    await ann.join(ROOM, api.token(), private=True)
    await public.join(ROOM)
    await api.run(
        "BEGIN; SELECT realtime.send('{\"a\": 1.50}', 'lost', 'room:1'); ROLLBACK",
        "INSERT INTO shop.boats VALUES (1, 'Dodo'); UPDATE shop.boats SET name = 'Emu'",
        "SELECT realtime.send('{\"id\": 7}', 'sent', 'room:1', false)",
        "SELECT realtime.send_binary('\\x00ff', 'bytes', 'room:1')",
    )
    events = [(await ann.receive())[4] for _ in range(2)]
    assert [each["event"] for each in events] == ["INSERT", "UPDATE"]
    payload = events[1]["payload"]
    assert payload.pop("id") == events[1]["meta"]["id"]
    assert payload == {
        "record": {"id": 1, "name": "Emu"},
        "old_record": {"id": 1, "name": "Dodo"},
        "operation": "UPDATE",
        "schema": "shop",
        "table": "boats",
    }
    assert (await ann.receive())[-2:] == b"\x00\xff"
    sent = (await public.receive())[4]
    assert (sent["event"], sent["payload"]) == ("sent", {"id": 7})
    assert await ann.is_silent()


async def test_messages_of_the_database_are_replayed_in_their_order_and_once(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.run(
        POLICIES,
        "DELETE FROM realtime.messages",
        "SELECT realtime.send('{}', 'old', 'room:1')",
        "UPDATE realtime.messages SET inserted_at = inserted_at - interval '1 hour'",
        "BEGIN; SELECT realtime.send('{}', n::text, 'room:1') FROM generate_series(1, 4) n; COMMIT",
        "SELECT realtime.send('{}', 'public', 'room:1', false)",
        "SELECT realtime.send_binary('\\xff', 'bytes', 'room:1')",
    )

    async def read_newest(*arguments: Any) -> Any:
        """Two messages are sent while those before are read: one of them comes by both ways."""
        await api.run("SELECT realtime.send('{}', 'both', 'room:1')")
        pushes = await database_messages.read_newest(*arguments)
        await api.run("SELECT realtime.send('{}', 'live', 'room:1')")
        await asyncio.sleep(0.3)
        return pushes

    monkeypatch.setattr(channel, "read_newest", read_newest)
    wire = await connect(api)
    replay = {"since": int(time.time() * 1000) - 60_000, "limit": 5}
    await wire.join(ROOM, api.token(), private=True, broadcast={"replay": replay})
    messages = [await wire.receive() for _ in range(6)]
    events = [each if isinstance(each, bytes) else each[4]["event"] for each in messages]
    assert events[:3] == ["2", "3", "4"]
    assert events[4:] == ["both", "live"]
    assert (events[3][-1:], b'"replayed":true' in events[3]) == (b"\xff", True)
    metas = [each[4]["meta"].get("replayed") for each in (messages[2], *messages[4:])]
    assert metas == [True, True, None]
    assert await wire.is_silent()


@pytest.mark.parametrize(
    ("is_private", "replay", "reason"),
    [
        (False, {"since": 0}, "Replay is not allowed for public channels"),
        (True, {"since": 0, "limit": True}, "Replay params are not valid"),
        (True, {"since": 1e15}, "Replay params are not valid"),
        (True, {"since": "0"}, "Replay params are not valid"),
        (True, {"limit": 1}, "Replay params are not valid"),
        (False, [], "Replay is not allowed for public channels"),
    ],
)
async def test_a_replay_that_cannot_be_is_an_error(
    api: Api, connect: Connect, is_private: bool, replay: Any, reason: str
) -> None:
    await api.run(POLICIES)
    wire = await connect(api)
    joined = await wire.join(ROOM, api.token(), private=is_private, broadcast={"replay": replay})
    assert joined == f"UnableToReplayMessages: {reason}"


async def test_a_channel_reports_that_broadcasts_of_the_database_come(
    api: Api, connect: Connect
) -> None:
    wire = await connect(api)
    await wire.join(ROOM, broadcast={"replication_ready": True})
    assert (await wire.receive())[3:] == [
        "system",
        {
            "extension": "system",
            "status": "ok",
            "message": "Replication connection established",
            "channel": "room:1",
        },
    ]
    await api.run("SELECT realtime.send('{}', 'sent', 'room:1', false)")
    assert (await wire.receive())[4]["event"] == "sent"


async def test_who_may_not_write_sends_nothing_from_the_database(
    api: Api, connect: Connect
) -> None:
    await api.run(POLICIES)
    wire = await connect(api)
    await wire.join(ROOM, SERVICE, private=True)
    for user in (BOB, ANN):
        await api.run(
            f"BEGIN; SET LOCAL ROLE authenticated; SET LOCAL request.jwt.claims = "
            f"'{{\"sub\": \"{user}\"}}'; SELECT realtime.send('{{}}', '{user}', 'room:1'); COMMIT"
        )
    assert (await wire.receive())[4]["event"] == str(ANN)


async def test_when_the_stream_ends_channels_join_again_and_miss_nothing_after(
    api: Api, connect: Connect
) -> None:
    await api.run(POLICIES)
    wire = await connect(api)
    await wire.join(ROOM, api.token(), private=True)
    await api.run("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
    assert (await wire.receive())[4]["status"] == "error"
    assert (await wire.receive())[3] == "phx_error"
    await wire.join(ROOM, api.token(), private=True)
    await api.run("SELECT realtime.send('{}', 'sent', 'room:1')")
    assert (await wire.receive())[4]["event"] == "sent"


async def test_a_policy_that_fails_admits_nobody_and_the_log_names_the_topic_in_a_line(
    api: Api, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    await api.run(
        "CREATE POLICY broken ON realtime.messages FOR SELECT TO authenticated"
        " USING (1 / (length(topic) - length(topic)) = 1)"
    )
    wire = await connect(api)
    assert await wire.join(ROOM, api.token(), private=True) == f"{DENIED}room:1"
    await wire.join("realtime:a\n2030-01-01 ERROR", api.token(), private=True)
    written = [each for each in caplog.messages if "cannot be asked" in each]
    assert [each.partition(" for ")[2].partition(": ")[0] for each in written] == [
        "'room:1'",
        r"'a\n2030-01-01 ERROR'",
    ]
