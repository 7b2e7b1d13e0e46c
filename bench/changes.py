"""Streams of changes on SQLite and on Postgres beside a bare ASGI application that sends what is
posted to it, with the clients in a process of their own.

    .venv/bin/python -m bench changes --rounds 1 --seconds 2      # a short form
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from bench import machine, report
from bench.environment import ServerError
from bench.machine import ROOT
from bench.report import Bar, Measurement
from bench.servers import (
    Server,
    amphibase,
    database_server,
    free_port,
    install,
    postgres_version,
    serving,
)

APPLICATION = "bench.changes_app:app"
BARE_LOOP = "bare uvicorn"
WANTED = "wanted"
ITS_INSERT = "its INSERT, p99"

STREAMS = 100
RATE = 20.0
OTHERS_MILLISECONDS, IDLE = 75.0, 0.05
ANN = {"email": "ann@example.com", "password": "correct horse battery"}
OUR_PACKAGES = ("amphibase", "sqlalchemy", "aiosqlite", "psycopg", "uvicorn", "uvloop")


def load(**arguments: Any) -> dict[str, float]:
    """Run the clients in a process of their own; return their figures."""
    command = [sys.executable, "-m", "bench.changes_load", json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerError("changes", "the clients failed", done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@contextmanager
def bare_uvicorn(scratch: Path) -> Iterator[Server]:
    """The floor, served as an application is."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "bench.changes_floor:app", "--no-access-log",
        "--loop", "uvloop", "--http", "httptools", "--port", str(port),
    ]  # fmt: skip
    with serving(BARE_LOOP, command, port, "/", {}, ROOT, scratch) as server:
        yield server


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show the figures and write them down; return whether every bar is met."""
    measurements: list[Measurement] = []
    scheduled = {"count": STREAMS, "seconds": seconds, "rate": RATE}
    found = machine.facts()
    machine.pin(0, machine.OTHER_CORES)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with database_server(scratch) as postgres:
            url = postgres.create_database("bench")
            for name, database in (("SQLite", f"sqlite:///{folder}/bench.db"), ("Postgres", url)):
                measured = _Figures(name)
                measurements += measured.all
                settings = {"MAX_STREAMS_PER_CALLER": str(STREAMS + 1)}
                installation = install(database, scratch / name, APPLICATION, **settings)
                with amphibase(installation, name) as server, bare_uvicorn(scratch) as floor:
                    with httpx.Client() as client:
                        ann = server.call(client, "POST", "/auth/sign-up", 201, json=ANN)
                        token = ann["access_token"]
                        server.call(client, "GET", "/users/me", 200, token=token)
                    for _ in range(rounds):
                        for each in (server, floor):
                            of_process = {"port": each.port, "pid": each.process.pid}
                            figures = load(**of_process, **scheduled, token=token)
                            measured.add(each is server, figures)
                        of_process = {"port": server.port, "pid": server.process.pid}
                        of_others = {"url": database, "owner": ann["user"]["id"]}
                        measured.add_others(load(**of_process, **scheduled, **of_others))
            return report.finish(
                "changes", measurements, None, console,
                machine=found, versions=machine.installed(*OUR_PACKAGES),
                postgres=postgres_version(url), rounds=rounds, seconds=seconds,
            )  # fmt: skip


class _Figures:
    """What is measured on one database."""

    def __init__(self, name: str) -> None:
        self._name = name
        title = f"{name}: {STREAMS} streams, {RATE:g} changes/s"
        self._p50 = Measurement(
            f"{title}, POST to client, p50", "ms", (Bar(BARE_LOOP, "at most", 10),)
        )
        self._p99 = Measurement("the same, p99", "ms", (Bar(BARE_LOOP, "at most", 5),))
        self._cpu = Measurement(
            "the same, CPU per delivery", "µs", (Bar(BARE_LOOP, "at most", 10),)
        )
        self._others = Measurement(
            f"{title} of another process, INSERT to client, p99", "ms",
            (Bar(WANTED, "at most", 1),),
        )  # fmt: skip
        self._idle = Measurement(
            f"{name}: {STREAMS} streams without changes", "of a core", (Bar(WANTED, "at most", 1),)
        )
        self.all = [self._p50, self._p99, self._cpu, self._others, self._idle]

    def add(self, is_ours: bool, figures: dict[str, float]) -> None:
        """Add what rows that the server itself wrote took."""
        side = self._name if is_ours else BARE_LOOP
        for measurement, name in (
            (self._p50, "p50"), (self._p99, "p99"), (self._cpu, "microseconds")
        ):  # fmt: skip
            measurement.add(side, figures[name])
        if is_ours:
            self._idle.add(side, figures["idle"])
            self._idle.add(WANTED, IDLE)

    def add_others(self, figures: dict[str, float]) -> None:
        """Add what rows of another process took."""
        self._others.add(self._name, figures["p99"])
        self._others.add(WANTED, OTHERS_MILLISECONDS)
        self._others.add(ITS_INSERT, figures["trip_p99"])
