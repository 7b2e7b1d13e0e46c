"""What runs in processes of its own beside the server: the clients, and who writes rows.

python -m bench.realtime_load SCENARIO '{"port": …}'    prints its figures as JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import jwt
import psycopg
import uvloop

from amphibase.settings.published_secrets import CLI_JWT_SECRET
from bench.realtime_client import Client, open_client

TOPIC = "realtime:bench"
SOCKET = "/realtime/v1/websocket?vsn=2.0.0&apikey="
SECONDS = 60.0
SETTLE_SECONDS = 0.5
IDLE_SECONDS = 0.01
"""After which a server has done what follows the last delivery."""
REPORTED_SECONDS = 11.0
"""After which an idle session of Postgres has reported what it did."""
MESSAGE = {"type": "broadcast", "event": "m", "payload": {"text": "x" * 150}}
INSERT = b"INSERT INTO bench.%s (owner, half, sent) VALUES (%%s, %%s, %%s)"

Figures = dict[str, float]


def token(number: int) -> str:
    """The token of a user with claims of their own."""
    claims = {
        "sub": str(UUID(int=number)), "role": "authenticated", "exp": int(time.time()) + 3600,
        "email": f"user{number}@example.com", "half": number % 2,
    }  # fmt: skip
    return jwt.encode(claims, CLI_JWT_SECRET, "HS256")


def cpu_seconds(pid: int) -> float:
    """How long all threads of a process have run (proc(5))."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in tasks) / 1e9


def resident_kilobytes(pid: int) -> int:
    """The memory of a process (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1])


class Subscribers:
    """Clients that have joined the topic, and what they receive.

    Attributes:
        count: of messages of the event that counts.
        times: of each of them, when it was received and what it says in `sent`.
    """

    def __init__(self, event: bytes) -> None:
        self._event = event
        self._ready = 0
        self.clients: list[Client] = []
        self.count = 0
        self.times: list[tuple[float, float]] = []

    async def join(
        self, port: int, count: int, config: dict[str, Any], ready: bytes, signed: bool
    ) -> None:
        """Open connections and join; wait until each has received the message that says so."""
        for number in range(count):
            text = token(number if signed else 0)
            client = await open_client(port, SOCKET + text, lambda data: self._receive(data, ready))
            self.clients.append(client)
            client.push(TOPIC, "phx_join", {"config": config})
        await until(lambda: self._ready == count)

    def _receive(self, data: bytes, ready: bytes) -> None:
        if self._event in data:
            self.count += 1
            place = data.find(b'"sent":')
            if place > 0:
                sent = float(data[place + 7 : data.index(b"}", place)])
                self.times.append((time.monotonic(), sent))
        elif ready in data:
            self._ready += 1

    async def received(self, count: int) -> None:
        """Wait until they have received so many messages together."""
        await until(lambda: self.count >= count)


async def until(is_reached: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + SECONDS
    while not is_reached():
        if time.monotonic() > end:
            raise TimeoutError("the messages did not come")
        await asyncio.sleep(0.002)


async def subscribe(port: int, count: int, table: str) -> Subscribers:
    """Subscribe to the changes of a table, each client with claims of its own."""
    subscribers = Subscribers(b'"postgres_changes",{"ids"')
    binding = {"event": "*", "schema": "bench", "table": table}
    config = {"postgres_changes": [binding]}
    await subscribers.join(port, count, config, b"Subscribed to PostgreSQL", signed=True)
    await asyncio.sleep(SETTLE_SECONDS)
    return subscribers


async def write(url: str, table: str, seconds: float, rate: float) -> Figures:
    """Insert rows on a fixed schedule; return the median of the round trips and their p99, in
    ms."""
    statement = INSERT % table.encode()
    trips = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        begin = time.monotonic()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            sent = time.monotonic()
            await connection.execute(statement, [UUID(int=number % 1000), number % 2, sent])
            trips.append(time.monotonic() - sent)
    return {"trip": median(trips) * 1000, "trip_p99": quantiles(trips, n=100)[98] * 1000}


async def insert(port: int, url: str, seconds: float, rate: float) -> Figures:
    """The bare round trip of an INSERT."""
    return await write(url, "notes", seconds, rate)


async def latency(port: int, url: str, count: int, seconds: float, rate: float) -> Figures:
    """From the start of an INSERT to a subscriber, half of whom may see each row, in ms."""
    subscribers = await subscribe(port, count, "halves")
    arguments = {"port": port, "url": url, "seconds": seconds, "rate": rate}
    command = [sys.executable, "-m", "bench.realtime_load", "writer", json.dumps(arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    expected = int(seconds * rate) * count // 2
    await subscribers.received(expected)
    delays = sorted((received - sent) * 1000 for received, sent in subscribers.times)
    parts = quantiles(delays, n=100)
    return {"p50": parts[49], "p99": parts[98], **json.loads(output)}


async def writer(port: int, url: str, seconds: float, rate: float) -> Figures:
    """Who writes what `latency` measures."""
    return await write(url, "halves", seconds, rate)


async def bursts(port: int, url: str, count: int, changes: int, rounds: int) -> Figures:
    """Changes a second where each row is of one subscriber, from commit to the last delivery."""
    subscribers = await subscribe(port, count, "notes")
    owners = [UUID(int=number * 7 % count) for number in range(changes)]
    rates = []
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for _ in range(rounds):
            before = subscribers.count
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(INSERT % b"notes", [[each, 0, 0] for each in owners])
            begin = time.monotonic()
            await subscribers.received(before + changes)
            rates.append(changes / (time.monotonic() - begin))
    return {"rate": median(rates)}


async def queries(port: int, url: str, count: int, changes: int, rounds: int) -> Figures:
    """How many transactions the database has for each change that everybody may see."""
    subscribers = await subscribe(port, count, "open_notes")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        before = await _transactions(connection)
        for number in range(rounds):
            await connection.execute(
                b"INSERT INTO bench.open_notes (owner, half, sent)"
                b" SELECT gen_random_uuid(), 0, 0 FROM generate_series(1, %s)",
                [changes],
            )
            expected = (number + 1) * changes * count
            await subscribers.received(expected)
        after = await _transactions(connection)
    return {"queries": (after - before) / (rounds * changes)}


async def _transactions(connection: psycopg.AsyncConnection[Any]) -> int:
    await asyncio.sleep(REPORTED_SECONDS)
    cursor = await connection.execute(
        b"SELECT xact_commit + xact_rollback FROM pg_stat_database"
        b" WHERE datname = current_database()"
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def broadcast(
    servers: dict[str, dict[str, int]], count: int, seconds: float, rate: float
) -> Figures:
    """Microseconds of each server for each delivery of a broadcast; they send in turns.

    Args:
        servers: of each its `port`, its `pid`, and how many further sockets do not read (`slow`).
        rate: of the broadcasts of each.
    """
    subscribers = {name: Subscribers(b'"broadcast"') for name in servers}
    for name, server in servers.items():
        joined = subscribers[name]
        await joined.join(server["port"], count + server["slow"], {}, b'"phx_reply"', signed=False)
        for client in joined.clients[count:]:
            client.transport.pause_reading()
    await asyncio.sleep(SETTLE_SECONDS)
    used, sent = dict.fromkeys(servers, 0.0), int(seconds * rate)
    for _ in range(sent):
        for name, server in servers.items():
            used[name] += await _broadcast_once(subscribers[name], server["pid"], count)
            await asyncio.sleep(1 / rate / len(servers))
    return {
        name: used[name] * 1e6 / (sent * (count + server["slow"] - 1))
        for name, server in servers.items()
    }


async def _broadcast_once(subscribers: Subscribers, pid: int, count: int) -> float:
    """Send a broadcast from one client to the others; return the server's CPU seconds."""
    before = cpu_seconds(pid)
    expected = subscribers.count + count - 1
    subscribers.clients[0].push(TOPIC, "broadcast", MESSAGE)
    await subscribers.received(expected)
    await asyncio.sleep(IDLE_SECONDS)
    return cpu_seconds(pid) - before


