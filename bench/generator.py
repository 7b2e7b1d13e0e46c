"""The load generator's own process: carries out a plan that `bench.load` hands it.

Connections are raw asyncio protocols on uvloop. Requests are bytes prepared beforehand. Responses
are parsed no further than their status line and Content-Length, or to the last chunk. Every
response must be 200 or 201: any other ends the run.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import sys
import time
from collections import deque
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.load import LoadError, Plan, Result, Stream, StreamResult

DRAIN_SECONDS = 10.0
SUCCESS = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")
LAST_CHUNK = b"0\r\n\r\n"


class Lane:
    """One stream while it runs: its connections, its schedule, the latencies it collected."""

    def __init__(self, stream: Stream, begin: float, end: float, failed: asyncio.Future[None]):
        self.name, self.rate = stream.name, stream.rate
        self.requests = [text.encode() for text in stream.requests]
        self.begin, self.end, self.failed = begin, end, failed
        self.latencies: list[float] = []
        self.connections: list[Connection] = []
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.sent = 0
        self.next_due = time.perf_counter()

    def start(self) -> None:
        """Send the first requests."""
        if self.rate is None:
            for connection in self.connections:
                connection.send(time.perf_counter())
            return
        self.idle.extend(self.connections)
        self.next_due = time.perf_counter()
        self.tick()

    def tick(self) -> None:
        """Send what is due now and come back when the next request is."""
        assert self.rate is not None
        now = time.perf_counter()
        while self.next_due <= now:
            self.waiting.append(self.next_due)
            self.next_due += 1 / self.rate
        self.dispatch()
        if self.next_due < self.end:
            # uvloop rounds to the nearest millisecond: half of one more never fires too early.
            delay = self.next_due - time.perf_counter() + 0.0005
            asyncio.get_running_loop().call_later(max(0.0, delay), self.tick)

    def dispatch(self) -> None:
        """Hand waiting requests to idle connections, in turn."""
        while self.waiting and self.idle:
            connection = self.idle.popleft()
            connection.request = self.requests[self.sent % len(self.requests)]
            self.sent += 1
            connection.send(self.waiting.popleft())

    def fail(self, message: str) -> None:
        """End the run."""
        if not self.failed.done():
            self.failed.set_exception(LoadError(f"{self.name}: {message}"))

    @property
    def unanswered(self) -> int:
        """How many requests are due and not answered yet."""
        return len(self.waiting) + sum(connection.busy for connection in self.connections)

    def result(self, seconds: float) -> StreamResult:
        """The figures of the measured seconds."""
        values = sorted(self.latencies)
        if not values:
            raise LoadError(f"{self.name}: no request was answered in the measured seconds")

        def at(share: float) -> float:
            return round(values[math.ceil(share * len(values)) - 1] * 1000, 3)

        rate = round(len(values) / seconds, 1)
        return StreamResult(len(values), rate, at(0.5), at(0.9), at(0.99), at(1.0))


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("buffer", "busy", "lane", "request", "since", "transport")

    def __init__(self, lane: Lane, request: bytes):
        self.lane, self.request = lane, request
        self.buffer = b""
        self.busy = False
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def send(self, since: float) -> None:
        """Send the request; its latency counts from `since`."""
        self.busy = True
        self.since = since
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Record the latency of one whole response and go on."""
        if self.buffer:
            data = self.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return
        at = data.find(b"\r\ncontent-length:", 0, end)
        if at < 0:
            at = data[:end].lower().find(b"\r\ncontent-length:")
        if at >= 0:
            size = end + 4 + int(data[at + 17 : data.find(b"\r\n", at + 17, end + 2)])
        elif b"\r\ntransfer-encoding: chunked" in data[:end].lower():
            last = data.find(b"\r\n" + LAST_CHUNK, end + 2)
            size = len(data) + 1 if last < 0 else last + 2 + len(LAST_CHUNK)
        else:
            self.lane.fail(f"a response whose end is unknown: {data[:2000]!r}")
            return
        if len(data) < size:
            self.buffer = data
            return
        if len(data) > size or not data.startswith(SUCCESS):
            status = data[: data.find(b"\r\n")].decode("latin-1")
            self.lane.fail(f"{status}\n{data[end + 4 : end + 2004].decode(errors='replace')}")
            return
        self.buffer = b""
        now = time.perf_counter()
        lane = self.lane
        if lane.begin <= self.since < lane.end:
            lane.latencies.append(now - self.since)
        if lane.rate is None:
            if now < lane.end:
                self.since = now
                self.transport.write(self.request)
            else:
                self.busy = False
            return
        self.busy = False
        lane.idle.append(self)
        if lane.waiting:
            lane.dispatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that the server closed under a request ends the run."""
        if self.busy:
            self.lane.fail(f"the server closed a connection: {exc or 'end of stream'}")


def cpu_seconds(pid: int | None) -> float | None:
    """The CPU time that a process has used so far, where /proc tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def generate(plan: Plan) -> Result:
    """Carry out the plan in this process."""
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    begin = time.perf_counter() + plan.warm_up
    lanes = [Lane(stream, begin, begin + plan.seconds, failed) for stream in plan.streams]
    for lane, stream in zip(lanes, plan.streams, strict=True):
        for number in range(stream.connections):
            text = lane.requests[number % len(lane.requests)]
            make = partial(Connection, lane, text)
            _, connection = await loop.create_connection(make, "127.0.0.1", plan.port)
            lane.connections.append(connection)

    async def until(moment: float) -> None:
        await asyncio.wait([failed], timeout=max(0.0, moment - time.perf_counter()))
        if failed.done():
            failed.result()

    for lane in lanes:
        lane.start()
    await until(begin)
    server_before, load_before = cpu_seconds(plan.server_pid), time.process_time()
    await until(begin + plan.seconds)
    server_after, load_after = cpu_seconds(plan.server_pid), time.process_time()

    deadline = time.perf_counter() + DRAIN_SECONDS
    while unanswered := sum(lane.unanswered for lane in lanes):
        if time.perf_counter() > deadline:
            raise LoadError(f"{unanswered} requests without a response after {DRAIN_SECONDS:g} s")
        await until(time.perf_counter() + 0.01)

    server_busy = None
    if server_before is not None and server_after is not None:
        server_busy = round((server_after - server_before) / plan.seconds, 3)
    return Result(
        streams={lane.name: lane.result(plan.seconds) for lane in lanes},
        load_busy=round((load_after - load_before) / plan.seconds, 3),
        server_busy=server_busy,
    )


def main() -> None:
    """Read a plan, carry it out, print the result."""
    values: dict[str, Any] = json.load(sys.stdin)
    streams = [Stream(**stream) for stream in values.pop("streams")]
    plan = Plan(streams=streams, **values)
    gc.disable()
    try:
        response = asdict(uvloop.run(generate(plan)))
    except (LoadError, OSError) as error:
        response = {"error": str(error)}
    print(json.dumps(response))


if __name__ == "__main__":
    main()
