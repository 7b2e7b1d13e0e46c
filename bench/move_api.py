"""A move into a Supabase project that is reached by its API alone, beside bare calls of
supabase-py: rows over the Data API, and accounts with profiles over the admin API.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from pydantic import SecretStr
from rich.progress import Progress
from supabase import AsyncClient

from amphibase.move.accounts.admin_api import AdminApi
from amphibase.move.accounts.api import ApiAccounts
from amphibase.move.accounts.rows import AuthTable
from amphibase.move.endpoints import Role, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.project import client_of
from amphibase.move.tables.base import CHUNK_ROWS, Chunk, Row, Selection
from amphibase.move.tables.data_api import DataApiTables
from amphibase.testing.supabase import LocalSupabase, serve_projects
from bench.report import Bar, Measurement

OURS, BULK, SINGLE = "Amphibase", "supabase-py, in bulk", "supabase-py, one by one"
ACCOUNTS = 1_000
SINGLE_ROWS = 500
WAYS = ((1_000, 4), (1_000, 8), (5_000, 4), (5_000, 8))
"""Rows of a request and requests at once, of which the bare calls have the fastest."""

HASH = "$2b$10$CwTycUXWue0Thq9StjUM0uJ8.Zx0Tq3e9kD6pXlV8sQd6Qb4bq9mG"
TABLES = """
CREATE TABLE visits (id uuid PRIMARY KEY, page text, stars int, seen_at timestamptz);
CREATE TABLE profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, name text);
GRANT ALL ON visits, profiles TO service_role;
NOTIFY pgrst, 'reload schema';
"""

Work = Callable[[], Awaitable[object]]


class Project:
    """The project, empty before each turn, and both ways into it, open before the first one."""

    def __init__(
        self,
        project: LocalSupabase,
        rows: int,
        client: AsyncClient,
        tables: DataApiTables,
        accounts: ApiAccounts,
    ) -> None:
        self._database = project.db_url
        self._client, self._tables, self._accounts = client, tables, accounts
        seen = "2026-01-02 03:04:05.678901+00"
        self.rows: list[Row] = [
            (str(uuid4()), f"/pages/{number}", str(number % 5), seen) for number in range(rows)
        ]
        self.accounts: list[dict[str, str | None]] = [
            {
                "id": str(uuid4()),
                "email": f"person{number}@example.com",
                "encrypted_password": HASH,
                "email_confirmed_at": seen,
                "raw_user_meta_data": f'{{"name": "Person {number}"}}',
            }
            for number in range(ACCOUNTS)
        ]

    def clear(self) -> None:
        """Delete all rows and accounts."""
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute("TRUNCATE visits, profiles; DELETE FROM auth.users")

    def count(self, table: str) -> int:
        with psycopg.connect(self._database) as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        return int(row[0]) if row else 0

    async def move_rows(self) -> None:
        """Write the rows as a run of a plan does."""
        await self._write("visits", self.rows)

    async def move_accounts(self) -> None:
        """Write the accounts and their profiles as a run of a plan does."""
        rejected = await self._accounts.insert(AuthTable.USERS, self.accounts)
        assert rejected == []
        await self._write("profiles", [(str(each["id"]), "A name") for each in self.accounts])

    async def _write(self, name: str, rows: Sequence[Row]) -> None:
        tables = self._tables
        selection = await _selection(tables, name)
        writing: deque[asyncio.Task[Any]] = deque()
        for first in range(0, len(rows), CHUNK_ROWS):
            if len(writing) >= tables.in_flight:
                assert await writing.popleft() == []
            some = rows[first : first + CHUNK_ROWS]
            chunk = Chunk(some, (some[-1][0] or "",))
            writing.append(asyncio.create_task(tables.insert(selection, chunk)))
        for task in writing:
            assert await task == []

    async def insert_in_bulk(self, rows: Sequence[Row], batch: int, at_once: int) -> None:
        """Insert rows by the calls that the client's documentation shows, several at once."""
        batches = deque(rows[first : first + batch] for first in range(0, len(rows), batch))

        async def work() -> None:
            while batches:
                await self._insert(batches.popleft())

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def insert_singly(self) -> None:
        """Insert the first rows one by one."""
        for row in self.rows[:SINGLE_ROWS]:
            await self._insert([row])

    async def create_accounts(self) -> None:
        """Create the accounts and their profiles one after the other."""
        for each in self.accounts:
            user = {"id": each["id"], "email": each["email"], "password_hash": HASH}
            await self._client.auth.admin.create_user({**user, "email_confirm": True})  # type: ignore[typeddict-item]
            profile = {"id": each["id"], "name": "A name"}
            await self._client.table("profiles").insert(profile).execute()

    async def _insert(self, rows: Sequence[Row]) -> None:
        names = ("id", "page", "stars", "seen_at")
        values = [dict(zip(names, row, strict=True)) for row in rows]
        await self._client.table("visits").insert(values, returning="minimal").execute()  # type: ignore[arg-type]


