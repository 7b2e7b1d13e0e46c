"""The Supabase backend beside the bare calls of supabase-py, both on the local Supabase in a
process of its own: what a list costs as objects, reads and writes of many rows, and `/users/me`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any
from uuid import UUID

import httpx
import psycopg
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import create_engine
from sqlalchemy.orm import Mapped
from supabase import AsyncClient, AsyncClientOptions

from amphibase import SERVICE, Amphibase, Base, Caller, Owned, User
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.models import uuid7
from amphibase.schema import policy_script, triggers
from amphibase.settings.application import Settings, load_settings
from amphibase.supabase.backend import SupabaseBackend
from amphibase.testing.client import BASE_URL, open_client
from amphibase.testing.supabase import LocalSupabase, serve_projects
from bench import machine, report
from bench.report import Bar, Measurement

OURS = "Amphibase"
THEIRS = "supabase-py"
ANN = Caller("authenticated", UUID(int=0xA))
NEW = 5_000
SOME, MANY = 25_000, 250_000
RANGE = 1_000
"""How many rows one request of the bare client reads: the most that a project returns."""

REPEAT = 40
"""How often what takes milliseconds is done in one round."""

OUR_PACKAGES = ("amphibase", "httpx", "sqlalchemy", "supabase")

GRANTS = "GRANT ALL ON ALL TABLES IN SCHEMA public TO service_role; NOTIFY pgrst, 'reload schema'"

FILL = """
INSERT INTO bench_entries (id, owner_id, title, stars, created_at, updated_at)
SELECT gen_random_uuid(), %s, 'entry ' || n, n, now() - n * interval '1 second', now()
FROM generate_series(%s::int, %s::int) n
"""


class BenchEntry(Owned, Base):
    """A row of the benchmark."""

    __tablename__ = "bench_entries"

    title: Mapped[str]
    stars: Mapped[int]


Work = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that both sides do.

    Attributes:
        bar: how long ours may take at most, in terms of theirs.
        rows: in the table.
        repeat: how often it is done in one round.
    """

    title: str
    bar: float
    ours: Work
    theirs: Work
    rows: int = SOME
    repeat: int = 1


def prepare(project: LocalSupabase) -> None:
    """Create the tables, with policies and triggers."""
    engine = create_engine(project.db_url.replace("postgresql://", "postgresql+psycopg://"))
    Base.metadata.create_all(engine)
    engine.dispose()
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        for script in (policy_script.script(Base.metadata), triggers.script(Base.metadata), GRANTS):
            connection.execute(script.encode())


def fill(project: LocalSupabase, first: int, last: int) -> None:
    """Add entries of Ann's by SQL."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(FILL, [ANN.user_id, first, last])
        connection.execute("VACUUM ANALYZE bench_entries")


def clear(project: LocalSupabase) -> None:
    """Delete the entries that were added over the API."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute("DELETE FROM bench_entries WHERE title = 'new'")


class Ours:
    """The repository, whose rows come as objects."""

    def __init__(self, backend: SupabaseBackend, caller: Caller) -> None:
        self._entries = backend.repository(BenchEntry, caller)

    async def first(self) -> BenchEntry:
        return (await self._entries.list(limit=1))[0]

    async def get(self, id: UUID) -> Any:
        return await self._entries.get(id)

    async def newest(self) -> Any:
        return await self._entries.list(limit=100)

    async def add_many(self) -> Any:
        return await self._entries.add_many([BenchEntry(title="new", stars=n) for n in range(NEW)])

    async def read_all(self) -> Any:
        return [entry async for entry in self._entries.stream()]


