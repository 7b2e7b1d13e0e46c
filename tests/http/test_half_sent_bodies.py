"""Clients that send a part of a body, and then nothing."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from tests.conftest import MakeSettings

from amphibase import Amphibase, Session
from amphibase.testing.client import Client, open_client

TUS = {"Tus-Resumable": "1.0.0"}
FORM = "multipart/form-data; boundary=x"
HEAD_OF_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nthe beginning'
)
ROUTES: list[tuple[str, str, dict[str, str], bytes]] = [
    ("POST", "/auth/sign-in", {"Content-Type": "application/json"}, b'{"email": '),
    ("PATCH", "/users/me", {"Content-Type": "application/json"}, b'{"name": '),
    ("PUT", "/files/uploads/a.txt", {"Content-Type": "text/plain"}, b"the beginning"),
    ("POST", "/files", {"Content-Type": FORM}, HEAD_OF_FORM),
    ("POST", "/titles", {"Content-Type": "application/json"}, b'{"title": '),
]


class Title(BaseModel):
    title: str


async def half(first: bytes) -> AsyncIterator[bytes]:
    yield first
    await asyncio.Event().wait()


async def create_upload(client: Client, size: int) -> str:
    path = base64.b64encode(b"a.txt").decode()
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": f"path {path}"}
    created = await client.post("/files/tus", headers=headers)
    location: str = created.headers["location"]
    return location


@pytest.fixture
async def open_app(make_settings: MakeSettings) -> AsyncIterator[Any]:
    """Opens an application whose clients may fall silent for so many seconds."""
    contexts = []

    async def open_with(body_seconds: float, **options: Any) -> Client:
        settings = make_settings(**options).model_copy(update={"body_timeout": body_seconds})
        app = FastAPI()
        db = Amphibase(settings)

        @app.post("/titles")
        async def add(title: Title, session: Session) -> None: ...

        context = open_client(db.mount(app))
        contexts.append(context)
        return await (await context.__aenter__()).as_user("ann@example.com")

    yield open_with
    for context in contexts:
        await context.__aexit__(None, None, None)


@pytest.mark.parametrize(("method", "path", "headers", "first"), ROUTES)
async def test_a_body_that_does_not_go_on_is_408(
    open_app: Any, method: str, path: str, headers: dict[str, str], first: bytes
) -> None:
    client = await open_app(0.1)
    response = await client.request(method, path, headers=headers, content=half(first))
    assert (response.status_code, response.json()["code"]) == (408, "request_timeout")
    assert response.headers["connection"] == "close"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert (await client.get("/files")).json()["items"] == []


async def test_a_silent_sender_of_an_upload_loses_it_to_the_next(open_app: Any) -> None:
    client = await open_app(0.1)
    url = await create_upload(client, 10)
    part = {**TUS, "Content-Type": "application/offset+octet-stream"}
    headers = {**part, "Upload-Offset": "0"}
    silent = await client.patch(url, headers=headers, content=half(b"01234"))
    assert silent.status_code == 408
    rest = await client.patch(url, headers={**part, "Upload-Offset": "5"}, content=b"56789")
    assert (rest.status_code, rest.headers["upload-offset"]) == (204, "10")
    assert (await client.get("/files/uploads/a.txt")).content == b"0123456789"


async def test_a_body_that_goes_on_slowly_is_read_to_its_end(open_app: Any) -> None:
    client = await open_app(2)

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x"
            await asyncio.sleep(0.2)

    response = await client.put("/files/uploads/a.txt", content=slow())
    assert (response.status_code, response.json()["size"]) == (201, 12)


async def test_half_sent_bodies_hold_no_connections(open_app: Any) -> None:
    client = await open_app(60, pool_size=2)
    url = await create_upload(client, 10)
    part = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    routes = [*ROUTES, ("PATCH", url, part, b"01234")]
    waiting = [
        asyncio.create_task(client.request(method, path, headers=headers, content=half(first)))
        for method, path, headers, first in routes
        for _ in range(3)
    ]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting[:-2])  # the upload has one sender at a time
    response: httpx.Response = await asyncio.wait_for(client.patch("/users/me", json={}), 60)
    assert response.status_code == 200
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
