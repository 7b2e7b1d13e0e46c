"""Clients that send a part of an object, and then nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
from tests.gateway.storage.api import SECRET, SERVICE
from tests.gateway.storage.conftest import ServeStorage
from tests.gateway.storage.test_tus import PART, begin

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.storage import service
from amphibase.gateway.storage.settings import StorageSettings

FORM = {"content-type": "multipart/form-data; boundary=x"}
HEAD_OF_FORM = b'--x\r\nContent-Disposition: form-data; name=""; filename="a"\r\n\r\nthe beginning'


async def half(first: bytes) -> AsyncIterator[bytes]:
    yield first
    await asyncio.Event().wait()


async def test_half_sent_objects_hold_no_connections(serve: ServeStorage) -> None:
    api = await serve(db_pool=1)
    await api.bucket()
    url = (await begin(api, "c")).headers["location"].removeprefix("/storage/v1")
    sent: list[tuple[str, str, dict[str, str], bytes]] = [
        ("POST", "/object/b/a", {"content-type": "text/plain"}, b"the beginning"),
        ("POST", "/object/b/b", FORM, HEAD_OF_FORM),
        ("PATCH", url, {**PART, "upload-offset": "0"}, b"01234"),
        ("POST", "/object/list/b", {"content-type": "application/json"}, b"{"),
    ]
    waiting = [
        asyncio.create_task(api.call(method, path, content=half(first), headers=headers))
        for method, path, headers, first in sent
    ]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    assert await asyncio.wait_for(api.names(), 60) == []
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_mounted_alone_it_rejects_them_too(database: str, tmp_path: Any) -> None:
    settings = StorageSettings(file_storage_backend_path=tmp_path)
    tokens = KeyRing([Key.from_secret(SECRET)])
    app = service.StorageApp(settings, database, tokens, body_seconds=0.1)
    transport = httpx.ASGITransport(app)
    headers = {"authorization": f"Bearer {SERVICE}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as own:
        await own.post("/bucket", json={"name": "b"})
        response = await own.post("/object/b/a", content=half(b"the beginning"))
    await app.close()
    assert (response.status_code, response.json()["code"]) == (408, "RequestTimeout")
    assert response.headers["connection"] == "close"
