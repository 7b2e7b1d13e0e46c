"""The channel of a Supabase project that messages go through."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.backends import SECRET
from tests.supabase_projects import settings_of
from websockets.asyncio.server import ServerConnection, serve

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import SERVICE, Topic
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.settings.application import Settings, load_settings
from amphibase.supabase import messages
from amphibase.supabase.backend import SupabaseBackend
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.messages import ProjectMessages
from amphibase.supabase.project import SupabaseProject
from amphibase.testing.supabase import LocalSupabase

TOPIC = Topic("a")()
ANON, SERVICE_KEY = (
    KeyRing([Key.from_secret(SECRET)]).issue({"role": role, "exp": 2**33})
    for role in ("anon", "service_role")
)

Serve = Callable[[ServerConnection], Awaitable[None]]


def settings_on(port: int, **overrides: Any) -> Settings:
    return load_settings(
        **{
            "backend": "supabase",
            "supabase_url": f"http://127.0.0.1:{port}",
            "supabase_anon_key": ANON,
            "supabase_service_key": SERVICE_KEY,
            "secret_key": SECRET,
            **overrides,
        }
    )


@asynccontextmanager
async def listening(handler: Serve, **overrides: Any) -> AsyncIterator[ProjectMessages]:
    """The channel at a server of Realtime that does as it is told."""
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = SupabaseClient(SupabaseProject.of(settings_on(port, **overrides)))
        yield ProjectMessages(client, "secret")
        await client.close()


async def received(channel: ProjectMessages) -> AsyncIterator[Sequence[str]]:
    """Yield what the channel brings."""
    async with channel.listen() as batches:
        async for batch in batches:
            yield batch


async def join(socket: ServerConnection, status: str = "ok") -> dict[str, Any]:
    """Respond to the join of a client; return its frame."""
    frame: dict[str, Any] = json.loads(await socket.recv())
    payload = {"status": status, "response": {"reason": "Unauthorized: no"}}
    await push(socket, "phx_reply", payload, frame["ref"])
    return frame


async def push(socket: ServerConnection, event: str, payload: Any, ref: str | None = None) -> None:
    frame = {"topic": "realtime:secret", "event": event, "payload": payload, "ref": ref}
    await socket.send(json.dumps(frame))


@pytest.mark.parametrize(
    ("event", "payload"),
    [("phx_close", {}), ("phx_error", {}), ("system", {"status": "error"}), (None, None)],
)
async def test_a_channel_that_ends_is_an_error(event: str | None, payload: Any) -> None:
    async def realtime(socket: ServerConnection) -> None:
        await join(socket)
        sent = {"type": "broadcast", "event": "message", "payload": {"text": "käse"}}
        await push(socket, "broadcast", sent)
        if event is not None:
            await push(socket, event, payload)
            await socket.wait_closed()

    async with listening(realtime) as channel:
        batches = received(channel)
        assert await anext(batches) == ("käse",)
        with pytest.raises(Unavailable):
            await anext(batches)


async def test_a_channel_that_does_not_respond_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "HEARTBEAT_SECONDS", 0.05)

    async def realtime(socket: ServerConnection) -> None:
        await join(socket)
        heartbeat = json.loads(await socket.recv())
        assert heartbeat == {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "0"}
        reply = {"topic": "phoenix", "event": "phx_reply", "payload": {}, "ref": "0"}
        await socket.send(json.dumps(reply))
        await socket.wait_closed()

    async with listening(realtime) as channel:
        batches = received(channel)
        assert [await anext(batches), await anext(batches)] == [(), ()]
        with pytest.raises(Unavailable, match="does not respond"):
            await anext(batches)


async def test_a_channel_that_rejects_the_service_is_a_matter_of_settings() -> None:
    async def realtime(socket: ServerConnection) -> None:
        await join(socket, "error")

    async with listening(realtime) as channel:
        with pytest.raises(ConfigurationError, match="Unauthorized: no"):
            await anext(received(channel))


@pytest.mark.parametrize(
    ("key", "in_url", "in_join"),
    [(SERVICE_KEY, ANON, SERVICE_KEY), ("sb_secret_abc", "sb_secret_abc", None)],
    ids=["token", "opaque"],
)
async def test_the_service_key_is_in_no_url_where_it_can_be_elsewhere(
    key: str, in_url: str, in_join: str | None
) -> None:
    async def realtime(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert f"?apikey={in_url}&" in socket.request.path
        frame = await join(socket)
        assert frame["payload"].get("access_token") == in_join
        assert frame["payload"]["config"] == {"private": True}
        await push(socket, "broadcast", {"payload": {"text": "in order"}})

    async with listening(realtime, supabase_service_key=key) as channel:
        assert await anext(received(channel)) == ("in order",)


async def test_the_opaque_keys_of_a_project_carry_messages(supabase: LocalSupabase) -> None:
    if not supabase.secret_key:
        pytest.skip("a project of other keys")
    settings = settings_of(
        supabase,
        supabase_anon_key=supabase.publishable_key,
        supabase_service_key=supabase.secret_key,
    )
    backend = SupabaseBackend(settings, KeyRing([Key.from_secret(SECRET)]))
    async with backend.subscribe(TOPIC, SERVICE) as subscription:
        await backend.publish(TOPIC, "hello", SERVICE)
        assert (await anext(subscription)).payload == "hello"
    await backend.close()
