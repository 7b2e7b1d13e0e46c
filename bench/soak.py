"""Minutes of mixed load on four workers while they, and Postgres, are killed now and then.

What was responded with success has to be there at the end, nothing but the documented responses may
come, and memory and descriptors of a worker that lives on have to stay flat. On SQLite the reads
beside sixty slow writers are held against the same reads alone. On both, a list of large rows must
not take the memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import httpx
from rich.console import Console
from rich.table import Table

from amphibase import postgres
from bench import machine, memory, report
from bench.environment import ServerError
from bench.report import Bar, Measurement
from bench.servers import Installation, Server, amphibase, install

APPLICATION = "bench.soak_app:app"
WORKERS = 4
CLIENTS = 16
WRITERS = 60
SPREAD_SECONDS = 2.0
KILL_WORKER_SECONDS = 20.0
KILL_POSTGRES_SECONDS = 75.0
RESTART_SECONDS = 60.0
READS_A_SECOND = 20
MOST_RATIO = 3.0
MOST_P999_MS = 100.0
MOST_GROWTH = 1.25
PASSWORD = "correct horse battery 7"
ADD, READ, LIST, CHANGE, DELETE, SIGN_IN = "add", "read", "list", "change", "delete", "sign in"
EXPECTED = {
    ADD: {201},
    READ: {200},
    LIST: {200},
    CHANGE: {200},
    DELETE: {204},
    SIGN_IN: {200},
}
ALWAYS_ALLOWED = {503, 429}
"""With Retry-After: the documented responses of a server that is under way or overloaded."""


@dataclass
class Outcome:
    """What came of the load on one engine."""

    responses: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    doubtful: set[str] = field(default_factory=set)
    """Ids of notes whose last change or deletion got no response."""
    lost: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


class Fleet:
    """The workers of one installation; the first is never killed."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._stacks: list[ExitStack] = []
        self.servers: list[Server] = []
        for number in range(WORKERS):
            self._open(number)

    def _open(self, number: int) -> None:
        stack = ExitStack()
        server = stack.enter_context(amphibase(self._installation, f"worker {number}"))
        if number < len(self.servers):
            self._stacks[number], self.servers[number] = stack, server
        else:
            self._stacks.append(stack)
            self.servers.append(server)

    def kill(self, number: int) -> None:
        """Kill a worker without warning and start another in its place, as a supervisor does: again
        and again where it cannot start, such as while Postgres recovers."""
        self.servers[number].process.kill()
        self._stacks[number].close()
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                return self._open(number)
            except ServerError:
                if time.monotonic() > deadline:
                    raise

    def close(self) -> None:
        """Stop all workers."""
        for stack in self._stacks:
            stack.close()


class Client:
    """A user with notes; each request goes to a random worker."""

    def __init__(self, number: int, fleet: Fleet, outcome: Outcome) -> None:
        self._credentials = {"email": f"user-{number}@example.com", "password": PASSWORD}
        self._fleet = fleet
        self._outcome = outcome
        self._http = httpx.AsyncClient(timeout=60)
        self._token = ""
        self._random = random.Random(number)
        self.notes: dict[str, str] = {}

    async def start(self) -> None:
        """Sign up."""
        url = self._fleet.servers[0].url
        response = await self._http.post(f"{url}/auth/sign-up", json=self._credentials)
        self._token = response.raise_for_status().json()["access_token"]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(
        self, action: str, method: str, path: str, body: object = None
    ) -> httpx.Response | None:
        """Send a request; None where there was no response, or not the expected one."""
        server = self._random.choice(self._fleet.servers)
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            response = await self._http.request(
                method, server.url + path, json=body, headers=headers
            )
        except httpx.HTTPError as error:
            self._outcome.responses[action, type(error).__name__] += 1
            return None
        status = response.status_code
        self._outcome.responses[action, str(status)] += 1
        if status in EXPECTED[action]:
            return response
        if status not in ALWAYS_ALLOWED or "retry-after" not in response.headers:
            self._outcome.unexpected[f"{action}: {status} {response.text[:200]}"] += 1
        return None

    async def act(self) -> None:
        """Do one thing that a user does."""
        choice = self._random.random()
        known = self._random.choice(list(self.notes)) if self.notes else None
        if known is None or choice < 0.3:
            title = f"note {self._random.random()}"
            added = await self.ask(ADD, "POST", "/notes", {"title": title, "stars": 1})
            if added is not None:
                self.notes[added.json()["id"]] = title
        elif choice < 0.6:
            read = await self.ask(READ, "GET", f"/notes/{known}")
            if read is not None and read.json()["title"] != self.notes[known]:
                self._outcome.lost.append(f"{known}: an older title was read")
        elif choice < 0.75:
            await self.ask(LIST, "GET", "/notes?limit=50")
        elif choice < 0.88:
            title = f"changed {self._random.random()}"
            if await self.ask(CHANGE, "PATCH", f"/notes/{known}", {"title": title}) is None:
                self.doubt(known)
            else:
                self.notes[known] = title
        elif choice < 0.97:
            if await self.ask(DELETE, "DELETE", f"/notes/{known}") is None:
                self.doubt(known)
            else:
                del self.notes[known]
        else:
            await self.ask(SIGN_IN, "POST", "/auth/sign-in", self._credentials)

    def doubt(self, id: str) -> None:
        """Forget a note whose state no response shows."""
        del self.notes[id]
        self._outcome.doubtful.add(id)

    async def hold(self) -> int:
        """Write for two seconds, and wait for as long as the response says, if it says so.

        Returns:
            The status of the response; 0 without one.
        """
        server = self._random.choice(self._fleet.servers)
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            response = await self._http.post(f"{server.url}/held-notes", headers=headers)
        except httpx.HTTPError:  # such as a connection that was idle for too long
            return 0
        await asyncio.sleep(int(response.headers.get("Retry-After", 0)))
        return response.status_code

    async def missing(self) -> list[str]:
        """List the notes whose success was reported and that are not stored as reported."""
        lost = []
        for id, title in self.notes.items():
            url = self._fleet.servers[0].url
            headers = {"Authorization": f"Bearer {self._token}"}
            response = await self._http.get(f"{url}/notes/{id}", headers=headers)
            if response.status_code != 200 or response.json()["title"] != title:
                lost.append(f"{id}: {response.status_code}")
        return lost


