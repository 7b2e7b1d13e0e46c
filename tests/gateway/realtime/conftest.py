"""Realtime over a real socket behind the front door."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from tests.gateway.conftest import PASSWORD
from tests.gateway.realtime.api import ANON, SECRET, SERVICE, Api, Wire
from websockets.asyncio.client import connect as connect_websocket

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.build import WEBSOCKET_OPTIONS
from amphibase.gateway.keys import ApiKeys
from amphibase.gateway.project import copy, drop, role_urls
from amphibase.gateway.realtime.service import RealtimeApp
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.postgres import Server
from amphibase.server import server

NO_POLICIES = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT policyname FROM pg_policies WHERE schemaname = 'realtime' LOOP
        EXECUTE format('DROP POLICY %I ON realtime.messages', found.policyname);
    END LOOP;
END $$
"""

ServeRealtime = Callable[..., Awaitable[Api]]
Connect = Callable[..., Awaitable[Wire]]


@pytest.fixture(scope="session")
async def realtime_database(postgres: Server, project_template: str) -> AsyncIterator[str]:
    """A project's database that all tests of Realtime share."""
    url = await copy(project_template, f"realtime_{os.getpid()}")
    yield url
    await drop(url)


@pytest.fixture
def database(realtime_database: str) -> str:
    """The same without any policies and tables of a test."""
    with psycopg.connect(realtime_database) as connection:
        connection.execute(NO_POLICIES)
        connection.execute("DROP SCHEMA IF EXISTS shop CASCADE")
        connection.execute(
            "ALTER PUBLICATION supabase_realtime SET (publish_via_partition_root = false)"
        )
        connection.execute("CREATE SCHEMA shop")
        connection.execute("GRANT USAGE ON SCHEMA shop TO anon, authenticated, service_role")
    return realtime_database


@pytest.fixture
async def serve(database: str) -> AsyncIterator[ServeRealtime]:
    """Starts Realtime with the settings that are given."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            return await stack.enter_async_context(serving(database, **settings))

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
async def serving(database: str, **overrides: Any) -> AsyncIterator[Api]:
    tokens = KeyRing([Key.generate(), Key.from_secret(SECRET)])
    keys = ApiKeys(SECRET, ANON, SERVICE, "sb_publishable_abc", "sb_secret_abc")
    role = role_urls(database, PASSWORD).realtime_admin
    service = RealtimeApp(RealtimeSettings(**overrides), role, tokens)
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
        task = asyncio.create_task(running.serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            await service.start()
            async with httpx.AsyncClient(base_url=f"{url}/realtime/v1/api") as client:
                yield Api(url, tokens, database, service, running, client)
        finally:
            running.should_exit = True
            await task
            await service.close()
            await _expect_no_slot(database)


async def _expect_no_slot(database: str) -> None:
    """Nothing that keeps the server's log is left behind; its process ends a little later."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for _ in range(500):
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            )
            if await cursor.fetchone() == (0,):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("a replication slot is left")
