"""The Data API, mounted in an application of one's own."""

import asyncio

import httpx
from fastapi import FastAPI
from tests.gateway.conftest import ProjectDatabase

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.rest.admin import AdminApp
from amphibase.gateway.rest.service import RestApp
from amphibase.gateway.rest.settings import RestSettings

KEY = Key.from_secret("a secret that is long enough to sign tokens with HS256")


async def test_a_database_that_is_not_there_is_503_and_says_when_to_come_again() -> None:
    url = "postgresql://authenticator:hush@127.0.0.1:1/app"
    app = FastAPI()
    app.mount("/data", RestApp(RestSettings(), url, KeyRing([KEY])))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        response = await client.get("/data/notes")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["code"] == "PGRST000"
    assert "hush" not in response.text


async def test_the_admin_server_says_whether_the_data_api_is_ready(
    project: ProjectDatabase,
) -> None:
    service = RestApp(RestSettings(), project.authenticator, KeyRing([KEY]))
    admin = httpx.ASGITransport(AdminApp(lambda: service.is_ready))
    async with httpx.AsyncClient(transport=admin, base_url="http://test") as client:

        async def status(path: str) -> int:
            response = await client.get(path)
            assert response.content == b""
            return response.status_code

        assert [await status(path) for path in ("/live", "/ready", "/config")] == [200, 503, 404]
        await service.start()
        assert await status("/ready") == 200
        await service.close()
        assert [await status(path) for path in ("/live", "/ready")] == [200, 503]


async def test_what_is_closed_does_not_begin_again(project: ProjectDatabase) -> None:
    service = RestApp(RestSettings(), project.authenticator, KeyRing([KEY]))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(service), base_url="http://test"
    ) as client:
        assert (await client.get("/")).status_code == 200
        await service.close()
        tasks = asyncio.all_tasks()
        assert (await client.get("/")).status_code == 503
        assert asyncio.all_tasks() == tasks
