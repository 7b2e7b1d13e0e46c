"""Auth over a real socket, on a project's database that is emptied for each test."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.gateway.auth.api import SECRET, Api
from tests.gateway.auth.hooks import Receiver
from tests.gateway.conftest import PASSWORD
from tests.gateway.shared_database import shared_database
from tests.third_parties import serving

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.database.connection import Connection, Message
from amphibase.gateway.auth.audit import AuditLog
from amphibase.gateway.auth.service import AuthApp
from amphibase.gateway.auth.settings import AuthSettings, load_auth_settings
from amphibase.gateway.inbox import Inbox
from amphibase.gateway.project import copy
from amphibase.gateway.service_roles import role_urls
from amphibase.postgres import Server
from amphibase.server import KEEP_ALIVE_SECONDS

ServeAuth = Callable[..., Awaitable[Api]]


VARIABLES = {
    "API_EXTERNAL_URL",
    "GOTRUE_API_EXTERNAL_URL",
    *(f"GOTRUE_{name.upper()}" for name in AuthSettings.model_fields),
}


@pytest.fixture(autouse=True)
def _clean_auth_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES & os.environ.keys():
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
async def auth_database(postgres: Server, project_template: str) -> AsyncIterator[str]:
    """A project's database that all tests of Auth share."""
    name = f"auth_{os.getpid()}"
    url = await copy(project_template, name)
    async with shared_database(role_urls(url, PASSWORD).auth_admin, "amphibase.gateway.auth.core"):
        yield url
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def owner(auth_database: str) -> Iterator[psycopg.Connection]:
    """A connection to it as the superuser."""
    with psycopg.connect(auth_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def database(auth_database: str, owner: psycopg.Connection) -> str:
    """The same without any users."""
    owner.execute(
        "DELETE FROM auth.users; DELETE FROM auth.flow_state; DELETE FROM auth.audit_log_entries;"
        "DELETE FROM auth.pending_sign_ups"
    )
    return auth_database


class AuthServer:
    """One server for all tests; each Auth has a path of its own on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._apps: dict[str, ASGIApp] = {}
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = "/" + scope["path"].split("/")[1]
        await self._apps[root]({**scope, "root_path": root}, receive, send)

    @asynccontextmanager
    async def serving(
        self, database: str, behind: Callable[[AuthApp], ASGIApp] | None, **overrides: Any
    ) -> AsyncIterator[Api]:
        root = f"/{next(self._numbers)}"
        url, below = self.url + root, "/auth/v1" if behind else ""
        frequencies = {"smtp_max_frequency": "0s", "sms_max_frequency": "0s"}
        defaults = {**frequencies, "api_external_url": url + below}
        settings = load_auth_settings(**{**defaults, **overrides})
        tokens = KeyRing([Key.generate(), Key.from_secret(SECRET)])
        inbox = Inbox()
        auth_url = role_urls(database, PASSWORD).auth_admin
        service = AuthApp(settings, auth_url, tokens, inbox)
        self._apps[root] = behind(service) if behind else service
        api = Api(url, tokens, inbox, database, below)
        try:
            yield api
        finally:
            await api.close()
            await service.close()


@pytest.fixture(scope="session")
async def auth_server() -> AsyncIterator[AuthServer]:
    # Named, since asyncio sends small packets at once only where it is told that this is TCP.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        auth_server = AuthServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            auth_server,
            lifespan="off",
            log_level="error",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([listener]))
        yield auth_server
        server.should_exit = True
        await running


@pytest.fixture
async def serve(auth_server: AuthServer, database: str) -> AsyncIterator[ServeAuth]:
    """Starts Auth with the settings that are passed; emails may follow one another at once."""
    async with AsyncExitStack() as stack:

        async def start(behind: Callable[[AuthApp], ASGIApp] | None = None, **settings: Any) -> Api:
            return await stack.enter_async_context(
                auth_server.serving(database, behind, **settings)
            )

        yield start


@pytest.fixture
async def api(serve: ServeAuth) -> Api:
    """Auth as it comes: addresses need no confirmation."""
    return await serve()


@pytest.fixture
async def confirming(serve: ServeAuth) -> Api:
    """Auth where addresses are confirmed by email."""
    return await serve(mailer_autoconfirm=False)


@pytest.fixture
def function(database: str) -> Iterator[Callable[[str], None]]:
    """Create the function that the hooks of a test call, from its body in PL/pgSQL."""
    with psycopg.connect(database, autocommit=True) as connection:

        def create(body: str) -> None:
            connection.execute(
                "CREATE FUNCTION public.the_hook(event jsonb) RETURNS jsonb LANGUAGE plpgsql"
                f" AS $$ BEGIN {body} END $$".encode()
            )
            connection.execute("GRANT USAGE ON SCHEMA public TO supabase_auth_admin")

        yield create
        connection.execute("DROP FUNCTION IF EXISTS public.the_hook(jsonb)")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/", receiver.receive, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with serving(app, listener):
            yield receiver


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each round trip of all connections, how many statements it has executed."""
    executed: list[int] = []
    send = Connection.send

    async def note(self: Connection, messages: list[Message], **options: Any) -> Any:
        executed.append(len(messages))
        return await send(self, messages, **options)

    async def leave(self: AuditLog) -> None:
        """Sweep nothing, which may happen at any time."""

    monkeypatch.setattr(Connection, "send", note)
    monkeypatch.setattr(AuditLog, "sweep", leave)
    return executed