@asynccontextmanager
async def clients(fleet: Fleet, outcome: Outcome, count: int) -> AsyncIterator[list[Client]]:
    """Open clients that have signed up."""
    opened = [Client(number, fleet, outcome) for number in range(count)]
    try:
        for client in opened:
            await client.start()
        yield opened
    finally:
        for client in opened:
            await client.close()


async def soak(
    fleet: Fleet, seconds: float, database: postgres.Server | None, scratch: Path
) -> Outcome:
    """Put mixed load on the workers for so long, with kills."""
    outcome = Outcome()

    async def load(client: Client) -> None:
        while time.monotonic() < end:
            await client.act()

    async def kill_workers() -> None:
        while time.monotonic() + KILL_WORKER_SECONDS < end:
            await asyncio.sleep(KILL_WORKER_SECONDS)
            await asyncio.to_thread(fleet.kill, random.randrange(1, WORKERS))
            outcome.kills["worker"] += 1

    async def kill_postgres() -> None:
        running = database
        while running is not None and time.monotonic() + KILL_POSTGRES_SECONDS < end:
            await asyncio.sleep(KILL_POSTGRES_SECONDS)
            running = await asyncio.to_thread(restart, running, scratch)
            outcome.kills["Postgres"] += 1

    async def watch() -> None:
        process = Path(f"/proc/{fleet.servers[0].process.pid}")
        while time.monotonic() < end:
            for line in (process / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    outcome.memory.append(int(line.split()[1]) / 1024)
            outcome.descriptors.append(len(list((process / "fd").iterdir())))
            await asyncio.sleep(5)

    async with clients(fleet, outcome, CLIENTS) as opened:
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for work in (kill_workers(), kill_postgres(), watch()):
                tasks.create_task(work)
            for client in opened:
                tasks.create_task(load(client))
        for client in opened:
            outcome.lost += await client.missing()
    return outcome


def restart(server: postgres.Server, scratch: Path) -> postgres.Server:
    """Kill Postgres without warning and start it again on its port."""
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        try:
            return postgres.start(scratch / "postgres", port=server.port)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


async def latencies(fleet: Fleet, seconds: float, writers: int) -> tuple[list[float], Counter[int]]:
    """Read on a fixed schedule beside slow writers.

    Returns:
        milliseconds of each read, counted from when it was due, and the statuses of the writes.
    """
    statuses: Counter[int] = Counter()
    times: list[float] = []
    begin = time.monotonic()

    async def write(client: Client) -> None:
        await asyncio.sleep(random.random() * SPREAD_SECONDS)  # people do not begin at one moment
        while time.monotonic() - begin < seconds:
            statuses[await client.hold()] += 1

    async def read(client: httpx.AsyncClient, due: float, url: str) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            response = await client.get(f"{url}/notes?limit=1")
        except httpx.RemoteProtocolError:  # the connection was idle for too long
            response = await client.get(f"{url}/notes?limit=1")
        response.raise_for_status()
        times.append((time.monotonic() - due) * 1000)

    async with clients(fleet, Outcome(), writers) as opened, httpx.AsyncClient(timeout=60) as http:
        begin = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for client in opened:
                tasks.create_task(write(client))
            for number in range(int(seconds * READS_A_SECOND)):
                url = fleet.servers[number % WORKERS].url
                tasks.create_task(read(http, begin + number / READS_A_SECOND, url))
    return times, statuses


def percentile(values: list[float], share: float) -> float:
    """The value that a share of the values is below."""
    return quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Soak both engines, show and write; whether nothing was lost or unexpected.

    Args:
        rounds: how often the reads beside writers are measured.
        seconds: of the whole soak, half for each engine.
    """
    reads = Measurement(
        f"p99 of GET /notes beside {WRITERS} writers that hold a session for 2 s, SQLite",
        "ms",
        (Bar("without writers", "at most", MOST_RATIO),),
    )
    tail = Measurement(
        "p99.9 of the same", "ms, bar in ms", (Bar("1 ms", "at most", MOST_P999_MS),)
    )
    outcomes: dict[str, Outcome] = {}
    found = machine.facts()
    machine.pin(0, machine.OTHER_CORES)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        database = postgres.start(scratch / "postgres")
        stack.callback(lambda: postgres.start(scratch / "postgres").stop())
        urls = {
            "SQLite": f"sqlite:///{scratch / 'app.db'}",
            "Postgres": database.create_database("soak"),
        }
        for engine, url in urls.items():
            console.print(f"{engine}: {seconds / 2:g} s of load")
            fleet = Fleet(install(url, scratch / engine, APPLICATION, POOL_SIZE="10"))
            try:
                server = database if engine == "Postgres" else None
                outcomes[engine] = asyncio.run(soak(fleet, seconds / 2, server, scratch))
                show({engine: outcomes[engine]}, console)
            finally:
                fleet.close()
        memory_figures = []
        for engine, url in urls.items():
            console.print(f"{engine}: memory of lists of large rows")
            one, several = memory.measurements(engine)
            memory_figures += [one, several]
            large = url.replace("app.db", "large.db")
            if engine == "Postgres":
                large = database.create_database("large")
            installation = install(large, scratch / f"{engine} large", APPLICATION)
            memory.measure(installation, one, several)
        console.print("SQLite: reads beside writers")
        for number in range(rounds):
            url = f"sqlite:///{scratch / f'writers{number}.db'}"
            fleet = Fleet(install(url, scratch / f"writers{number}", APPLICATION))
            try:
                alone, _ = asyncio.run(latencies(fleet, 15, 0))
                beside, _ = asyncio.run(latencies(fleet, 15, WRITERS))
            finally:
                fleet.close()
            reads.add("beside writers", percentile(beside, 0.99))
            reads.add("without writers", percentile(alone, 0.99))
            tail.add("beside writers", percentile(beside, 0.999))
            tail.add("1 ms", 1.0)
    clean = show(outcomes, console)
    return report.finish(
        "soak",
        [reads, tail, *memory_figures],
        None,
        console,
        also=clean,
        machine=found,
        outcomes={
            engine: {
                "responses": {" ".join(key): n for key, n in outcome.responses.items()},
                "unexpected": outcome.unexpected,
                "lost": outcome.lost,
                "kills": outcome.kills,
                "memory_mb": outcome.memory,
                "descriptors": outcome.descriptors,
            }
            for engine, outcome in outcomes.items()
        },
    )


def show(outcomes: dict[str, Outcome], console: Console) -> bool:
    """Print a table of both engines; whether nothing is wrong in it."""
    table = Table("", *outcomes)
    rows: dict[str, Callable[[Outcome], str]] = {
        "responses": lambda o: f"{sum(o.responses.values()):,}",
        "kills": lambda o: ", ".join(f"{n} × {what}" for what, n in o.kills.items()),
        "503 and no response": lambda o: f"{unanswered(o):,}",
        "lost rows": lambda o: str(len(o.lost)),
        "unexpected responses": lambda o: str(o.unexpected.total()),
        "memory, first and last quarter, MB": lambda o: "{:.0f} → {:.0f}".format(*ends(o.memory)),
        "descriptors, the same": lambda o: "{:.0f} → {:.0f}".format(*ends(o.descriptors)),
    }
    for title, cell in rows.items():
        table.add_row(title, *[cell(outcome) for outcome in outcomes.values()])
    console.print(table)
    for engine, outcome in outcomes.items():
        for text, count in outcome.unexpected.most_common(10):
            console.print(f"{engine}: {count} × {text}", markup=False)
        for text in outcome.lost[:10]:
            console.print(f"{engine}: lost {text}", markup=False)
    return all(
        not outcome.lost
        and not outcome.unexpected
        and all(last <= first * MOST_GROWTH for first, last in (ends(outcome.memory),))
        and all(last <= first * MOST_GROWTH for first, last in (ends(outcome.descriptors),))
        for outcome in outcomes.values()
    )


def unanswered(outcome: Outcome) -> int:
    """Count the 503s and the requests whose connection broke."""
    return sum(
        count for (_, status), count in outcome.responses.items() if not status.startswith("2")
    )


def ends(values: list[float] | list[int]) -> tuple[float, float]:
    """The medians of the second and of the last quarter of the values; the first is warming up."""
    quarter = max(1, len(values) // 4)
    return median(values[quarter : 2 * quarter] or values), median(values[-quarter:])
