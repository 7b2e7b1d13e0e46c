"""Supabase's client for Python walks through its calls of Realtime."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest
from supabase import AsyncClientOptions, acreate_client

from amphibase.testing.supabase import LocalSupabase

SECONDS = 10

Connect = Callable[[], Awaitable[Any]]


SCHEMA = """
CREATE TABLE notes (
    id int PRIMARY KEY, owner uuid DEFAULT auth.uid(), text text, at timestamptz DEFAULT now()
);
GRANT ALL ON notes TO authenticated;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes TO authenticated USING (owner = auth.uid());
ALTER PUBLICATION supabase_realtime ADD TABLE notes;
"""
CREDENTIALS = {"email": "ann@example.com", "password": "correct horse battery"}


class Channel:
    """A channel of the client, and what it has received."""

    def __init__(self, client: Any, name: str, key: str) -> None:
        config = {
            "config": {
                "broadcast": {"ack": True, "self": True},
                "presence": {"key": key, "enabled": True},
                "private": False,
            }
        }
        self.client = client
        self.channel = client.channel(name, config)
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.channel.on_broadcast("said", lambda message: self.events.put_nowait(message))
        self.channel.on_presence_join(
            lambda key, old, new: self.events.put_nowait(("join", key, new[0]["mood"]))
        )
        self.channel.on_presence_leave(
            lambda key, left, gone: self.events.put_nowait(("leave", key, gone[0]["mood"]))
        )

    async def subscribe(self) -> None:
        states: asyncio.Queue[Any] = asyncio.Queue()
        await self.channel.subscribe(lambda state, error: states.put_nowait((state, error)))
        state, error = await asyncio.wait_for(states.get(), SECONDS)
        assert (state.value, error) == ("SUBSCRIBED", None)

    async def event(self) -> Any:
        return await asyncio.wait_for(self.events.get(), SECONDS)


@pytest.fixture
async def connect(local_supabase: LocalSupabase) -> AsyncIterator[Connect]:
    """Opens clients, whose connections end with the test."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(auto_refresh_token=False, httpx_client=http)
        clients = []

        async def opened() -> Any:
            url, key = local_supabase.url, local_supabase.publishable_key
            clients.append(await acreate_client(url, key, options))
            return clients[-1]

        yield opened
        for client in clients:
            await client.remove_all_channels()
            await client.realtime.close()


async def test_broadcasts_and_presence_reach_every_client(connect: Connect) -> None:
    clients = [await connect() for _ in range(2)]
    ann, bob = (
        Channel(each, "room", key) for each, key in zip(clients, ("ann", "bob"), strict=True)
    )
    await ann.subscribe()
    await bob.subscribe()
    await ann.channel.send_broadcast("said", {"text": "hello"})
    for each in (ann, bob):
        message = await each.event()
        assert (message["event"], message["payload"]) == ("said", {"text": "hello"})
    await ann.channel.track({"mood": "calm"})
    for each in (ann, bob):
        assert await each.event() == ("join", "ann", "calm")
    assert list(bob.channel.presence_state()) == ["ann"]
    await ann.channel.untrack()
    assert await bob.event() == ("leave", "ann", "calm")


async def test_changes_of_rows_reach_their_owner(
    local_supabase: LocalSupabase, connect: Connect
) -> None:
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(SCHEMA)
    client = await connect()
    session = (await client.auth.sign_up(CREDENTIALS)).session
    assert session is not None
    await client.realtime.set_auth(session.access_token)
    channel = Channel(client, "rows", "ann")
    channel.channel.on_postgres_changes(
        "*", channel.events.put_nowait, table="notes", filter="text=like.h%"
    )
    await channel.subscribe()
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute("INSERT INTO notes VALUES (1, gen_random_uuid(), 'hidden')")
    await client.table("notes").insert({"id": 2, "text": "hello"}).execute()
    data = (await channel.event())["data"]
    assert (data["type"], data["table"]) == ("INSERT", "notes")
    assert (data["record"]["id"], data["record"]["text"]) == (2, "hello")


async def test_a_private_chat_goes_on_after_a_new_token_and_a_lost_connection(
    local_supabase: LocalSupabase, connect: Connect
) -> None:
    with psycopg.connect(local_supabase.db_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(
            "CREATE POLICY chat ON realtime.messages TO authenticated"
            " USING (realtime.topic() LIKE 'chat:%') WITH CHECK (realtime.topic() LIKE 'chat:%')"
        )
        for number in range(3):
            connection.execute("SELECT realtime.send('{}', %s::text, 'chat:1')", [number])
    client, stranger = await connect(), await connect()
    session = (await client.auth.sign_up(CREDENTIALS)).session
    assert session is not None
    refused: asyncio.Queue[Any] = asyncio.Queue()
    outside = stranger.channel("chat:1", {"config": {"private": True}})
    await outside.subscribe(lambda state, error: refused.put_nowait((state.value, error)))
    state, error = await asyncio.wait_for(refused.get(), SECONDS)
    assert (state, "do not have permissions" in str(error)) == ("CHANNEL_ERROR", True)

    await client.realtime.set_auth(session.access_token)
    replay = {"since": int(time.time() * 1000) - 60_000, "limit": 2}
    config = {"broadcast": {"ack": True, "self": True, "replay": replay}, "private": True}
    channel = client.channel("chat:1", {"config": config})
    events: asyncio.Queue[Any] = asyncio.Queue()
    states: asyncio.Queue[str] = asyncio.Queue()
    for name in ("1", "2", "said"):
        channel.on_broadcast(name, events.put_nowait)
    channel.on_postgres_changes("INSERT", events.put_nowait, table="notes")
    await channel.subscribe(lambda state, error: states.put_nowait(state.value))
    assert await asyncio.wait_for(states.get(), SECONDS) == "SUBSCRIBED"
    replayed = [await asyncio.wait_for(events.get(), SECONDS) for _ in range(2)]
    assert [each["event"] for each in replayed] == ["1", "2"]

    refreshed = (await client.auth.refresh_session()).session
    assert refreshed is not None
    await client.realtime.set_auth(refreshed.access_token)
    await client.table("notes").insert({"id": 1, "text": "after the refresh"}).execute()
    data = (await asyncio.wait_for(events.get(), SECONDS))["data"]
    assert data["record"]["text"] == "after the refresh"

    await client.realtime._ws_connection.close()
    while await asyncio.wait_for(states.get(), SECONDS) != "SUBSCRIBED":
        pass
    await channel.send_broadcast("said", {"n": 1})
    while (event := await asyncio.wait_for(events.get(), SECONDS)).get("event") != "said":
        assert event["event"] in ("1", "2")  # which are replayed to whoever joins again
    await client.table("notes").insert({"id": 2, "text": "after the loss"}).execute()
    data = (await asyncio.wait_for(events.get(), SECONDS))["data"]
    assert data["record"]["text"] == "after the loss"
