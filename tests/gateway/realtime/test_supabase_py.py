"""Supabase's client for Python walks through its calls of Realtime."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest
from supabase import AsyncClientOptions, acreate_client

from amphibase.testing.supabase import LocalSupabase

SECONDS = 60

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
