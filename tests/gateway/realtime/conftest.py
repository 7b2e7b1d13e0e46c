"""Realtime over a real socket behind the front door."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
from amphibase.gateway.project import copy, drop
from amphibase.gateway.realtime.service import RealtimeApp
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.gateway.service_roles import role_urls
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

REPLICATION, TRIGGERS = "replication", "triggers"
on_both_sources = pytest.mark.parametrize("source", [REPLICATION, TRIGGERS], indirect=True)
on_triggers = pytest.mark.parametrize("source", [TRIGGERS], indirect=True)

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
def source(request: pytest.FixtureRequest, postgres: Server) -> Iterator[str]:
    """How the database sends its changes: by replication or, where its role may not, by triggers.

    A test that says nothing has replication; `@on_both_sources` runs one on each."""
    name = getattr(request, "param", REPLICATION)
    if name == REPLICATION:
        yield name
        return
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("ALTER ROLE supabase_realtime_admin NOREPLICATION")
        yield name
        connection.execute("ALTER ROLE supabase_realtime_admin REPLICATION")


@pytest.fixture
async def serve(database: str, source: str) -> AsyncIterator[ServeRealtime]:
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
async def nothing_left(database: str) -> AsyncIterator[None]:
    """Expects, after the test, that it has left nothing in the database."""
    yield
    await expect_nothing_left(database)


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
            await expect_nothing_left(database)


async def expect_nothing_left(database: str) -> None:
    """No trigger is left behind, and nothing that keeps the server's log; its process ends a little
    later."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%realtime_outbox')"
            " + (SELECT count(*) FROM realtime.outbox)"
            " + (SELECT count(*) FROM realtime.outbox_readers)"
        )
        assert await cursor.fetchone() == (0,)
        for _ in range(6000):
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            )
            if await cursor.fetchone() == (0,):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("a replication slot is left")
