"""What bad input for files gets: a clear problem, and nothing of it is kept."""

import asyncio
import base64
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from tests.backends import ONE_DATABASE, sql_backend_of
from tests.conftest import SECRET, MakeSettings, prepared_database, settings_on
from tests.http.test_bad_input import check
from tests.object_store import files_url, object_store
from tests.serving import serving

from amphibase import Amphibase, Settings, load_settings
from amphibase.testing.client import Client, open_client

TEN = b"0123456789"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(100)


@pytest.fixture(params=ONE_DATABASE)
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with prepared_database(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture(scope="module", params=ONE_DATABASE)
def shared_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    with settings_on(request.param, request, tmp_path_factory.mktemp("shared")) as settings:
        yield settings


@pytest.fixture
def settings(make_settings: MakeSettings) -> Any:
    return make_settings(max_upload_mb=1)


@pytest.fixture
async def ann(client: Client) -> AsyncIterator[Client]:
    """Ann, who has no more files after the test than the bytes on the disk are of."""
    ann = await client.as_user("ann@example.com")
    yield ann
    blobs = [blob async for blob in sql_backend_of(ann._app).files.blobs.all()]
    assert len(blobs) == len((await ann.get("/files")).json()["items"])


@pytest.fixture(scope="module")
async def shared_ann(shared_settings: Settings) -> AsyncIterator[Client]:
    """An application for all tests in which nothing changes, once of each kind."""
    async with open_client(Amphibase(shared_settings).mount(FastAPI())) as client:
        ann = await client.as_user("ann@example.com")
        await ann.put("/files/uploads/kept.txt", content=TEN)
        yield ann


@pytest.fixture
async def ann_with_a_file(shared_ann: Client) -> AsyncIterator[Client]:
    """Ann, whose only file is `kept.txt` before and after the test, also on the disk."""
    before = (await shared_ann.get("/files")).json()
    yield shared_ann
    assert (await shared_ann.get("/files")).json() == before
    blobs = [blob async for blob in sql_backend_of(shared_ann._app).files.blobs.all()]
    assert len(blobs) == len(before["items"]) == 1


PATHS = [
    "../a",
    "a/../../b",
    "..",
    ".",
    "/etc/passwd",
    "a//b",
    "a/",
    "C:/a",
    "c:a",
    "..\\a",
    "\\\\server\\share",
    "a\x00b",
    "a\tb\r",
    "a\x7fb",
    "a\u202egnp.exe",
    "a\ufffdb",
    "x" * 5000,
    "é" * 600,
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:20]))
async def test_a_path_that_no_file_can_have(ann_with_a_file: Client, path: str) -> None:
    url = "/files/uploads/" + quote(path, safe="").replace(".", "%2E")
    check(await ann_with_a_file.put(url, content=TEN), 400, "invalid_path")
    check(await ann_with_a_file.get(url), 400, "invalid_path")
    form = {"file": ("a.txt", TEN, "text/plain")}
    check(await ann_with_a_file.post("/files", data={"path": path}, files=form), 400)
    for action in ("move", "copy"):
        body = {"bucket": "uploads", "path": "kept.txt", "to_path": path}
        response = await ann_with_a_file.post(f"/files/{action}", json=body)
        check(response, 422 if "\x00" in path or len(path) > 4096 else 400)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "C:\\Windows\\system.ini", "\x01\x02", "..", "", "é" * 300 + ".txt"],
)
async def test_a_name_from_a_browser_becomes_safe(ann: Client, name: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.encode()
        + b'"\r\n\r\n0123456789\r\n--x--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await ann.post("/files", content=body, headers=headers)
    assert response.status_code == 201, response.text
    path = response.json()["path"]
    assert path.count("/") == 1
    assert len(path.encode()) < 300
    assert not set(path) & set("\\:\x01\x02")
    assert ".." not in path


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"nonsense"),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n0123',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n0\r\n--x\r\n',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n0\r\n'
            b'--x\r\nContent-Disposition: form-data; name="nope"\r\n\r\n0\r\n--x--\r\n',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="path"\r\n\r\n\xff\r\n--x--\r\n',
        ),
    ],
)
async def test_a_form_that_is_none_or_is_cut(
    ann_with_a_file: Client, kind: str, body: bytes
) -> None:
    check(await ann_with_a_file.post("/files", content=body, headers={"Content-Type": kind}), 400)


