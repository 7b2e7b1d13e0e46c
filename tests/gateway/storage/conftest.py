"""Storage over a real socket behind the front door; each test begins with no file at all."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn
from tests.gateway.conftest import PASSWORD
from tests.gateway.storage.api import ANON, SECRET, SERVICE, Api

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.keys import ApiKeys, s3_credentials
from amphibase.gateway.project import copy
from amphibase.gateway.service_roles import role_urls
from amphibase.gateway.storage.service import StorageApp
from amphibase.gateway.storage.settings import StorageSettings
from amphibase.postgres import Server
from amphibase.server import KEEP_ALIVE_SECONDS

ServeStorage = Callable[..., Awaitable[Api]]

NO_POLICIES = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT policyname, tablename FROM pg_policies WHERE schemaname = 'storage' LOOP
        EXECUTE format('DROP POLICY %I ON storage.%I', found.policyname, found.tablename);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
async def storage_database(postgres: Server, project_template: str) -> AsyncIterator[str]:
    """A project's database that all tests of Storage share."""
    name = f"storage_{os.getpid()}"
    yield await copy(project_template, name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def owner(storage_database: str) -> Iterator[psycopg.Connection]:
    """A connection to it as the superuser."""
    with psycopg.connect(storage_database, autocommit=True) as connection:
        connection.execute("SET storage.allow_delete_query = 'true'")
        yield connection


@pytest.fixture
def database(storage_database: str, owner: psycopg.Connection) -> str:
    """The same without any buckets, files and policies."""
    owner.execute(
        "DELETE FROM storage.objects; DELETE FROM storage.s3_multipart_uploads;"
        "DELETE FROM storage.buckets"
    )
    owner.execute(NO_POLICIES)
    return storage_database


@pytest.fixture
async def serve(database: str, tmp_path: Path) -> AsyncIterator[ServeStorage]:
    """Starts Storage with the settings that are given."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            return await stack.enter_async_context(_serving(database, tmp_path, **settings))

        yield start


@pytest.fixture(scope="session")
async def _shared(
    storage_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    async with _serving(storage_database, tmp_path_factory.mktemp("storage")) as api:
        yield api


@pytest.fixture
def api(database: str, _shared: Api) -> Api:
    """Storage as it comes."""
    for path in _shared.blobs():
        path.unlink()
    return _shared


@asynccontextmanager
async def _serving(database: str, folder: Path, **overrides: Any) -> AsyncIterator[Api]:
    settings = StorageSettings(file_storage_backend_path=folder, **overrides)
    tokens = KeyRing([Key.generate(), Key.from_secret(SECRET)])
    keys = ApiKeys(SECRET, ANON, SERVICE, "sb_publishable_abc", "sb_secret_abc")
    role = role_urls(database, PASSWORD).storage_admin
    service = StorageApp(settings, role, tokens, s3=s3_credentials(keys))
    gateway = Gateway({"/storage/v1": Mount(lambda: service)}, keys)
    # By its protocol asyncio knows that it may send without waiting (TCP_NODELAY).
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        config = uvicorn.Config(
            gateway,
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        api = Api(url, tokens, database, folder)
        try:
            await service.start()
            yield api
        finally:
            await api.close()
            server.should_exit = True
            await running
            await service.close()
