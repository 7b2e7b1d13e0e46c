"""Supabase's client for Python walks through its calls of Realtime."""

import asyncio
from typing import Any

from supabase import acreate_client

from amphibase.testing.supabase import LocalSupabase

SECONDS = 10


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


async def test_broadcasts_and_presence_reach_every_client(local_supabase: LocalSupabase) -> None:
    clients = [
        await acreate_client(local_supabase.url, local_supabase.publishable_key) for _ in range(2)
    ]
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
    for client in clients:
        await client.remove_all_channels()