@pytest.mark.parametrize("announced", [b"9", b"11"])
async def test_a_length_that_lies(ann_with_a_file: Client, announced: bytes) -> None:
    async def ten() -> AsyncIterator[bytes]:
        yield TEN

    headers = {"Content-Length": announced.decode()}
    response = await ann_with_a_file.put("/files/uploads/a", content=ten(), headers=headers)
    check(response, 400, "incomplete_upload")


async def test_nothing_at_all_is_a_file(ann: Client) -> None:
    response = await ann.put("/files/uploads/empty", content=b"")
    assert (response.status_code, response.json()["size"]) == (201, 0)
    read = await ann.get("/files/uploads/empty")
    assert (read.status_code, read.content) == (200, b"")
    check(await ann.get("/files/uploads/empty", headers={"Range": "bytes=0-"}), 416)


async def test_more_than_the_limit(ann: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000
            await asyncio.sleep(0)

    too_much = b"x" * (1024 * 1024 + 1)
    check(await ann.put("/files/uploads/a", content=too_much), 413, "payload_too_large")
    check(await ann.put("/files/uploads/a", content=endless()), 413, "payload_too_large")
    form = {"file": ("a", too_much)}
    check(await ann.post("/files", files=form), 413, "payload_too_large")
    assert (await ann.put("/files/uploads/a", content=too_much[:-1])).status_code == 201


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ("image/png", TEN),
        ("image/png", b"GIF89a" + bytes(50)),
        ("image/jpeg", PNG),
        ("application/pdf", PNG),
        ("application/pdf", TEN),
        ("text/plain", PNG),
        ("text/html", b"MZ\x00\x00"),
        ("video/mp4", PNG),
        ("application/json", b"%PDF-1.7"),
    ],
)
async def test_bytes_of_another_type_than_is_declared(
    ann_with_a_file: Client, said: str, content: bytes
) -> None:
    response = await ann_with_a_file.put(
        "/files/uploads/a", content=content, headers={"Content-Type": said}
    )
    check(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "said",
    ["nonsense", "a/b/c", "text/x\ny: z", "text/\xff", "text/\x01", "text/a b", "x/" + "y" * 200],
)
async def test_a_type_that_is_none(ann_with_a_file: Client, said: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: '
    body += said.encode("latin-1") + b"\r\n\r\n0123456789\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    check(
        await ann_with_a_file.post("/files", content=body, headers=headers),
        415,
        "unsupported_media_type",
    )
    about = {
        name: base64.b64encode(value.encode()).decode()
        for name, value in {"path": "a", "filetype": said}.items()
    }
    upload = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "10",
        "Upload-Metadata": ",".join(" ".join(pair) for pair in about.items()),
        "Content-Type": "application/offset+octet-stream",
    }
    response = await ann_with_a_file.post("/files/tus", content=TEN, headers=upload)
    check(response, 415, "unsupported_media_type")


async def test_types_that_are_not_taken(make_settings: MakeSettings) -> None:
    app = Amphibase(make_settings(allowed_types="image/*,text/csv")).mount(FastAPI())
    async with open_client(app) as client:
        ann = await client.as_user("ann@example.com")
        check(await ann.put("/files/uploads/a.txt", content=TEN), 415)
        check(await ann.put("/files/uploads/a.pdf", content=b"%PDF-1.7"), 415)
        assert (await ann.put("/files/uploads/a.png", content=PNG)).status_code == 201
        assert (await ann.put("/files/uploads/a.csv", content=TEN)).status_code == 201


