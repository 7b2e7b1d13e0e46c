"""Realtime over a real socket behind the front door."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.gateway.realtime.api import ANON, SECRET, SERVICE, Api, Wire
from websockets.asyncio.client import connect as connect_websocket

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.build import WEBSOCKET_OPTIONS
from amphibase.gateway.keys import ApiKeys
from amphibase.gateway.realtime.service import RealtimeApp
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.server import server

ServeRealtime = Callable[..., Awaitable[Api]]
Connect = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def serve() -> AsyncIterator[ServeRealtime]:
    """Starts Realtime with the settings that are given."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            return await stack.enter_async_context(_serving(**settings))

        yield start


@pytest.fixture
async def api(serve: ServeRealtime) -> Api:
    """Realtime as it comes."""
    return await serve()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens WebSockets of protocol 2.0.0, and closes them after the test."""
    async with AsyncExitStack() as stack:

        async def opened(api: Api, token: str = ANON, **options: Any) -> Wire:
            connecting = connect_websocket(api.address(token), **options)
            return Wire(await stack.enter_async_context(connecting))

        yield opened


@asynccontextmanager
async def _serving(**overrides: Any) -> AsyncIterator[Api]:
    tokens = KeyRing([Key.generate(), Key.from_secret(SECRET)])
    keys = ApiKeys(SECRET, ANON, SERVICE, "sb_publishable_abc", "sb_secret_abc")
    service = RealtimeApp(RealtimeSettings(**overrides), tokens)
    gateway = Gateway({"/realtime/v1": Mount(lambda: service)}, keys)
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        options: dict[str, Any] = {
            "lifespan": "off",
            "handles_signals": False,
            "graceful_seconds": 5,
        }
        running = server(gateway, **options, **WEBSOCKET_OPTIONS)
        serving = asyncio.create_task(running.serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            await service.start()
            async with httpx.AsyncClient(base_url=f"{url}/realtime/v1/api") as client:
                yield Api(url, tokens, service, client)
        finally:
            running.should_exit = True
            await serving
            await service.close()
