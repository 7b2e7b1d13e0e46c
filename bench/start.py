"""What a start costs beside an earlier commit's code: the CPU time until an application is mounted,
the memory of a server that has responded once on each kind of route, and its first responses.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from amphibase import postgres
from bench import machine, records, report
from bench.earlier import Code, check_out, today
from bench.records_data import add_owner, fill
from bench.regression import EARLIER
from bench.report import Bar, Measurement
from bench.servers import Installation, Server, amphibase, clean, database_server, install

ENGINES = ("SQLite", "Postgres")
CPU_BARS = {"SQLite": 0.6, "Postgres": 0.75}
MEMORY_BARS = {"SQLite": 0.75, "Postgres": 0.85}
NO_SLOWER = 1.05
NOTES = 1_000
CREDENTIALS = {"email": "ann@example.com", "password": "correct horse battery 7"}
MOUNT = """
import resource
from fastapi import FastAPI
from amphibase import Amphibase
app = Amphibase().mount(FastAPI())
usage = resource.getrusage(resource.RUSAGE_SELF)
print((usage.ru_utime + usage.ru_stime) * 1000)
"""
OUR_PACKAGES = ("amphibase", "fastapi", "sqlalchemy", "psycopg", "uvicorn")


@dataclass(frozen=True, slots=True)
class Side:
    """One state of the code, set up on each engine with a user and notes."""

    code: Code
    made: dict[str, Installation]


def prepare(code: Code, server: postgres.Server, scratch: Path, number: int) -> Side:
    """Make a database on each engine, with one user and some notes.

    Returns:
        the side; byte code of everything that a start imports is written by then.
    """
    urls = {
        "SQLite": f"sqlite:///{scratch / f'start{number}.db'}",
        "Postgres": server.create_database(f"start{number}"),
    }
    made = {
        engine: install(url, scratch / f"{engine}{number}", records.APPLICATION, **code.environment)
        for engine, url in urls.items()
    }
    add_owner(urls["Postgres"])
    fill(urls["Postgres"], 1, NOTES)
    for installation in made.values():
        with (
            amphibase(installation, f"first start, {code.name}") as first,
            httpx.Client() as client,
        ):
            first.call(client, "POST", "/auth/sign-up", 201, json=CREDENTIALS)
    return Side(code, made)


def mount(installation: Installation) -> float:
    """Mount an application in a new process; the milliseconds of CPU time that it took."""
    done = subprocess.run(
        [sys.executable, "-c", MOUNT],
        cwd=installation.folder,
        env=clean(installation.settings),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@contextmanager
def started(installation: Installation, name: str) -> Iterator[tuple[Server, httpx.Client]]:
    """Start a server that has responded to nothing but its health check."""
    with amphibase(installation, name) as server, httpx.Client(base_url=server.url) as client:
        yield server, client


def first_responses(installation: Installation, name: str) -> tuple[float, float, float]:
    """Serve once.

    Returns:
        milliseconds of the first sign-in, milliseconds of the first list, and the resident memory
        in MB after a request to /auth, /files and a ready route.
    """
    with started(installation, name) as (server, client):
        begin = perf_counter()
        token = server.call(client, "POST", "/auth/sign-in", 200, json=CREDENTIALS)["access_token"]
        signed_in = perf_counter()
        server.call(client, "GET", "/notes?limit=100", 200)
        listed = perf_counter()
        server.call(client, "GET", "/files", 200, token=token)
        return (signed_in - begin) * 1000, (listed - signed_in) * 1000, resident(server)


def resident(server: Server) -> float:
    """Read the resident memory of a server's process, in MB."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise server.error("has no VmRSS in /proc")


def measurements(engine: str) -> list[Measurement]:
    """List what is measured on one engine."""

    def lower(title: str, unit: str, bar: float) -> Measurement:
        return Measurement(f"{title}, {engine}", unit, (Bar(EARLIER, "at most", bar),))

    return [
        lower("Amphibase().mount(FastAPI()) in a new process", "ms of CPU", CPU_BARS[engine]),
        lower("First sign-in", "ms", NO_SLOWER),
        lower("First list of 100", "ms", NO_SLOWER),
        lower("Resident memory of `amphibase serve`", "MB", MEMORY_BARS[engine]),
    ]


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether every bar is met.

    Args:
        seconds: not used: a start takes the time that it takes.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    measured = {engine: measurements(engine) for engine in ENGINES}
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        task = progress.add_task("the databases", total=rounds * 2 * len(ENGINES))
        found = machine.facts()
        machine.pin(0, machine.OTHER_CORES)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        server = stack.enter_context(database_server(scratch))
        codes = (today(), check_out(EARLIER, scratch / "earlier"))
        sides = [prepare(code, server, scratch, number) for number, code in enumerate(codes)]
        for number in range(rounds):
            for engine in ENGINES:
                figures = {}
                # Who goes first changes, so that a drift of the machine favours neither.
                for side in sides if number % 2 == 0 else reversed(sides):
                    name = side.code.name
                    progress.update(task, advance=1, description=f"{engine}: {name}")
                    made = side.made[engine]
                    figures[name] = (mount(made), *first_responses(made, name))
                for side in sides:
                    for measurement, figure in zip(
                        measured[engine], figures[side.code.name], strict=True
                    ):
                        measurement.add(side.code.name, figure)
    return report.finish(
        "start",
        [measurement for each in measured.values() for measurement in each],
        None,
        console,
        machine=found,
        versions={"ours": machine.installed(*OUR_PACKAGES)},
        settings={"rounds": rounds, "earlier": EARLIER},
    )
