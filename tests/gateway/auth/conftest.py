"""Auth over a real socket, on a project's database that is emptied for each test."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
import uvicorn
from tests.gateway.auth.api import SECRET, Api

from amphibase.gateway.auth.service import AuthService
from amphibase.gateway.auth.settings import AuthSettings, load_auth_settings
from amphibase.gateway.inbox import Inbox
from amphibase.gateway.project import copy
from amphibase.gateway.tokens import Tokens
from amphibase.postgres import Server
from amphibase.tokens import Key

ServeAuth = Callable[..., Awaitable[Api]]


@pytest.fixture(autouse=True)
def _clean_auth_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*AuthSettings.model_fields, "api_external_url"):
        monkeypatch.delenv(f"GOTRUE_{name.upper()}", raising=False)
    monkeypatch.delenv("API_EXTERNAL_URL", raising=False)


@pytest.fixture(scope="session")
async def auth_database(postgres: Server, project_template: str) -> AsyncIterator[str]:
    """A project's database that all tests of Auth share."""
    name = f"auth_{os.getpid()}"
    yield await copy(project_template, name)
    postgres.drop_database(name)


@pytest.fixture
def database(auth_database: str) -> str:
    """The same without any users."""
    with psycopg.connect(auth_database) as connection:
        connection.execute("DELETE FROM auth.users")
        connection.execute("DELETE FROM auth.flow_state")
    return auth_database


@pytest.fixture
async def serve(database: str) -> AsyncIterator[ServeAuth]:
    """Starts Auth with the settings that are given; letters may follow one another at once."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            return await stack.enter_async_context(_serving(database, **settings))

        yield start


@pytest.fixture
async def api(serve: ServeAuth) -> Api:
    """Auth as it comes: addresses need no confirmation."""
    return await serve()


@pytest.fixture
async def careful(serve: ServeAuth) -> Api:
    """Auth where addresses are confirmed by letter."""
    return await serve(mailer_autoconfirm=False)


@asynccontextmanager
async def _serving(
    database: str, behind: Callable[[AuthService], Any] | None = None, **overrides: Any
) -> AsyncIterator[Api]:
    # Named, since asyncio sends small packets at once only where it is told that this is TCP.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = load_auth_settings(
            **{
                "smtp_max_frequency": "0s",
                "api_external_url": url if behind else f"{url}/",
                **overrides,
            }
        )
        tokens = Tokens(Key.generate(), Key.from_secret(SECRET))
        inbox = Inbox()
        service = AuthService(settings, database, tokens, inbox)
        served = behind(service) if behind else service
        config = uvicorn.Config(served, lifespan="off", log_level="error", access_log=False)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([listener]))
        api = Api(url, tokens, inbox, database, "/auth/v1" if behind else "")
        try:
            await service.start()
            yield api
        finally:
            await api.close()
            server.should_exit = True
            await running
            await service.close()