async def _selection(tables: DataApiTables, name: str) -> Selection:
    while True:
        catalog = await tables.catalog()
        for table in catalog.tables:
            if table.name.name == name:
                names = tuple(column.name for column in table.columns)
                types = tuple(column.type for column in table.columns)
                return Selection(table, names, ("id",), types)
        await asyncio.sleep(0.1)  # until the project has read its new tables


async def seconds_of(work: Work) -> float:
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


async def fastest_way(project: Project) -> tuple[int, int]:
    """Return with how many rows a request, and how many at once, the bare calls are fastest."""
    some = project.rows[: max(len(project.rows) // 4, 1)]
    times = {}
    for way in WAYS:
        project.clear()
        times[way] = await seconds_of(partial(project.insert_in_bulk, some, *way))
    return min(times, key=lambda way: times[way])


async def measure_turns(project: Project, rounds: int, progress: Progress) -> list[Measurement]:
    """Do every task by turns."""
    batch, at_once = await fastest_way(project)
    title = (
        f"{len(project.rows):,} rows over the Data API (bare: {batch:,} rows, {at_once} at once)"
    )
    bars = (Bar(BULK, "at least", 0.9), Bar(SINGLE, "at least", 20.0))
    rows = Measurement(title, "rows/s", bars)
    accounts = Measurement(
        f"{ACCOUNTS:,} accounts with hashes and profiles over the admin API",
        "accounts/s",
        (Bar(SINGLE, "at least", 2.0),),
    )
    singly = min(SINGLE_ROWS, len(project.rows))
    tasks: list[tuple[Measurement, str, dict[str, tuple[Work, int]]]] = [
        (
            rows,
            "visits",
            {
                OURS: (project.move_rows, len(project.rows)),
                BULK: (
                    lambda: project.insert_in_bulk(project.rows, batch, at_once),
                    len(project.rows),
                ),
                SINGLE: (project.insert_singly, singly),
            },
        ),
        (
            accounts,
            "profiles",
            {
                OURS: (project.move_accounts, ACCOUNTS),
                SINGLE: (project.create_accounts, ACCOUNTS),
            },
        ),
    ]
    for measurement, table, sides in tasks:
        task = progress.add_task(measurement.title, total=rounds)
        for number in range(rounds):
            figures = {}
            # Who goes first changes, so that a drift of the machine favours neither.
            for name in sides if number % 2 == 0 else reversed(sides):
                work, written = sides[name]
                project.clear()
                figures[name] = written / await seconds_of(work)
                assert project.count(table) == written, f"{name} wrote {project.count(table)}"
            for name in sides:
                measurement.add(name, figures[name])
            progress.advance(task)
    return [rows, accounts]


async def run(
    opened: LocalSupabase, rows: int, rounds: int, progress: Progress
) -> list[Measurement]:
    """Open both ways into a project and measure."""
    endpoint = SupabaseEndpoint(Role.TARGET, opened.url, SecretStr(opened.service_role_key))
    client = AsyncClient(opened.url, opened.service_role_key)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "plan.toml")) as journal:
        async with DataApiTables(client_of(endpoint), journal) as tables:
            accounts = ApiAccounts(AdminApi(client_of(endpoint)))
            project = Project(opened, rows, client, tables, accounts)
            measurements = await measure_turns(project, rounds, progress)
            await accounts.close()
    await client.postgrest.aclose()
    return measurements


def measure(rows: int, rounds: int, progress: Progress) -> list[Measurement]:
    """Start a project and measure."""
    with serve_projects() as projects, projects.open() as opened:
        with psycopg.connect(opened.db_url, autocommit=True) as connection:
            connection.execute(TABLES.encode())
        return asyncio.run(run(opened, rows, rounds, progress))