@pytest.mark.parametrize(
    "asked",
    [
        *("nonsense", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=10-"),
        *("bytes=-0", "bytes=--1", "bytes=99999999999999999999999999-"),
    ],
)
async def test_a_range_that_makes_no_sense(ann_with_a_file: Client, asked: str) -> None:
    response = await ann_with_a_file.get("/files/uploads/kept.txt", headers={"Range": asked})
    check(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == "bytes */10"


async def test_a_signature_that_is_not_the_files(ann: Client, client: Client) -> None:
    for path in ("a", "b"):
        await ann.put(f"/files/uploads/{path}", content=TEN)
    signed = (await ann.post("/files/sign", json={"bucket": "uploads", "path": "a"})).json()["url"]
    (token,) = parse_qs(urlsplit(signed).query)["token"]
    changed = ("B" if token[20] == "A" else "A").join((token[:20], token[21:]))
    for url in (f"/a?token={changed}", f"/b?token={token}", "/a?token=x", "/a?token=%00"):
        check(await client.get(f"/files/uploads{url}"), 403, "invalid_signature")
    for seconds in (0, -1, 10**12):
        body = {"bucket": "uploads", "path": "a", "expires_in": seconds}
        check(await ann.post("/files/sign", json=body), 422, "validation_error")


@pytest.mark.parametrize("name", ["", "a b", "../x", "tus", "buckets", "x" * 101, "ä", ".x", "a/b"])
async def test_a_bucket_that_cannot_be(client: Client, name: str) -> None:
    root = await client.as_user("root@example.com", admin=True)
    response = await root.post("/files/buckets", json={"id": name})
    assert response.status_code in (400, 422)
    check(response, response.status_code)


@pytest.mark.parametrize("bucket", ["nope", "x" * 500, "%00", "%0A"])
async def test_a_bucket_that_is_not_there(ann_with_a_file: Client, bucket: str) -> None:
    check(await ann_with_a_file.put(f"/files/{bucket}/a", content=TEN), 404)
    check(await ann_with_a_file.get(f"/files/{bucket}/a"), 404)


async def test_a_full_disk(ann: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        response = await ann.put("/files/uploads/a", content=TEN)
    check(response, 507, "storage_full")
    assert int(response.headers["retry-after"]) >= 1
    check(await ann.get("/files/uploads/a"), 404)
    assert (await ann.put("/files/uploads/a", content=TEN)).status_code == 201


async def test_a_lost_object_store(sqlite_url: str, tmp_path: Path) -> None:
    with object_store() as address:
        settings = load_settings(
            database_url=sqlite_url,
            secret_key=SECRET,
            data_dir=tmp_path,
            files_url=files_url(address, "lost"),
        )
        app = Amphibase(settings).mount(FastAPI())
    async with open_client(app) as client:
        ann = await client.as_user("ann@example.com")
        response = await ann.put("/files/uploads/a", content=TEN)
        check(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in response.text
        check(await ann.get("/files/uploads/a"), 404)


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[str]:
    with serving(server_folder, {"MAX_UPLOAD_MB": "1", "RATE_LIMITS": "off"}) as url:
        yield url


def begin(url: str, length: int, sent: bytes) -> socket.socket:
    """Send the beginning of an upload on a connection of its own."""
    body = {"email": f"{os.urandom(4).hex()}@example.com", "password": "correct horse battery"}
    token = httpx.post(f"{url}/auth/sign-up", json=body).json()["access_token"]
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=60)
    connection.sendall(
        f"PUT /files/uploads/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
        + sent
    )
    return connection


def test_too_much_is_rejected_before_it_is_sent(server: str) -> None:
    with begin(server, 10**9, b"") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert sent_until_closed(connection) < 100


def sent_until_closed(connection: socket.socket) -> int:
    """How many megabytes go out before the other end closes; at most 1000."""
    for sent in range(1000):
        try:
            connection.sendall(b"x" * 1_000_000)
        except OSError:
            return sent
    return 1000


def test_a_client_that_sends_too_much_is_told_so(server: str) -> None:
    body = {"email": "much@example.com", "password": "correct horse battery"}
    token = httpx.post(f"{server}/auth/sign-up", json=body).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    response = httpx.put(f"{server}/files/uploads/much", content=bytes(20_000_000), headers=headers)
    check(response, 413, "payload_too_large")


def test_an_upload_that_is_cut_leaves_nothing(server: str, server_folder: Path) -> None:
    files = server_folder / "data" / "files"
    with begin(server, 10**6, b"x" * 300_000):
        wait_until(lambda: any(path.is_file() for path in files.rglob("*")))
    wait_until(lambda: not any(path.is_file() for path in files.rglob("*")))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
