"""How far the memory of a worker rises for one list of large rows, and for four at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from bench.report import Bar, Measurement
from bench.servers import Installation, Server, amphibase

ROWS = 150
ROW_BYTES = 1_000_000
AT_ONCE = 4
BEFORE_MB = 660.0
"""What the rise was at a0ee756, for one list."""

MOST_SHARE = 0.1
CREDENTIALS = {"email": "memory@example.com", "password": "correct horse battery 7"}


def measurements(engine: str) -> tuple[Measurement, Measurement]:
    """The figures of an engine, for one list and for four at once."""
    what = f"rise of memory by GET /notes over {ROWS} rows of 1 MB, {engine}"
    return (
        Measurement(what, "MB", (Bar("a0ee756", "at most", MOST_SHARE),)),
        Measurement(f"{AT_ONCE} at once", "MB", (Bar("a0ee756", "at most", MOST_SHARE),)),
    )


def measure(installation: Installation, one: Measurement, several: Measurement) -> None:
    """Fill a database with large rows, and read them from a worker that has done nothing else."""
    with amphibase(installation, "filling") as server, httpx.Client(timeout=60) as client:
        signed_up = client.post(f"{server.url}/auth/sign-up", json=CREDENTIALS)
        token = signed_up.raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        for _ in range(ROWS):
            row = {"title": "x" * ROW_BYTES, "stars": 1}
            client.post(f"{server.url}/notes", json=row, headers=headers).raise_for_status()
    for measurement, count in ((one, 1), (several, AT_ONCE)):
        with amphibase(installation, "reading") as server:
            measurement.add("now", _rise(server, headers, count))
            measurement.add("a0ee756", BEFORE_MB * count)


def _rise(server: Server, headers: dict[str, str], count: int) -> float:
    """Return the megabytes that as many lists at once need beyond those of a list of one row."""

    def read(limit: int) -> None:
        path = f"{server.url}/notes?limit={limit}"
        httpx.get(path, headers=headers, timeout=60).raise_for_status()

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(read, [1] * count))  # what the first request imports is no rise
        process = Path(f"/proc/{server.process.pid}")
        (process / "clear_refs").write_text("5")  # the peak begins anew (proc(5))
        idle = _megabytes(process, "VmRSS")
        list(threads.map(read, [ROWS] * count))
    return max(_megabytes(process, "VmHWM") - idle, 0.1)


def _megabytes(process: Path, name: str) -> float:
    lines = (process / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
