"""Uploads that go on after a cut connection."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from tests.backends import ONE_DATABASE
from tests.conftest import settings_on
from tests.serving import serving
from tests.tus_client import CuttingProxy, installed, upload

from amphibase import Amphibase, Settings
from amphibase.backend import Caller
from amphibase.blobs import resumable
from amphibase.models import utc_now
from amphibase.testing.client import Client, open_client

VERSION = {"Tus-Resumable": "1.0.0"}
PART = {**VERSION, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(params=[*ONE_DATABASE, "supabase"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with settings_on(request.param, request, tmp_path) as opened:
        yield opened


def metadata(**values: str) -> dict[str, str]:
    pairs = (
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()
    )
    return {"Upload-Metadata": ",".join(pairs)}


async def begin(client: Client, size: int, **values: str) -> Any:
    headers = {**VERSION, "Upload-Length": str(size), **metadata(**values)}
    return await client.post("/files/tus", headers=headers)


async def send(client: Client, url: str, offset: int, content: bytes) -> Any:
    headers = {**PART, "Upload-Offset": str(offset)}
    return await client.patch(url, content=content, headers=headers)


def uploads(client: Client) -> resumable.ResumableUploads[Caller]:
    db: Amphibase = client._app.state.amphibase
    return db.state.uploads


def unfinished(client: Client) -> Path:
    db: Amphibase = client._app.state.amphibase
    return db.settings.data_dir / "unfinished"


@pytest.fixture
async def ann(client: Client) -> Client:
    return await client.as_user("ann@example.com")


async def test_parts_become_a_file_when_all_have_come(ann: Client) -> None:
    begun = await begin(ann, 10, path="x/a.txt", filetype="text/plain")
    assert begun.status_code == 201
    url = begun.headers["location"]
    assert url.startswith("/files/tus/")
    assert (await send(ann, url, 0, b"01234")).headers["upload-offset"] == "5"
    assert (await ann.get("/files/uploads/x/a.txt")).status_code == 404
    head = await ann.head(url, headers=VERSION)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("5", "10")
    said = metadata(path="x/a.txt", filetype="text/plain")["Upload-Metadata"]
    assert head.headers["upload-metadata"] == said
    last = await send(ann, url, 5, b"56789")
    assert (last.status_code, last.headers["upload-offset"]) == (204, "10")
    assert last.headers["content-location"] == "/files/uploads/x/a.txt"
    read = await ann.get("/files/uploads/x/a.txt")
    assert (read.content, read.headers["content-type"]) == (b"0123456789", "text/plain")
    assert (await ann.head(url, headers=VERSION)).headers["upload-offset"] == "10"


async def test_the_beginning_may_carry_bytes(ann: Client) -> None:
    headers = {**PART, "Upload-Length": "3", **metadata(filename="a.txt")}
    response = await ann.post("/files/tus", headers=headers, content=b"abc")
    assert (response.status_code, response.headers["upload-offset"]) == (201, "3")
    assert (await ann.get(response.headers["content-location"])).content == b"abc"


async def test_the_size_may_be_declared_with_the_last_part(ann: Client) -> None:
    deferred = {**VERSION, "Upload-Defer-Length": "1", **metadata(path="a.txt")}
    begun = await ann.post("/files/tus", headers=deferred)
    assert begun.status_code == 201, begun.text
    url = begun.headers["location"]
    assert (await send(ann, url, 0, b"01234")).headers["upload-offset"] == "5"
    head = await ann.head(url, headers=VERSION)
    assert (head.headers["upload-defer-length"], "upload-length" in head.headers) == ("1", False)
    for wrong, status in (("4", 400), ("x", 400), (str(10**9), 413)):
        headers = {**PART, "Upload-Offset": "5", "Upload-Length": wrong}
        assert (await ann.patch(url, headers=headers, content=b"5")).status_code == status
    last = {**PART, "Upload-Offset": "5", "Upload-Length": "7"}
    assert (await ann.patch(url, headers=last, content=b"5")).headers["upload-offset"] == "6"
    head = await ann.head(url, headers=VERSION)
    assert (head.headers["upload-length"], "upload-defer-length" in head.headers) == ("7", False)
    again = {**PART, "Upload-Offset": "6", "Upload-Length": "9"}
    assert (await ann.patch(url, headers=again, content=b"6")).status_code == 400
    assert (await send(ann, url, 6, b"6")).status_code == 204
    assert (await ann.get("/files/uploads/a.txt")).content == b"0123456"


async def test_an_upload_is_its_owners(ann: Client, client: Client) -> None:
    bob = await client.as_user("bob@example.com")
    url = (await begin(ann, 10)).headers["location"]
    assert (await bob.head(url, headers=VERSION)).status_code == 404
    assert (await send(bob, url, 0, b"x")).status_code == 404
    assert (await bob.delete(url, headers=VERSION)).status_code == 404
    assert (await begin(client, 10)).status_code == 401


async def test_what_does_not_fit_is_rejected(ann: Client) -> None:
    assert (await begin(ann, 10**9)).status_code == 413
    assert (await begin(ann, 10, path="../x")).status_code == 400
    assert (await begin(ann, 10, bucket="nope")).status_code == 404
    old = await ann.post("/files/tus", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    assert (old.status_code, old.headers["tus-version"]) == (412, "1.0.0")
    assert (await ann.post("/files/tus", headers=VERSION)).status_code == 400
    for deferred in (
        {"Upload-Defer-Length": "2"},
        {"Upload-Defer-Length": "1", "Upload-Length": "1"},
    ):
        both = await ann.post("/files/tus", headers={**VERSION, **deferred, **metadata(path="a")})
        assert both.status_code == 400
    broken = {**VERSION, "Upload-Length": "1", "Upload-Metadata": "path !!"}
    assert (await ann.post("/files/tus", headers=broken)).status_code == 400
    url = (await begin(ann, 3)).headers["location"]
    assert (await send(ann, url, 1, b"b")).status_code == 409
    assert (await send(ann, url, 0, b"abcd")).status_code == 413
    assert (await ann.patch(url, headers=VERSION, content=b"a")).status_code == 415
    assert (await ann.head("/files/tus/..%2Fx", headers=VERSION)).status_code >= 400


async def test_a_whole_file_of_a_wrong_type_is_rejected_and_forgotten(ann: Client) -> None:
    url = (await begin(ann, 3, path="a.png", filetype="image/png")).headers["location"]
    assert (await send(ann, url, 0, b"abc")).status_code == 415
    assert (await ann.head(url, headers=VERSION)).status_code == 404


async def test_it_can_be_given_up(ann: Client) -> None:
    url = (await begin(ann, 3)).headers["location"]
    assert (await ann.delete(url, headers=VERSION)).status_code == 204
    assert (await ann.head(url, headers=VERSION)).status_code == 404


async def test_unfinished_ones_expire(ann: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = unfinished(ann)
    url = (await begin(ann, 3)).headers["location"]
    (folder / f"{uuid4().hex}.bytes").touch()  # of a beginning that was killed
    (folder / f"{uuid4().hex}.new").touch()
    monkeypatch.setattr(
        uploads(ann), "_limits", replace(uploads(ann)._limits, lifetime=timedelta(0))
    )
    assert (await ann.head(url, headers=VERSION)).status_code == 404
    uploads(ann).expire()
    assert [path.name for path in folder.iterdir()] == [resumable.CREATION_LOCK]


async def test_a_user_has_so_many_unfinished_ones_and_so_have_all(
    settings: Settings,
) -> None:
    limits = {"max_unfinished_uploads": 3, "max_unfinished_uploads_per_user": 2}
    settings = settings.model_copy(update=limits)
    async with open_client(Amphibase(settings).mount(FastAPI())) as client:
        ann, bob = await client.as_user("ann@example.com"), await client.as_user("bob@example.com")
        created = await asyncio.gather(*(begin(ann, 3, path=f"{n}.txt") for n in range(5)))
        assert sorted(response.status_code for response in created) == [201, 201, 429, 429, 429]
        first, second = (r.headers["location"] for r in created if r.status_code == 201)
        assert (await begin(bob, 3)).status_code == 201
        assert (await begin(bob, 3)).status_code == 429  # the third of all
        assert (await send(ann, first, 0, b"abc")).status_code == 204
        assert (await begin(ann, 3)).status_code == 201
        assert (await ann.delete(second, headers=VERSION)).status_code == 204
        assert (await begin(ann, 3)).status_code == 201


async def test_what_someone_goes_on_with_does_not_expire(ann: Client) -> None:
    url = (await begin(ann, 3)).headers["location"]
    (kept,) = unfinished(ann).glob("*.bytes")
    for at in range(2):
        long_ago = (utc_now() - resumable.LIFETIME / 2).timestamp()
        for path in unfinished(ann).iterdir():
            os.utime(path, (long_ago, long_ago))
        assert (await send(ann, url, at, b"x")).status_code == 204
        assert kept.stat().st_mtime > long_ago
        assert uploads(ann).expire() == 0


async def test_a_plan_that_a_crash_has_cut_is_no_upload(ann: Client) -> None:
    url = (await begin(ann, 3)).headers["location"]
    (plan,) = unfinished(ann).glob("*.json")
    plan.write_bytes(b"")
    assert (await ann.head(url, headers=VERSION)).status_code == 404


class Sending:
    """A request that has sent some bytes, and sends the rest on request."""

    def __init__(self, client: Client, url: str, first: bytes, rest: bytes) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

        async def content() -> AsyncIterator[bytes]:
            yield first
            self.begun.set()
            await self.go_on.wait()
            yield rest

        headers = {**PART, "Upload-Offset": "0"}
        self.response = asyncio.create_task(client.patch(url, content=content(), headers=headers))


async def test_one_request_at_a_time_sends_and_none_throws_away(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "BUSY_SECONDS", 0)
    url = (await begin(ann, 10, path="a.txt")).headers["location"]
    sending = Sending(ann, url, b"01234", b"56789")
    await sending.begun.wait()
    assert (await ann.head(url, headers=VERSION)).headers["upload-offset"] == "5"
    other = await send(ann, url, 5, b"xxxxx")
    assert (other.status_code, other.json()["code"]) == (423, "upload_busy")
    assert (await ann.delete(url, headers=VERSION)).status_code == 423
    sending.go_on.set()
    assert (await sending.response).status_code == 204
    assert (await ann.get("/files/uploads/a.txt")).content == b"0123456789"


async def test_who_comes_back_is_told_how_much_came_when_the_lost_request_has_ended(
    ann: Client,
) -> None:
    url = (await begin(ann, 10, path="a.txt")).headers["location"]
    sending = Sending(ann, url, b"01234", b"567")
    await sending.begun.wait()
    head = asyncio.create_task(ann.head(url, headers=VERSION))
    await asyncio.wait([head], timeout=0.1)
    sending.go_on.set()
    assert (await head).headers["upload-offset"] == "8"


async def test_a_whole_file_is_not_reported_before_it_is_stored(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "BUSY_SECONDS", 0)
    url = (await begin(ann, 5, path="a.txt")).headers["location"]
    sending = Sending(ann, url, b"01234", b"")
    await sending.begun.wait()
    assert (await ann.head(url, headers=VERSION)).status_code == 423
    sending.go_on.set()
    await sending.response
    assert (await ann.head(url, headers=VERSION)).headers["upload-offset"] == "5"


async def test_an_upload_that_is_stored_while_it_is_looked_up_is_found(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (await begin(ann, 3)).headers["location"]
    (info,) = unfinished(ann).glob("*.json")
    read = json.loads

    def store_meanwhile(text: bytes) -> Any:
        monkeypatch.setattr(json, "loads", read)
        info.write_text(json.dumps({**read(text), "done": True}))
        info.with_suffix(".bytes").unlink()
        return read(text)

    monkeypatch.setattr(json, "loads", store_meanwhile)
    assert (await ann.head(url, headers=VERSION)).headers["upload-offset"] == "3"


async def test_a_client_may_ask_what_is_offered(client: Client) -> None:
    offered = await client.options("/files/tus")
    assert offered.headers["tus-version"] == "1.0.0"
    assert offered.headers["tus-max-size"] == str(50 * 1024 * 1024)


@pytest.fixture(scope="module")
def tus_js_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script and its client, installed by npm."""
    return installed(tmp_path_factory.mktemp("tus"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path, {"RATE_LIMITS": "off"}) as url:
        yield url


def test_tus_js_client_resumes_50_mb_that_were_cut_twice(
    server: str, tus_js_client: Path, tmp_path: Path
) -> None:
    content = os.urandom(50 * 1024 * 1024)
    (tmp_path / "big.bin").write_bytes(content)
    body = {"email": "ann@example.com", "password": "correct horse battery"}
    token = httpx.post(f"{server}/auth/sign-up", json=body).json()["access_token"]
    proxy = CuttingProxy(server, [7_000_000, 13_000_000])
    about = json.dumps({"filename": "big.bin", "bucket": "uploads", "path": "tus/big.bin"})
    try:
        upload(tus_js_client, f"{proxy.url}/files/tus", token, str(tmp_path / "big.bin"), about)
    finally:
        proxy.close()
    assert proxy.cut == 2
    read = httpx.get(
        f"{server}/files/uploads/tus/big.bin", headers={"Authorization": f"Bearer {token}"}
    )
    assert read.content == content
