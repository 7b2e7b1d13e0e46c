"""Records on Amphibase beside the libraries people use for them, on one Postgres: one note by id
and a list of 100, with a bare ASGI application as the floor; what row level security costs; and,
without HTTP, pages far down a list, bulk inserts, and the memory that a stream takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from amphibase import postgres
from bench import environment, machine, report
from bench.environment import ServerError
from bench.load import Stream, request
from bench.records_data import add_owner, fill, note_id, title
from bench.report import Bar, Measurement
from bench.servers import (
    Installation,
    Server,
    amphibase,
    clean,
    database_server,
    install,
    peer,
    postgres_version,
    with_driver,
)

APPLICATION = "bench.records_app:app"
OURS = "Amphibase"
OURS_RLS = "Amphibase, RLS"
FLOOR = "raw ASGI"
TEMPLATE = "template"
PEERS = (
    (FLOOR, "raw_asgi:app", "postgresql"),
    (TEMPLATE, "template_app:app", "postgresql+psycopg"),
    ("fastcrud", "fastcrud_app:app", "postgresql+asyncpg"),
    ("advanced-alchemy", "advanced_alchemy_app:app", "postgresql+asyncpg"),
)
NOTES = 10_000
MANY = 1_000_000
PAGE = 100
READERS = 32
POOL_SIZE = "32"
CEILING_SECONDS = 2.0
MOST_CONNECTIONS = "300"
LIST = request("GET", f"/notes?limit={PAGE}")
BY_ID = [request("GET", f"/notes/{note_id(1 + n * NOTES // READERS)}") for n in range(READERS)]
OUR_PACKAGES = ("amphibase", "fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools")
DATABASE_PACKAGES = ("sqlalchemy", "psycopg", "orjson")

CORE = "Core executemany"
PAGE_1 = "page 1"
PAGE_10_000 = "page 10,000"
STREAM_FEW = f"stream of {NOTES:,} rows"
STREAM_MANY = f"stream of {MANY:,} rows"


@dataclass(frozen=True, slots=True)
class Installations:
    """Amphibase on databases of its own: what each holds, and how it is set up."""

    plain: Installation
    """10,000 notes, which the peers read too."""
    rls: Installation
    """The same notes under row level security."""
    many: Installation
    """A million notes."""
    empty: Installation
    """No notes: those that are added are removed again."""
    urls: dict[str, str]
    cursor: str
    """Of the last page of the million."""


def set_up(server: postgres.Server, scratch: Path) -> Installations:
    """Make the databases and their notes."""
    urls = {name: server.create_database(name) for name in ("plain", "rls", "many", "empty")}
    more = {"rls": {"RLS": "true"}}
    made = {
        name: install(url, scratch / name, APPLICATION, **more.get(name, {}))
        for name, url in urls.items()
    }
    for url in urls.values():
        add_owner(url)
    for name in ("plain", "rls"):
        fill(urls[name], 1, NOTES)
    # A cursor stands for a place between two rows. The one behind the newest of these notes leads
    # to the other hundred, which are the last page of the million once that is there.
    fill(urls["many"], 1, PAGE + 1)
    cursor: str = inside(made["many"], "cursor")["cursor"]
    fill(urls["many"], PAGE + 2, MANY)
    return Installations(**made, urls=urls, cursor=cursor)


def inside(installation: Installation, *arguments: str) -> dict[str, Any]:
    """Run `bench.records_process` on the server core, as a process of this installation."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.records_process", *arguments],
        cwd=installation.folder,
        env=clean(installation.settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            machine.pin(process.pid, machine.SERVER_CORES)
            out, trouble = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise ServerError("Amphibase in process", f"`{arguments[0]}` failed", trouble)
    response: dict[str, Any] = json.loads(out)
    return response


def check(server: Server) -> None:
    """The right notes have to come back, newest first, before anything is measured."""
    with httpx.Client() as client:
        for number in (1, NOTES):
            path = f"/notes/{note_id(number)}"
            seen = server.call(client, "GET", path, 200).get("title")
            if seen != title(number):
                raise server.error(f"GET {path} responded with {seen!r}, not {title(number)!r}")
        response = server.call(client, "GET", f"/notes?limit={PAGE}", 200)
    notes = response.get("items") or response.get("data") or []
    if [note["title"] for note in notes] != [title(NOTES - n) for n in range(PAGE)]:
        raise server.error(f"GET /notes is not the newest {PAGE} notes: {str(notes)[:2000]}")
    for name in ("id", "owner_id", "title", "stars", "created_at", "updated_at"):
        if name not in notes[0]:
            raise server.error(f"GET /notes responds without {name}: {notes[0]}")


def requests_a_second(server: Server, texts: list[str], seconds: float, into: Measurement) -> None:
    """As many requests as the server responds to."""
    result = server.drive([Stream("reads", texts, READERS)], seconds)
    into.add(server.name, result.streams["reads"].rate, result)


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether every bar is met."""
    connections = f"{READERS} connections"
    one = Measurement(
        f"GET /notes/{{id}}, {connections}",
        "requests/s",
        (Bar(FLOOR, "at least", 0.55), Bar(TEMPLATE, "at least", 6.0)),
    )
    some = Measurement(
        f"GET /notes?limit={PAGE}, {connections}",
        "requests/s",
        (Bar(FLOOR, "at least", 0.65), Bar(TEMPLATE, "at least", 6.0)),
    )
    secured = Measurement(
        f"GET /notes/{{id}} under row level security, {connections}",
        "requests/s",
        (Bar(OURS, "at least", 0.85),),
    )
    deep = Measurement(
        f"Repository.page of {PAGE} in {MANY:,} rows", "ms", (Bar(PAGE_1, "within", 0.2),)
    )
    bulk = Measurement(
        f"Repository.add_many of {NOTES:,} rows", "rows/s", (Bar(CORE, "at least", 1.5),)
    )
    memory = Measurement(
        "Repository.stream, growth of the memory's peak",
        "MB",
        (Bar(STREAM_FEW, "at most", 20.0),),
        difference=True,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        turns = 2 * (len(PEERS) + 1) + 3
        task = progress.add_task("the peers' environment", total=5 + rounds * turns)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)

        found = machine.facts()
        environment.make()
        machine.pin(0, machine.OTHER_CORES)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        step("the databases, one of them with a million notes")
        server = stack.enter_context(database_server(scratch, max_connections=MOST_CONNECTIONS))
        made = set_up(server, scratch)
        versions = {
            "ours": machine.installed(*OUR_PACKAGES, *DATABASE_PACKAGES),
            "peers": environment.versions(),
            "postgres": postgres_version(made.urls["plain"]),
        }
        step("starting the servers")
        ours = stack.enter_context(amphibase(made.plain, OURS))
        ours_rls = stack.enter_context(amphibase(made.rls, OURS_RLS))
        peers = []
        for name, app, driver in PEERS:
            url = with_driver(made.urls["plain"], driver)
            settings = {"DATABASE_URL": url, "POOL_SIZE": POOL_SIZE}
            peers.append(stack.enter_context(peer(name, app, settings, scratch)))
        for each in (ours, ours_rls, *peers):
            check(each)
        step("the load generator's own ceiling")
        fixed = [Stream("fixed", [request("GET", "/")], READERS)]
        ceiling = peers[0].drive(fixed, CEILING_SECONDS)
        step("the memory of a stream")
        for name, installation, rows in (
            (STREAM_MANY, made.many, MANY),
            (STREAM_FEW, made.plain, NOTES),
        ):
            seen = inside(installation, "stream")
            if seen["rows"] != rows:
                raise ServerError("Amphibase in process", f"a stream gave {seen['rows']} rows")
            memory.add(name, seen["growth"])
        for number in range(1, rounds + 1):
            where = f"round {number} of {rounds}"
            step(f"{where}: by id, {OURS_RLS}")
            requests_a_second(ours_rls, BY_ID, seconds, secured)
            for each in (ours, *peers):
                step(f"{where}: by id, {each.name}")
                requests_a_second(each, BY_ID, seconds, one)
            secured.add(OURS, one.figures[OURS][-1], one.runs[OURS][-1])
            for each in (ours, *peers):
                step(f"{where}: list of {PAGE}, {each.name}")
                requests_a_second(each, [LIST], seconds, some)
            step(f"{where}: pages")
            seen = inside(made.many, "pages", str(seconds), made.cursor)
            deep.add(PAGE_10_000, seen["last"])
            deep.add(PAGE_1, seen["first"])
            step(f"{where}: bulk inserts")
            seen = inside(made.empty, "adds", str(seconds), made.urls["empty"])
            bulk.add(OURS, seen["ours"])
            bulk.add(CORE, seen["core"])

    settings_of_run = {"rounds": rounds, "seconds": seconds, "notes": NOTES, "many": MANY}
    return report.finish(
        "records",
        [one, some, secured, deep, bulk, memory],
        ceiling,
        console,
        machine=found,
        versions=versions,
        settings=settings_of_run,
    )
