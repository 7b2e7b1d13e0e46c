"""Files of 100 MB, sent and fetched, on Amphibase beside `await file.read()` and FileResponse; and
what they add to the server's memory, with a file of 1 GB once.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import environment, machine, report
from bench.load import Result
from bench.report import Bar, Measurement
from bench.servers import Server, amphibase, install, peer

PEER = "file.read, FileResponse"
MB = 1_000_000
FILE_BYTES = 100 * MB
LARGE_BYTES = 1000 * MB
MEMORY_BAR_MB = 20.0
CHUNK_BYTES = 1 << 20
BOUNDARY = "bench-boundary"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="file.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
OUR_PACKAGES = ("amphibase", "fastapi", "starlette", "uvicorn", "python-multipart", "puremagic")


class Side:
    """One server, and how files are sent to it and fetched from it."""

    def __init__(
        self, server: Server, token: str, path_of: Callable[[dict[str, Any]], str]
    ) -> None:
        self.server = server
        self._token = token
        self._path_of = path_of

    def send(self, size: int) -> tuple[str, float]:
        """Send a file; its path, and the seconds that it took."""
        length = len(HEAD) + size + len(TAIL)
        head = (
            self._head("POST", "/files")
            + (
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
                f"Content-Length: {length}\r\n\r\n"
            ).encode()
        )
        with self._connection() as connection:
            began = time.perf_counter()
            connection.sendall(head + HEAD)
            for chunk in _content(size):
                connection.sendall(chunk)
            connection.sendall(TAIL)
            status, _, body = self._answer(connection)
            seconds = time.perf_counter() - began
        if status != 201:
            raise self.server.error(f"POST /files: {status} {body[:500]!r}")
        return self._path_of(orjson.loads(body)), seconds

    def fetch(self, path: str, size: int) -> float:
        """Fetch a file; the seconds that it took."""
        with self._connection() as connection:
            began = time.perf_counter()
            connection.sendall(self._head("GET", path) + b"\r\n")
            status, length, body = self._answer(connection)
            received = len(body)
            buffer = bytearray(CHUNK_BYTES)
            while received < length:
                count = connection.recv_into(buffer)
                if count == 0:
                    break
                received += count
            seconds = time.perf_counter() - began
        if (status, received) != (200, size):
            raise self.server.error(f"GET {path}: {status}, {received} of {size} bytes")
        return seconds

    def added_memory(self, work: Callable[[], Any]) -> float:
        """How many MB the server's memory rises at the most while the work is done."""
        process = Path(f"/proc/{self.server.process.pid}")
        before = _kilobytes(process, "VmRSS")
        (process / "clear_refs").write_text("5")  # the high water mark begins anew
        work()
        return max(0.0, (_kilobytes(process, "VmHWM") - before) * 1024 / MB)

    def _head(self, method: str, path: str) -> bytes:
        token = f"Authorization: Bearer {self._token}\r\n" if self._token else ""
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{token}".encode()

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=120)

    def _answer(self, connection: socket.socket) -> tuple[int, int, bytes]:
        """Status, length and the first bytes of the body."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                raise self.server.error("the connection ended before a response came")
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        while len(body) < min(length, 4096):
            body += connection.recv(65536)
        return int(status.split()[1]), length, body


def _content(size: int) -> Iterator[bytes]:
    chunk = os.urandom(CHUNK_BYTES)
    for at in range(0, size, CHUNK_BYTES):
        yield chunk[: size - at]


def _kilobytes(process: Path, field: str) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(field)


def our_side(server: Server) -> Side:
    """Sign up the user who owns the files."""
    with httpx.Client() as client:
        person = {"email": "ann@example.com", "password": "correct horse battery 7"}
        token = server.call(client, "POST", "/auth/sign-up", 201, json=person)["access_token"]
    return Side(server, token, lambda file: f"/files/{file['bucket']}/{file['path']}")


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether the bars are met.

    Args:
        seconds: not used: a file takes the time that it takes.
    """
    sending = Measurement("Sending 100 MB in a form", "MB/s", (Bar(PEER, "at least", 1.3),))
    fetching = Measurement("Fetching 100 MB", "MB/s", (Bar(PEER, "at least", 1.5),))
    memory: dict[str, float] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        task = progress.add_task("the peers' environment", total=3 + rounds * 2)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)

        found = machine.facts()
        environment.make()
        machine.pin(0, machine.OTHER_CORES)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        step("starting the servers")
        url = f"sqlite:///{scratch / 'app.db'}"
        (scratch / "peer").mkdir()
        theirs = {"FOLDER": str(scratch / "peer")}
        ours = our_side(
            stack.enter_context(
                amphibase(install(url, scratch, MAX_UPLOAD_MB=str(LARGE_BYTES // MB)))
            )
        )
        other = Side(
            stack.enter_context(peer(PEER, "files_app:app", theirs, scratch)),
            "",
            lambda file: f"/files/{file['path']}",
        )
        for number in range(1, rounds + 1):
            for side in (ours, other):
                step(f"round {number} of {rounds}: {side.server.name}")
                _round(side, sending, fetching, memory)
        step("1 GB")
        path = ""

        def send() -> None:
            nonlocal path
            path, _ = ours.send(LARGE_BYTES)

        memory["sending 1 GB"] = ours.added_memory(send)
        memory["fetching 1 GB"] = ours.added_memory(lambda: ours.fetch(path, LARGE_BYTES))
        versions = {"ours": machine.installed(*OUR_PACKAGES), "peers": environment.versions()}

    console.print("Memory that Amphibase added, at the most, MB (bar: under 20)")
    for what, megabytes in memory.items():
        console.print(f"  {what}: {megabytes:.1f}")
    return report.finish(
        "files",
        [sending, fetching],
        None,
        console,
        also=max(memory.values()) < MEMORY_BAR_MB,
        machine=found,
        versions=versions,
        settings={"rounds": rounds, "bytes": FILE_BYTES},
        memory_mb=memory | {"bar": MEMORY_BAR_MB},
    )


def _round(
    side: Side, sending: Measurement, fetching: Measurement, memory: dict[str, float]
) -> None:
    taken = 0.0
    path = ""

    def send() -> None:
        nonlocal path, taken
        path, taken = side.send(FILE_BYTES)

    def fetch() -> None:
        nonlocal taken
        taken = side.fetch(path, FILE_BYTES)

    for what, work, into in (("sending", send, sending), ("fetching", fetch, fetching)):
        added = side.added_memory(work)
        into.add(side.server.name, FILE_BYTES / MB / taken, Result({}, 0.0, None))
        if side.server.name != PEER:
            memory[f"{what} 100 MB"] = max(added, memory.get(f"{what} 100 MB", 0.0))
