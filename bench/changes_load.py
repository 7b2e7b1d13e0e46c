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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
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
SQLITE_INSERT = "INSERT INTO events (id, owner_id, sent) VALUES (?, ?, ?)"
POSTGRES_INSERT = b"INSERT INTO events (id, owner_id, sent) VALUES (%s, %s, %s)"

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


@asynccontextmanager
async def writer(
    client: httpx.AsyncClient, url: str | None, owner: str | None
) -> AsyncIterator[Write]:
    """Yield what adds a row: the server's own route, or with a database's URL this process, on a
    connection that is open before the clock starts."""
    if url is None:

        async def post(sent: float) -> None:
            response = await client.post("/events", json={"sent": sent})
            assert response.status_code == 201, response.text

        yield post
        return
    user = UUID(owner)
    if url.startswith("sqlite"):
        path = make_url(url).database or ""
        connecting = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with closing(connecting) as database:

            async def insert(sent: float) -> None:
                values = uuid4().hex, user.hex, sent
                await asyncio.to_thread(database.execute, SQLITE_INSERT, values)

            yield insert
        return
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def insert_row(sent: float) -> None:
            await connection.execute(POSTGRES_INSERT, (uuid4(), user, sent))

        yield insert_row


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
        `p50` and `p99` in ms; `trip_p99`, the same of the writes themselves; `microseconds` of the
        server's CPU per delivery; `idle`, the share of a core that it takes while nothing is
        written.
    """
    streams = Streams()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as client:
        await streams.open(port, count)
        await asyncio.sleep(IDLE_SECONDS)
        before = cpu_seconds(pid)
        await asyncio.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(pid) - before) / IDLE_SECONDS
        async with writer(client, url, owner) as write:
            before, begin = cpu_seconds(pid), time.monotonic()
            written = int(seconds * rate)
            trips = []
            for number in range(written):
                await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
                sent = time.monotonic()
                await write(sent)
                trips.append(time.monotonic() - sent)
        await until(lambda: len(streams.delays) >= written * count)
        used = cpu_seconds(pid) - before
    await streams.close()
    percentiles = quantiles(streams.delays, n=100)
    return {
        "p50": percentiles[49] * 1000,
        "p99": percentiles[98] * 1000,
        "trip_p99": quantiles(trips, n=100)[98] * 1000,
        "microseconds": used / len(streams.delays) * 1e6,
        "idle": idle,
    }


def main() -> None:
    """Run it as the command line says."""
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(uvloop.run(run(**arguments))))


if __name__ == "__main__":
    main()