class Theirs:
    """The calls that the client's documentation shows, whose rows come as dictionaries."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, id: UUID) -> Any:
        one = self._client.table("bench_entries").select("*").eq("id", str(id))
        return (await one.execute()).data

    async def newest(self) -> Any:
        entries = self._client.table("bench_entries").select("*").order("created_at", desc=True)
        return (await entries.limit(100).execute()).data

    async def add_many(self) -> Any:
        owner = str(ANN.user_id)
        new = [
            {"id": str(uuid7()), "owner_id": owner, "title": "new", "stars": n} for n in range(NEW)
        ]
        return (await self._client.table("bench_entries").insert(new).execute()).data

    async def read_all(self) -> Any:
        read: list[Any] = []
        while True:
            entries = self._client.table("bench_entries").select("*")
            entries = entries.order("created_at", desc=True).order("id", desc=True)
            some = (await entries.range(len(read), len(read) + RANGE - 1).execute()).data
            read += some
            if len(some) < RANGE:
                return read


def their_app(client: AsyncClient) -> FastAPI:
    """Return an application that has Auth verify the token of each request."""
    app = FastAPI()
    bearer = HTTPBearer()

    async def current_user(credentials: HTTPAuthorizationCredentials = Depends(bearer)) -> Any:
        response = await client.auth.get_user(credentials.credentials)
        if response is None:
            raise HTTPException(401)
        return response.user

    @app.get("/users/me")
    async def me(user: Any = Depends(current_user)) -> Any:
        return user

    return app


def own_profile(client: httpx.AsyncClient) -> Work:
    """Return what requests the profile of a signed-in user."""

    async def read() -> None:
        (await client.get("/users/me")).raise_for_status()

    return read


@asynccontextmanager
async def users_task(settings: Settings, client: AsyncClient) -> AsyncIterator[Task]:
    """Sign a user in, whom both applications show; without a socket, so that frameworks weigh
    less than what they wait for."""
    app = Amphibase(settings).mount(FastAPI())
    async with open_client(app) as anonymous:
        user = await anonymous.as_user("eve@example.com")
        transport = httpx.ASGITransport(app=their_app(client))
        theirs = httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=user.headers)
        async with user, theirs:
            yield Task("/users/me", 0.2, own_profile(user), own_profile(theirs), repeat=REPEAT)


def tasks(ours: Ours, theirs: Theirs, id: UUID) -> list[Task]:
    """Return what is measured, in the order of the rows that it needs."""
    return [
        Task("get", 1.1, lambda: ours.get(id), lambda: theirs.get(id), repeat=REPEAT),
        Task("List of 100", 1.1, ours.newest, theirs.newest, repeat=REPEAT),
        Task(f"Add {NEW:,} rows", 0.85, ours.add_many, theirs.add_many),
        Task(f"Read {SOME:,} rows", 0.9, ours.read_all, theirs.read_all),
        Task(f"Read {MANY:,} rows", 0.2, ours.read_all, theirs.read_all, MANY),
    ]


async def milliseconds(work: Work, repeat: int) -> float:
    """Return how long the work takes."""
    begin = perf_counter()
    for _ in range(repeat):
        await work()
    return (perf_counter() - begin) / repeat * 1000


async def compare(
    task: Task, project: LocalSupabase, rounds: int, progress: Progress
) -> Measurement:
    """Let both sides do a task by turns."""
    measurement = Measurement(task.title, "ms", (Bar(THEIRS, "at most", task.bar),))
    await task.ours()
    await task.theirs()
    bar = progress.add_task(task.title, total=rounds)
    sides = ((OURS, task.ours), (THEIRS, task.theirs))
    for number in range(rounds):
        figures = {}
        # Who goes first changes, so that a drift of the machine favours neither.
        for name, work in sides if number % 2 == 0 else reversed(sides):
            clear(project)
            figures[name] = await milliseconds(work, task.repeat)
        for name, _ in sides:
            measurement.add(name, figures[name])
        progress.advance(bar)
    clear(project)
    return measurement


async def measure(project: LocalSupabase, rounds: int, progress: Progress) -> list[Measurement]:
    """Do every task by turns."""
    settings = load_settings(
        backend="supabase",
        supabase_url=project.url,
        supabase_anon_key=project.anon_key,
        supabase_service_key=project.service_role_key,
        supabase_jwt_secret=project.jwt_secret,
    )
    backend = SupabaseBackend(settings, load_keys(settings))
    await backend.repository(User, SERVICE).add(User(id=ANN.user_id, email="ann@example.com"))
    fill(project, 1, SOME)
    headers = {"Authorization": backend.client.headers(ANN)["Authorization"]}
    signed_in = replace(ANN, token=headers["Authorization"].removeprefix("Bearer "))
    client = AsyncClient(project.url, project.anon_key, AsyncClientOptions(headers=headers))
    ours = Ours(backend, signed_in)
    measurements = []
    rows = SOME
    gc.collect()
    gc.freeze()  # as `amphibase serve` does at its start
    async with users_task(settings, client) as users:
        for task in [users, *tasks(ours, Theirs(client), (await ours.first()).id)]:
            if task.rows > rows:
                fill(project, rows + 1, task.rows)
                rows = task.rows
            measurements.append(await compare(task, project, rounds, progress))
    await client.postgrest.aclose()
    await backend.close()
    return measurements


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether every bar is met.

    Args:
        seconds: not used: each task takes the time that it takes.
    """
    facts = machine.facts()
    with (
        Progress(console=console, transient=True) as progress,
        serve_projects() as projects,
        projects.open() as project,
    ):
        prepare(project)
        measurements = asyncio.run(measure(project, rounds, progress))
    return report.finish(
        "supabase",
        measurements,
        None,
        console,
        machine=facts,
        versions={"ours": machine.installed(*OUR_PACKAGES)},
    )
