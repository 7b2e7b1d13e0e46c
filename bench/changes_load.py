"""What runs in a process of its own beside the server: the clients of streams, and who writes rows.

python -m bench.changes_load '{"port": …}'    prints its figures as JSON
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import uvloop
from sqlalchemy.engine import make_url

from bench.realtime_load import cpu_seconds, until

SENT = re.compile(rb'"sent":([\d.]+)')
IDLE_SECONDS = 1.0

Write = Callable[[float], Awaitable[None]]


class Streams:
    """Clients of streams of server-sent events.

    Attributes:
        delays: of each event at each client, in seconds.
    """

    def __init__(self) -> None:
        self.delays: list[float] = []
        self._open = 0
        self._reading: list[asyncio.Task[None]] = []

    async def open(self, port: int, count: int) -> None:
        """Open streams, and wait until each has begun."""
        self._reading = [asyncio.create_task(self._read(port)) for _ in range(count)]
        await until(lambda: self._open == count)

    async def _read(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /events/changes HTTP/1.1\r\nHost: bench\r\n\r\n")
        await reader.readuntil(b"retry: ")
        self._open += 1
        while True:
            event = await reader.readuntil(b"\n\n")
            received = time.monotonic()
            self.delays += [received - float(sent) for sent in SENT.findall(event)]

    async def close(self) -> None:
        """Leave."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)


def writer(client: httpx.AsyncClient, url: str | None, owner: str | None) -> Write:
    """Return what adds a row: the server's own route, or with a database's URL this process."""
    if url is None:

        async def post(sent: float) -> None:
            response = await client.post("/events", json={"sent": sent})
            assert response.status_code == 201, response.text

        return post
    insert = _sqlite_insert if url.startswith("sqlite") else _postgres_insert

    async def write(sent: float) -> None:
        await asyncio.to_thread(insert, url, UUID(owner), sent)

    return write


def _sqlite_insert(url: str, owner: UUID, sent: float) -> None:
    with sqlite3.connect(make_url(url).database or "") as connection:
        values = (uuid4().hex, owner.hex, sent)
        connection.execute("INSERT INTO events (id, owner_id, sent) VALUES (?, ?, ?)", values)
    connection.close()


def _postgres_insert(url: str, owner: UUID, sent: float) -> None:
    with psycopg.connect(url) as connection:
        values = (uuid4(), owner, sent)
        connection.execute("INSERT INTO events (id, owner_id, sent) VALUES (%s, %s, %s)", values)


async def run(
    port: int,
    pid: int,
    count: int,
    seconds: float,
    rate: float,
    token: str = "",
    url: str | None = None,
    owner: str | None = None,
) -> dict[str, float]:
    """Write rows on a fixed schedule; return how long they take to every client.

    Args:
        url: of the database, for rows that this process writes itself.

    Returns:
        `p50` and `p99` in ms; `microseconds` of the server's CPU per delivery; `idle`, the share of
        a core that it takes while nothing is written.
    """
    streams = Streams()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as client:
        write = writer(client, url, owner)
        await streams.open(port, count)
        await asyncio.sleep(IDLE_SECONDS)
        before = cpu_seconds(pid)
        await asyncio.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(pid) - before) / IDLE_SECONDS
        before, begin = cpu_seconds(pid), time.monotonic()
        written = int(seconds * rate)
        for number in range(written):
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            await write(time.monotonic())
        await until(lambda: len(streams.delays) >= written * count)
        used = cpu_seconds(pid) - before
    await streams.close()
    percentiles = quantiles(streams.delays, n=100)
    return {
        "p50": percentiles[49] * 1000,
        "p99": percentiles[98] * 1000,
        "microseconds": used / len(streams.delays) * 1e6,
        "idle": idle,
    }


def main() -> None:
    """Run it as the command line says."""
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(uvloop.run(run(**arguments))))


if __name__ == "__main__":
    main()
