"""The gateway beside `@supabase/lite`, each as its own command starts it, and beside a bare ASGI
application that runs the same SQL without row level security: reads, inserts and sign-ins of a user
whom policies bind to his own rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import environment, machine, report
from bench.gateway_data import LIST, NOTES, entries
from bench.gateway_servers import (
    BY_ID,
    LITE_ROWS,
    NEWEST,
    OUR_ROWS,
    User,
    check,
    check_floor,
    fill,
    gateway,
    lite,
    lite_versions,
    make_lite,
    settle,
    sign_in,
)
from bench.load import Stream, request
from bench.report import Bar, Measurement
from bench.servers import Server, database_server, peer, postgres_version

OURS = "Amphibase"
THEIRS = "lite"
FLOOR = "raw ASGI, no RLS"
ENTRIES = "/rest/v1/entries"
READERS = 32
POOL_SIZE = "32"
WRITERS = 8
BULK_WRITERS = 2
SIGNERS = 4
MANY = 1_000
BULK = 5_000
SHORT = 1 / 4
"""What has no bar is measured for this share of the seconds."""
CEILING_SECONDS = 2.0
MOST_CONNECTIONS = "300"
OUR_PACKAGES = ("amphibase", "psycopg", "orjson", "uvicorn", "uvloop", "httptools")

ID_STEPS = [1 + n * NOTES // READERS for n in range(READERS)]


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured in a closed loop: each side's requests, and what one of them counts for."""

    measurement: Measurement
    sides: dict[str, tuple[Server, list[str]]]
    connections: int
    share: float = 1.0
    rows: int = 1

    def turn(self, name: str, seconds: float) -> None:
        """One side's turn in a round."""
        server, texts = self.sides[name]
        stream = Stream("requests", texts, self.connections)
        result = server.drive([stream], seconds * self.share)
        rate = result.streams["requests"].rate * self.rows
        self.measurement.add(name, rate, result)


def cases(ours: User, floor: Server, theirs: User, refused: list[int]) -> list[Case]:
    """All of them; a peer is left out of what it rejects."""
    users = {OURS: ours, THEIRS: theirs}

    def both(texts: Callable[[User], list[str]]) -> dict[str, tuple[Server, list[str]]]:
        return {name: (user.server, texts(user)) for name, user in users.items()}

    def inserts(count: int) -> dict[str, tuple[Server, list[str]]]:
        sides = both(lambda user: [user.post(ENTRIES, entries(count, user.id))])
        if count in refused:
            del sides[THEIRS]
        return sides

    one = Measurement(
        f"One row by id under row level security, {READERS} connections",
        "requests/s",
        (Bar(FLOOR, "at least", 0.85), Bar(THEIRS, "at least", 6.0)),
    )
    some = Measurement(
        f"The newest {LIST} rows, each with its folder, {READERS} connections",
        "requests/s",
        (Bar(FLOOR, "at least", 1.1),),
    )
    added = Measurement(f"Inserts of 1 row, {WRITERS} connections", "rows/s", ())
    many = Measurement(f"Inserts of {MANY:,} rows, {BULK_WRITERS} connections", "rows/s", ())
    signed = Measurement(f"Sign-ins with a password, {SIGNERS} connections", "requests/s", ())
    of_floor = [request("GET", f"/notes/{number}") for number in ID_STEPS]
    by_id = both(lambda user: [user.get(BY_ID.format(number)) for number in ID_STEPS])
    newest = both(lambda user: [user.get(NEWEST)])
    signs = both(lambda user: [sign_in(user, "ann")])
    return [
        Case(one, by_id | {FLOOR: (floor, of_floor)}, READERS),
        Case(some, newest | {FLOOR: (floor, [request("GET", "/notes")])}, READERS),
        Case(added, inserts(1), WRITERS, SHORT),
        Case(many, inserts(MANY), BULK_WRITERS, SHORT, MANY),
        Case(signed, signs, SIGNERS, SHORT),
    ]


def rejection(user: User, count: int) -> str | None:
    """What a side says against inserting so many rows at once; None where it inserts them all."""
    before = user.rows(f"{ENTRIES}?select=count")[0]["count"]
    response = user.ask("POST", ENTRIES, entries(count, user.id))
    if response.status_code != 201:
        return f"{response.status_code} {response.json().get('message', '')[:100]}"
    added = user.rows(f"{ENTRIES}?select=count")[0]["count"] - before
    return None if added == count else f"201, but {added} of them are there"


def insert_bulk(user: User, into: Measurement) -> None:
    """How long one insert of many rows takes."""
    rows = entries(BULK, user.id)
    begin = perf_counter()
    response = user.ask("POST", ENTRIES, rows)
    if response.status_code != 201:
        raise user.server.error(f"POST {ENTRIES}: {response.status_code} {response.text[:2000]}")
    into.add(user.server.name, (perf_counter() - begin) * 1000)


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether every bar is met."""
    bulk = Measurement(f"One insert of {BULK:,} rows", "ms", ())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        task = progress.add_task("the peers' environments", total=4 + rounds * 12)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)

        found = machine.facts()
        environment.make()
        make_lite()
        machine.pin(0, machine.OTHER_CORES)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        step("starting the servers")
        server = stack.enter_context(database_server(scratch, max_connections=MOST_CONNECTIONS))
        url = server.create_database("gateway")
        our_server = stack.enter_context(gateway(OURS, url, scratch))
        lite_server = stack.enter_context(lite(THEIRS, scratch))
        settings = {"DATABASE_URL": url, "POOL_SIZE": POOL_SIZE}
        floor = stack.enter_context(peer(FLOOR, "raw_rest:app", settings, scratch))
        step("the rows")
        ours, theirs = fill(our_server, OUR_ROWS), fill(lite_server, LITE_ROWS)
        settle(url)
        for user in (ours, theirs):
            check(user)
        check_floor(floor)
        trouble = [
            (user.server.name, count, reason)
            for user in (ours, theirs)
            for count in (MANY, BULK)
            if (reason := rejection(user, count))
        ]
        refused = [count for name, count, _ in trouble if name == THEIRS]
        succeeds = all(name != OURS for name, _, _ in trouble)
        step("the load generator's own ceiling")
        fixed = [Stream("fixed", [request("GET", "/")], READERS)]
        ceiling = floor.drive(fixed, CEILING_SECONDS)
        measured = cases(ours, floor, theirs, refused)
        for number in range(1, rounds + 1):
            for case in measured:
                for name in case.sides:
                    step(f"round {number} of {rounds}: {case.measurement.title}: {name}")
                    case.turn(name, seconds)
            if succeeds:
                insert_bulk(ours, bulk)
        versions = {
            "ours": machine.installed(*OUR_PACKAGES),
            "peers": environment.versions() | lite_versions(),
            "postgres": postgres_version(url),
        }

    for name, count, reason in trouble:
        console.print(f"[yellow]{escape(name)} does not insert {count:,} rows: {escape(reason)}")
    return report.finish(
        "gateway",
        [case.measurement for case in measured] + ([bulk] if succeeds else []),
        ceiling,
        console,
        also=succeeds,
        machine=found,
        versions=versions,
        settings={"rounds": rounds, "seconds": seconds, "notes": NOTES},
        refused=trouble,
    )