async def idle(port: int, pid: int, count: int) -> Figures:
    """Kilobytes of the server for each connection that has joined a channel."""
    first = Subscribers(b"-")
    await first.join(port, 20, {}, b'"phx_reply"', signed=False)
    await asyncio.sleep(SETTLE_SECONDS)
    before = resident_kilobytes(pid)
    subscribers = Subscribers(b"-")
    await subscribers.join(port, count, {}, b'"phx_reply"', signed=False)
    await asyncio.sleep(SETTLE_SECONDS)
    return {"kilobytes": (resident_kilobytes(pid) - before) / count}


async def writers(port: int, url: str, count: int, seconds: float) -> Figures:
    """Inserts a second of four writers in a closed loop, beside so many subscribers."""
    subscribers = await subscribe(port, count, "notes") if count else None
    end = time.monotonic() + seconds

    async def insert_all() -> int:
        number = 0
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while time.monotonic() < end:
                await connection.execute(INSERT % b"notes", [UUID(int=number % 1000), 0, 0])
                number += 1
        return number

    rate = sum(await asyncio.gather(*(insert_all() for _ in range(4)))) / seconds
    del subscribers
    return {"rate": rate}


SCENARIOS: dict[str, Callable[..., Coroutine[Any, Any, Figures]]] = {
    each.__name__: each
    for each in (insert, latency, writer, bursts, queries, broadcast, idle, writers)
}


if __name__ == "__main__":
    name, text = sys.argv[1:]
    print(json.dumps(uvloop.run(SCENARIOS[name](**json.loads(text)))))
