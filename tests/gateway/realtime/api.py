"""How the tests speak to Realtime."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidStatus

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.keys import api_key
from amphibase.gateway.realtime.service import RealtimeApp
from amphibase.server import UvicornServer

SECRET = "a shared secret of the tests with more than thirty-two bytes"
ANON = api_key(SECRET, "anon")
SERVICE = api_key(SECRET, "service_role")
ANN, BOB = UUID(int=0xA), UUID(int=0xB)
SECONDS = 60


class Wire:
    """One WebSocket of protocol 2.0.0, frame by frame."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._refs = count(1)

    async def push(self, topic: str, event: str, payload: Any, join_ref: str | None = None) -> str:
        """Send a message; return its ref."""
        ref = str(next(self._refs))
        if event == "phx_join":
            join_ref = ref
        await self.connection.send(json.dumps([join_ref, ref, topic, event, payload]))
        return ref

    async def receive(self) -> Any:
        """The next frame: of text as JSON."""
        frame = await asyncio.wait_for(self.connection.recv(), SECONDS)
        return frame if isinstance(frame, bytes) else json.loads(frame)

    async def reply(self, topic: str, event: str, payload: Any) -> Any:
        """Send a message; return the payload of the next frame, which replies to it."""
        ref = await self.push(topic, event, payload)
        frame = await self.receive()
        assert frame[1:4] == [ref, topic, "phx_reply"], frame
        return frame[4]

    async def join(self, topic: str, token: str | None = None, **config: Any) -> Any:
        """Join a topic; return the reply's response, or the reason why not."""
        payload: dict[str, Any] = {"config": config}
        if token is not None:
            payload["access_token"] = token
        reply = await self.reply(topic, "phx_join", payload)
        if reply["status"] == "ok":
            return reply["response"]
        return reply["response"]["reason"]

    async def drain(self, most: int) -> None:
        """Receive frames until the connection ends, and no more than so many."""
        for _ in range(most):
            await self.receive()

    async def is_silent(self) -> bool:
        """Whether nothing comes before the reply to a heartbeat."""
        return bool(await self.reply("phoenix", "heartbeat", {}))


def binary_broadcast(topic: str, event: str, content: bytes) -> bytes:
    """The frame by which JSON of a user comes in a binary one (kind 4 of protocol 2.0.0)."""
    texts = topic.encode(), event.encode(), b""
    return b"".join((bytes([4, *map(len, texts), 1]), *texts, content))


@dataclass
class Api:
    """One running Realtime.

    Attributes:
        url: of the project; Realtime is below `/realtime/v1`.
        database: its URL as the superuser.
        server: ends, as by a signal, where its `should_exit` is set.
    """

    url: str
    tokens: KeyRing
    database: str = field(repr=False)
    service: RealtimeApp
    server: UvicornServer
    client: httpx.AsyncClient

    def token(self, user: UUID = ANN, **claims: Any) -> str:
        """A user's token."""
        standard = {"sub": str(user), "role": "authenticated", "exp": int(time.time()) + 60}
        return self.tokens.issue({**standard, **claims})

    def address(self, token: str | None = ANON, **parameters: str) -> str:
        """The address of the WebSocket."""
        query = httpx.QueryParams({"vsn": "2.0.0", **parameters})
        if token is not None:
            query = query.set("apikey", token)
        return f"{self.url.replace('http', 'ws', 1)}/realtime/v1/websocket?{query}"

    async def run(self, *statements: str) -> None:
        """Run statements as the superuser, each committed alone."""
        connecting = psycopg.AsyncConnection.connect(self.database, autocommit=True)
        async with await connecting as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    async def post(
        self, path: str, body: Any = None, *, token: str = ANON, **options: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}", **options.pop("headers", {})}
        return await self.client.post(path, json=body, headers=headers, **options)


async def rejection(api: Api, token: str | None) -> tuple[int, Any]:
    """The response to a handshake."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect_websocket(api.address(token)):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"null")
