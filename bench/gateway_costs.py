"""What the gateway costs beside an earlier commit's code: how long it starts, how much memory it
has, how many people sign in, and how long others wait meanwhile; and how it reads a large schema.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import machine, report
from bench.earlier import Code, check_out, today
from bench.environment import ServerError
from bench.gateway import BULK_WRITERS, ENTRIES, ID_STEPS, MANY, READERS, SIGNERS
from bench.gateway_data import entries
from bench.gateway_servers import (
    BY_ID,
    NEWEST,
    OUR_ROWS,
    User,
    fill,
    gateway,
    make_project,
    sign_in,
)
from bench.load import Stream
from bench.regression import EARLIER
from bench.report import Bar, Measurement
from bench.servers import AMPHIBASE, Server, clean, database_server, free_port

PACED_READERS = 4
PACED_READS = 50.0
LARGE = {"tables": 2_000, "functions": 500, "views": 300}
RELOAD_SECONDS = 2.0
BAR = "bar"
"""The side of a figure that has a bar of its own, and no other side."""

IDLE_SECONDS = 3.0
"""After which memory is read: what was freed has gone back by then."""


@dataclass(frozen=True, slots=True)
class Side:
    """One state of the code, whose gateway runs on a database of its own."""

    code: Code
    server: Server
    user: User


def start_once(code: Code, folder: Path) -> tuple[float, dict[str, str]]:
    """Start a gateway in the background as people do, with its own Postgres.

    Returns:
        how many seconds the command took, and what it printed.
    """
    ports = ["--port", str(free_port()), "--db-port", str(free_port())]
    command = [AMPHIBASE, "supabase", "start", *ports, "-o", "json"]
    begin = perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=clean(code.environment), capture_output=True, text=True
    )
    seconds = perf_counter() - begin
    if done.returncode != 0:
        raise ServerError(code.name, "`amphibase supabase start` failed", done.stdout + done.stderr)
    values: dict[str, str] = json.loads(done.stdout)
    return seconds, values


@contextmanager
def stopped_at_the_end(code: Code, folder: Path) -> Iterator[None]:
    """Stop the gateway of a folder when the block ends."""
    try:
        yield
    finally:
        command = [AMPHIBASE, "supabase", "stop"]
        subprocess.run(command, cwd=folder, env=clean(code.environment), capture_output=True)


def measure_start(code: Code, folder: Path, figures: Mapping[str, Measurement]) -> None:
    """Start on a new folder, again on the same one, and send a request to each service."""
    make_project(folder)
    with stopped_at_the_end(code, folder):
        figures["cold"].add(code.name, start_once(code, folder)[0])
    with stopped_at_the_end(code, folder):
        seconds, values = start_once(code, folder)
        figures["warm"].add(code.name, seconds)
        key = values["SERVICE_ROLE_KEY"]
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        for path in ("/rest/v1/notes", "/auth/v1/settings", "/storage/v1/bucket"):
            httpx.get(values["API_URL"] + path, headers=headers, timeout=30).raise_for_status()
        time.sleep(IDLE_SECONDS)
        state = json.loads((folder / ".amphibase" / "state.json").read_text())
        figures["memory"].add(code.name, resident(state["pid"]))


def resident(process: int) -> float:
    """Add up the resident memory of a process and of all that it started but for Postgres, in
    megabytes."""
    folder = Path(f"/proc/{process}")
    if folder.joinpath("comm").read_text().strip() == "postgres":
        return 0
    status = folder.joinpath("status").read_text().splitlines()
    own = sum(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024
    children = folder.joinpath("task", str(process), "children").read_text().split()
    return own + sum(resident(int(child)) for child in children)


def measure_sign_ins(side: Side, seconds: float, rate: Measurement, waits: Measurement) -> None:
    """Let people sign in as fast as they can while others read rows on a schedule."""
    signs = Stream("sign-ins", [sign_in(side.user, "ann")], SIGNERS)
    texts = [side.user.get(BY_ID.format(number)) for number in ID_STEPS]
    reads = Stream("reads", texts, PACED_READERS, PACED_READS)
    result = side.server.drive([signs, reads], seconds)
    rate.add(side.code.name, result.streams["sign-ins"].rate, result)
    waits.add(side.code.name, result.streams["reads"].p99)


def measure_load(side: Side, seconds: float, memory: Measurement) -> None:
    """Put the load of the benchmark `gateway` on it, and read its memory when it is over."""
    user = side.user
    for texts, connections in (
        ([user.get(BY_ID.format(number)) for number in ID_STEPS], READERS),
        ([user.get(NEWEST)], READERS),
        ([user.post(ENTRIES, entries(MANY, user.id))], BULK_WRITERS),
        ([sign_in(user, "ann")], SIGNERS),
    ):
        side.server.drive([Stream("load", texts, connections)], seconds)
    time.sleep(IDLE_SECONDS)
    memory.add(side.code.name, resident(side.server.process.pid))


def large_schema() -> str:
    """The SQL of a database as large as few have, with keys between neighbouring tables."""
    tables = [
        f"CREATE TABLE public.large{n} (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        f"parent_id bigint REFERENCES public.large{n // 2}, owner_id uuid NOT NULL, "
        "title text NOT NULL, stars integer DEFAULT 0, tags text[], created_at timestamptz);"
        for n in range(1, LARGE["tables"] + 1)
    ]
    tables[0] = tables[0].replace("large0", "large1")
    views = [
        f"CREATE VIEW public.shown{n} AS SELECT id, title, parent_id FROM public.large{n};"
        for n in range(1, LARGE["views"] + 1)
    ]
    functions = [
        f"CREATE FUNCTION public.read{n}(a integer, b text DEFAULT '') "
        f"RETURNS SETOF public.large{n} LANGUAGE sql STABLE AS 'SELECT * FROM public.large{n}';"
        for n in range(1, LARGE["functions"] + 1)
    ]
    return "\n".join(
        [
            "SET session_replication_role = replica;  -- no trigger notifies of each statement",
            *(*tables, *views, *functions),
            "SET session_replication_role = origin;",
        ]
    )


def measure_reload(
    side: Side, url: str, seconds: float, reading: Measurement, waits: Measurement
) -> None:
    """Read rows on a schedule without and with a change of the schema, and count how long a new
    table takes to be served."""
    texts = [side.user.get(BY_ID.format(number)) for number in ID_STEPS]
    stream = Stream("reads", texts, PACED_READERS, PACED_READS)
    for name in ("with a reload", "without"):
        with psycopg.connect(url, autocommit=True) as connection:
            if name == "with a reload":
                connection.execute("NOTIFY pgrst, 'reload schema'")
            result = side.server.drive([stream], seconds)
        waits.add(name, result.streams["reads"].p99)
    name = f"newest{len(reading.figures.get(BAR, ()))}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"CREATE TABLE public.{name} (id integer PRIMARY KEY)".encode())
        connection.execute(f"GRANT SELECT ON public.{name} TO authenticated".encode())
        begin = perf_counter()
        connection.execute("NOTIFY pgrst, 'reload schema'")
    while side.user.ask("GET", f"/rest/v1/{name}").status_code != 200:
        time.sleep(0.01)
    reading.add(side.code.name, perf_counter() - begin)
    reading.add(BAR, RELOAD_SECONDS)


def measurements() -> dict[str, Measurement]:
    """List what is measured, by short names."""

    def beside(title: str, unit: str, kind: str, value: float) -> Measurement:
        bar = Bar(EARLIER, "at least" if kind == "≥" else "at most", value)
        return Measurement(title, unit, (bar,))

    size = f"{LARGE['tables']:,} tables, {LARGE['functions']} functions, {LARGE['views']} views"
    return {
        "cold": beside("`amphibase supabase start` on a new folder", "s", "≤", 0.85),
        "warm": beside("`amphibase supabase start` on the same folder", "s", "≤", 0.8),
        "memory": beside("Memory after a request to each service", "MB", "≤", 0.8),
        "loaded": beside("Memory after load", "MB", "≤", 0.7),
        "signs": beside(f"Sign-ins, {SIGNERS} connections, cores shared", "per second", "≥", 1.25),
        "waits": beside("p99 of a row by id meanwhile", "ms", "≤", 1.0),
        "reading": Measurement(f"Reading {size}", "s", (Bar(BAR, "at most", 1.0),)),
        "reload": Measurement(
            "p99 of a row by id during such a reading", "ms", (Bar("without", "at most", 2.0),)
        ),
    }


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether every bar is met."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    figures = measurements()
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        task = progress.add_task("the servers", total=4 * rounds + 4)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)

        found = machine.facts()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        codes = (today(), check_out(EARLIER, scratch / "earlier"))
        for number in range(rounds):
            for code in codes if number % 2 == 0 else codes[::-1]:
                step(f"starts: {code.name}")
                measure_start(code, scratch / f"start {code.name} {number}", figures)
        sides, urls = [], []
        for number, code in enumerate(codes):
            step(f"the rows: {code.name}")
            folder = scratch / f"side{number}"
            folder.mkdir(mode=0o711)
            # Roles belong to a whole server, and each gateway gives its roles their passwords.
            server = stack.enter_context(database_server(folder))
            urls.append(server.create_database("gateway"))
            served = gateway(code.name, urls[-1], folder, code.environment, pinned=False)
            local = stack.enter_context(served)
            sides.append(Side(code, local, fill(local, OUR_ROWS)))
        for number in range(rounds):
            for side in sides if number % 2 == 0 else sides[::-1]:
                step(f"sign-ins: {side.code.name}")
                measure_sign_ins(side, seconds, figures["signs"], figures["waits"])
        for side in sides:
            step(f"load: {side.code.name}")
            measure_load(side, seconds, figures["loaded"])
        with psycopg.connect(urls[0], autocommit=True) as connection:
            for statement in large_schema().split("\n"):
                connection.execute(statement.encode())
            connection.execute("ANALYZE")
        for _ in range(rounds):
            step("reading a large schema")
            measure_reload(sides[0], urls[0], seconds, figures["reading"], figures["reload"])
    return report.finish(
        "gateway-costs",
        list(in_order(figures)),
        None,
        console,
        machine=found,
        versions={"ours": machine.installed("amphibase", "psycopg", "sqlalchemy", "uvicorn")},
        settings={"rounds": rounds, "seconds": seconds, "earlier": EARLIER},
    )


def in_order(figures: Mapping[str, Measurement]) -> Iterator[Measurement]:
    """The measurements with today's figures first, whoever had the first turn."""
    first = (today().name, "with a reload")
    for each in figures.values():
        sides = sorted(each.figures, key=lambda side: side not in first)
        each.figures = {side: each.figures[side] for side in sides}
        yield each
