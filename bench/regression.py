"""Today's code beside an earlier commit's: what became slower since.

Both run in the same environment, each on databases of its own, and take turns; what counts is the
median of the ratios of neighbouring turns, and the geometric mean of these medians.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import files, machine, records, report, users
from bench.earlier import Code, check_out, today
from bench.gateway import BULK_WRITERS, ENTRIES, ID_STEPS, MANY, SIGNERS, WRITERS
from bench.gateway_data import entries
from bench.gateway_servers import BY_ID, NEWEST, OUR_ROWS, fill, gateway, settle, sign_in
from bench.load import Result, Stream
from bench.records_data import add_owner
from bench.records_data import fill as fill_notes
from bench.report import Bar, Measurement
from bench.servers import Server, amphibase, database_server, install

EARLIER = os.environ.get("EARLIER", "a0ee756")
"""The commit to compare with."""
LEAST = 0.95
LEAST_MEAN = 0.98
READERS = 32
OUR_PACKAGES = ("amphibase", "fastapi", "sqlalchemy", "psycopg", "uvicorn")

Turn = Callable[[float], tuple[float, Result | None]]
"""Measure for so many seconds: the figure, higher is better, and the run that it comes from."""


@dataclass(frozen=True, slots=True)
class Side:
    """One state of the code and what is measured of it, by the measurement's title."""

    name: str
    turns: dict[str, Turn]


def drive(
    server: Server, requests: list[str], connections: int, rows: int, seconds: float
) -> tuple[float, Result]:
    """Count what the server responds to in a closed loop, in rows a second."""
    result = server.drive([Stream("requests", requests, connections)], seconds)
    return result.streams["requests"].rate * rows, result


def open_side(stack: ExitStack, code: Code, scratch: Path, number: int) -> Side:
    """Start everything of one state of the code, on a Postgres of its own.

    Roles belong to a whole server, and each gateway gives its roles their passwords.
    """
    folder = scratch / f"side{number}"
    folder.mkdir()
    folder.chmod(0o711)  # a Postgres started by root runs as somebody else
    server = stack.enter_context(database_server(folder, max_connections=records.MOST_CONNECTIONS))
    names = ("plain", "rls", "empty", "users", "gateway")
    urls = {name: server.create_database(f"{name}{number}") for name in names}
    environment = code.environment
    rls = {"RLS": "true"}
    made = {
        name: install(
            urls[name],
            folder / name,
            records.APPLICATION,
            **environment,
            **(rls if name == "rls" else {}),
        )
        for name in ("plain", "rls", "empty")
    }
    for name in made:
        add_owner(urls[name])
    for name in ("plain", "rls"):
        fill_notes(urls[name], 1, records.NOTES)
    plain = stack.enter_context(amphibase(made["plain"], f"plain, {code.name}"))
    guarded = stack.enter_context(amphibase(made["rls"], f"RLS, {code.name}"))
    for each in (plain, guarded):
        records.check(each)
    upload = str(files.LARGE_BYTES // files.MB)
    people = install(urls["users"], folder / "users", **environment, MAX_UPLOAD_MB=upload)
    accounts = stack.enter_context(amphibase(people, f"users, {code.name}"))
    side = users.our_side(accounts)
    stored = files.our_side(accounts)
    local = stack.enter_context(
        gateway(f"gateway, {code.name}", urls["gateway"], folder, environment)
    )
    ann = fill(local, OUR_ROWS)
    for url in urls.values():
        settle(url)

    def adds(seconds: float) -> tuple[float, None]:
        found = records.inside(made["empty"], "adds", str(seconds), urls["empty"])
        return float(found["ours"]), None

    def sends(seconds: float) -> tuple[float, None]:
        return files.FILE_BYTES / files.MB / stored.send(files.FILE_BYTES)[1], None

    path, _ = stored.send(files.FILE_BYTES)

    def fetches(seconds: float) -> tuple[float, None]:
        return files.FILE_BYTES / files.MB / stored.fetch(path, files.FILE_BYTES), None

    inserts = {count: [ann.post(ENTRIES, entries(count, ann.id))] for count in (1, MANY)}
    by_id = [ann.get(BY_ID.format(step)) for step in ID_STEPS]
    return Side(
        code.name,
        {
            "GET /notes/{id}": partial(drive, plain, records.BY_ID, READERS, 1),
            "GET /notes?limit=100": partial(drive, plain, [records.LIST], READERS, 1),
            "GET /notes/{id} under RLS": partial(drive, guarded, records.BY_ID, READERS, 1),
            "Repository.add_many": adds,
            "GET /users/me": partial(drive, accounts, side.reads, users.READERS, 1),
            "POST /auth/sign-in": partial(drive, accounts, side.sign_ins, SIGNERS, 1),
            "POST /files, 100 MB": sends,
            "GET /files, 100 MB": fetches,
            "gateway: row by id": partial(drive, local, by_id, READERS, 1),
            "gateway: list with an embed": partial(drive, local, [ann.get(NEWEST)], READERS, 1),
            "gateway: inserts of 1": partial(drive, local, inserts[1], WRITERS, 1),
            f"gateway: inserts of {MANY:,}": partial(
                drive, local, inserts[MANY], BULK_WRITERS, MANY
            ),
            "gateway: sign-in": partial(drive, local, [sign_in(ann, "ann")], SIGNERS, 1),
        },
    )


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether nothing became slower."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        task = progress.add_task("starting the servers", total=None)
        found = machine.facts()
        machine.pin(0, machine.OTHER_CORES)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        codes = (today(), check_out(EARLIER, scratch / "earlier"))
        sides = [open_side(stack, code, scratch, number) for number, code in enumerate(codes)]
        bar = Bar(sides[1].name, "at least", LEAST)
        measured = {title: Measurement(title, "per second", (bar,)) for title in sides[0].turns}
        progress.update(task, total=rounds * len(measured) * len(sides))
        for number in range(rounds):
            for title, measurement in measured.items():
                # Who goes first changes, so that a drift of the machine favours neither.
                figures = {}
                for side in sides if number % 2 == 0 else reversed(sides):
                    progress.update(task, advance=1, description=f"{title}: {side.name}")
                    figures[side.name] = side.turns[title](seconds)
                for side in sides:
                    measurement.add(side.name, *figures[side.name])
    mean = geometric_mean(
        [median(measurement.compared(EARLIER)) for measurement in measured.values()]
    )
    verdict = "met" if mean >= LEAST_MEAN else "missed"
    passed = report.finish(
        "regression",
        list(measured.values()),
        None,
        console,
        also=mean >= LEAST_MEAN,
        machine=found,
        versions={"ours": machine.installed(*OUR_PACKAGES)},
        settings={"rounds": rounds, "seconds": seconds, "earlier": EARLIER},
        geometric_mean=mean,
    )
    console.print(f"Geometric mean: {mean:.3f} (bar: ≥ {LEAST_MEAN}, {verdict})")
    return passed
