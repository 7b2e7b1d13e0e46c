"""Uploads that are killed: after a sweep nothing is half there."""

import asyncio
import base64
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.conftest import SECRET

from amphibase import SERVICE, Caller, Settings
from amphibase.backend.files import Finding
from amphibase.sql.backend import SqlBackend

SERVER = """
import asyncio, os, random, signal, socket, sys, time
import uvicorn
from fastapi import FastAPI
from amphibase import Amphibase

app = Amphibase().mount(FastAPI())

async def start_once():
    async with app.router.lifespan_context(app):
        pass

asyncio.run(start_once())  # so that the forks find all modules imported
listening = socket.create_server(("127.0.0.1", 0), backlog=100)
print(listening.getsockname()[1], flush=True)
line = "first"
while line:
    pid = os.fork()
    if pid == 0:
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
        os._exit(1)
    line = sys.stdin.readline()
    time.sleep(random.uniform(0, 0.04))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
"""A server that is killed and begins anew at each line of its input; forked, since starting Python
many times takes longer than all else."""


class Sender:
    """A user who stores, replaces, deletes and resumes files, whatever becomes of the server.

    Attributes:
        expected: for each path the contents that it may have; None stands for no file.
        answers: how many requests were answered.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=60)
        self.expected: dict[str, set[bytes | None]] = {}
        self.responses = 0

    async def sign_up(self, email: str) -> None:
        body = {"email": email, "password": "correct horse battery"}
        response = await self._client.post("/auth/sign-up", json=body)
        token = response.json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"
        self._paths = [f"{email}/{number}.bin" for number in range(3)]

    async def send(self) -> None:
        """Until it is cancelled."""
        while True:
            path = random.choice(self._paths)
            content = os.urandom(random.randrange(1, 1_500_000))
            step = random.choice(
                [self._store, self._store, self._store, self._delete, self._resume]
            )
            before = self.expected.get(path, {None})
            after = None if step == self._delete else content
            self.expected[path] = {*before, after}
            with contextlib.suppress(httpx.TransportError):
                await step(path, content)
                self.expected[path] = {after}

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        response = await self._client.request(method, url, **options)
        assert response.status_code < 500, response.text
        self.responses += 1
        return response

    async def _store(self, path: str, content: bytes) -> None:
        assert (await self._ask("PUT", f"/files/uploads/{path}", content=content)).is_success

    async def _delete(self, path: str, content: bytes) -> None:
        await self._ask("DELETE", f"/files/uploads/{path}")

    async def _resume(self, path: str, content: bytes) -> None:
        tus = {"Tus-Resumable": "1.0.0"}
        part = {**tus, "Content-Type": "application/offset+octet-stream"}
        where = f"path {base64.b64encode(path.encode()).decode()}"
        headers = {**tus, "Upload-Length": str(len(content)), "Upload-Metadata": where}
        url = (await self._ask("POST", "/files/tus", headers=headers)).headers["Location"]
        known = 0
        while known < len(content):
            with contextlib.suppress(httpx.TransportError):
                head = await self._ask("HEAD", url, headers=tus)
                at = int(head.headers["Upload-Offset"])
                assert at >= known
                chunk = content[at : at + 300_000]
                headers = {**part, "Upload-Offset": str(at)}
                if chunk:
                    await self._ask("PATCH", url, content=chunk, headers=headers)
                known = at + len(chunk)


async def ten() -> AsyncIterator[bytes]:
    yield b"0123456789"


async def sweep(backend: SqlBackend, **options: bool) -> Sequence[Finding]:
    swept = backend.files.sweep(grace=timedelta(0), **options)
    return [finding async for finding in swept.findings()]


@pytest.fixture
def environment(prepared_url: str, tmp_path: Path) -> dict[str, str]:
    """What the server runs with: the same database and files as the test."""
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": prepared_url,
        "DATA_DIR": str(tmp_path / "data"),
        "SECRET_KEY": SECRET,
        "RATE_LIMITS": "off",
    }


@pytest.mark.parametrize(
    "kills", [8, pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_nothing_is_half_there_after_many_kills(
    environment: dict[str, str], backend: SqlBackend, tmp_path: Path, kills: int
) -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER),
        env=environment,
        cwd=tmp_path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    senders = [Sender(f"http://127.0.0.1:{port}") for _ in range(3)]
    for number, sender in enumerate(senders):
        await sender.sign_up(f"{number}@example.com")
    sending = [asyncio.create_task(sender.send()) for sender in senders]
    for _ in range(kills):
        enough = sum(sender.responses for sender in senders) + 2
        while sum(sender.responses for sender in senders) < enough:
            failed = [task for task in sending if task.done()]
            assert not failed, failed[0].exception()
            await asyncio.sleep(0.005)
        server.stdin.write(b"\n")
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    for sender in senders:
        await sender.close()
    server.stdin.close()
    await server.wait()

    assert {finding.kind for finding in await sweep(backend, delete_orphans=True)} <= {"orphan"}
    assert await sweep(backend) == []
    stored: dict[str, bytes] = {}
    for file in (await backend.files.list(SERVICE, "uploads")).items:
        opened = await backend.files.open(SERVICE, "uploads", file.path)
        stored[file.path] = b"".join([chunk async for chunk in opened.chunks])
    expected = {path: may for sender in senders for path, may in sender.expected.items()}
    assert stored.keys() <= expected.keys()
    for path, may in expected.items():
        assert stored.get(path) in may
    assert len([blob async for blob in backend.files.blobs.all()]) == len(stored)


async def test_the_sweep_reports_and_deletes_what_it_is_allowed_to(backend: SqlBackend) -> None:
    ann = Caller("authenticated", UUID(int=1))
    for path in ("kept", "lost"):
        await backend.files.put(ann, "uploads", path, ten(), content_type="x/y")
    lost = await backend.files.open(ann, "uploads", "lost")
    orphan = UUID(int=7)
    await backend.files.blobs.write(orphan, ten())
    keys = {blob.version: blob.key async for blob in backend.files.blobs.all()}
    await backend.files.blobs.delete(keys[UUID(lost.file.etag)])

    findings = await sweep(backend)
    assert findings == [
        Finding("orphan", keys[orphan], 10),
        Finding("lost", "uploads/lost", 10),
    ]
    assert await sweep(backend, delete_orphans=True) == findings
    assert await sweep(backend, delete_lost=True) == findings[1:]
    assert await sweep(backend) == []
    assert [file.path for file in (await backend.files.list(ann, "uploads")).items] == ["kept"]


async def test_the_sweep_leaves_what_others_keep_in_the_folder(
    backend: SqlBackend, settings: Settings
) -> None:
    theirs = settings.data_dir / "files" / "photos" / "holiday.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"x")
    assert await sweep(backend, delete_orphans=True) == []
    assert theirs.exists()


async def test_the_sweep_leaves_young_bytes_alone(backend: SqlBackend) -> None:
    await backend.files.blobs.write(UUID(int=7), ten())
    swept = backend.files.sweep(delete_orphans=True)
    assert [finding async for finding in swept.findings()] == []
    assert await backend.files.blobs.exists(UUID(int=7))
