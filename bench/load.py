"""What load to put on a server: plans, their results, and the process that carries them out.

A stream without a rate is a closed loop: each connection sends its next request as soon as the last
one is answered. A stream with a rate sends on a fixed schedule whatever the server does, and a
request's latency counts from the moment it was due, so that a server that stalls cannot hide the
requests that would have come meanwhile (no coordinated omission). Timers tick in milliseconds, and
up to one such tick is part of a scheduled request's latency.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


class LoadError(Exception):
    """The server sent a wrong response, or none."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests to send, over how many connections, and at what rate (None: as fast as answered).

    In a closed loop connection N always sends request N; on a schedule the requests take turns.
    """

    name: str
    requests: list[str]
    connections: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One run against one server: what to send, for how long, after how long a warm-up."""

    port: int
    streams: list[Stream]
    seconds: float
    warm_up: float = 0.5
    server_pid: int | None = None


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What one stream saw: requests sent within the measured seconds, latencies in milliseconds."""

    count: int
    rate: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Result:
    """What one run saw; the busy shares are CPU seconds per second, None where unknown."""

    streams: dict[str, StreamResult]
    load_busy: float
    server_busy: float | None


def request(
    method: str,
    path: str,
    *,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    body: str = "",
    form: bool = False,
) -> str:
    """The text of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def run(plan: Plan) -> Result:
    """Run the plan in a process of its own; raises LoadError when a response was not a success."""
    command = [sys.executable, "-m", "bench.generator"]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, trouble = process.communicate(json.dumps(asdict(plan)))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        last = trouble.strip().rpartition("\n")[2]
        raise LoadError(f"the load generator ended with code {process.returncode}: {last}")
    response = json.loads(out)
    if "error" in response:
        raise LoadError(response["error"])
    streams = {name: StreamResult(**values) for name, values in response.pop("streams").items()}
    return Result(streams=streams, **response)
