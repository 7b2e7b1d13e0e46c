"""A move between two Postgres databases beside the ways in which people copy a table, its proof,
its memory, and a move into a Supabase project over its API beside bare calls of supabase-py.

    make bench-move
    .venv/bin/python -m bench.move --rows 50000 --rounds 1      # a short form
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import MetaData, Table, create_engine, insert, select
from sqlalchemy.engine import make_url

from amphibase import postgres
from amphibase.errors import ConfigurationError
from amphibase.move.journal import Journal
from amphibase.move.tables.base import Selection, TablePair
from amphibase.move.tables.passthrough import Passthrough
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.sql_checksums import open_sql_checksums
from amphibase.postgres.binaries import find_binaries
from bench import machine, move_api, report
from bench.report import Bar, Measurement

OURS = "Amphibase"
PIPE, PIPE_WITH_KEY = "psql | psql", "psql | psql, then the key"
CORE = "SQLAlchemy executemany"
WANTED = "wanted"
MEMORY_MB = 150.0
CORE_ROWS = 50_000
SIZES = (100, 10, 1)
"""The whole table, a tenth and a hundredth: how many times smaller the tables are whose memory and
time are measured."""

TABLE = """
CREATE TABLE people (
    id uuid NOT NULL, email text NOT NULL, name text, password_hash text,
    is_active boolean NOT NULL, score numeric(10, 2), metadata jsonb,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL
)
"""
KEY = "ALTER TABLE people ADD PRIMARY KEY (id)"
FILL = """
INSERT INTO people
SELECT gen_random_uuid(), 'person' || n || '@example.com', 'Person ' || n,
       '$2b$12$' || left(md5(n::text) || md5((n + 1)::text), 53), n % 7 <> 0, n * 0.37,
       jsonb_build_object('n', n, 'plan', 'free'), now() - n * interval '1 second', now()
  FROM generate_series(1, %s::int) n
"""
COPY_OUT, COPY_IN = (
    "COPY people TO STDOUT (FORMAT binary)",
    "COPY people FROM STDIN (FORMAT binary)",
)

OUR_PACKAGES = ("amphibase", "psycopg", "sqlalchemy", "supabase")


def run_sql(url: str, *statements: str) -> None:
    """Run statements, each by itself."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def empty_target(url: str, *, has_key: bool) -> None:
    """Make the table anew, and have the server write what it owes to the disk."""
    run_sql(url, "DROP TABLE IF EXISTS people", TABLE, *([KEY] if has_key else []), "CHECKPOINT")


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM people").fetchone()
    return int(row[0]) if row else 0


async def pair_of(source: str, target: str) -> TablePair:
    """Return the table of both sides."""
    return TablePair(await _selection(source), await _selection(target))


async def _selection(url: str) -> Selection:
    async with PostgresTables(make_url(url), "bench") as tables:
        catalog = await tables.catalog()
    (table,) = (table for table in catalog.tables if table.name.name == "people")
    names = tuple(column.name for column in table.columns)
    return Selection(table, names, table.key, tuple(column.type for column in table.columns))


async def move(source: str, target: str) -> None:
    """Copy the table as a run of a plan does, checkpoints and journal included."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "plan.toml")) as journal:
        mover = Passthrough(make_url(source), make_url(target), "bench", journal)
        await mover.copy([await pair_of(source, target)])
    run_sql(target, "DROP SCHEMA amphibase_move CASCADE")


def pipe(source: str, target: str) -> None:
    """Copy the table by two programs and a pipe."""
    psql = str(find_binaries() / "psql")
    with subprocess.Popen([psql, "-qXc", COPY_OUT, source], stdout=subprocess.PIPE) as reader:
        subprocess.run([psql, "-qXc", COPY_IN, target], stdin=reader.stdout, check=True)
    assert reader.returncode == 0


def pipe_with_key(source: str, target: str) -> None:
    """Copy the table by two programs and a pipe, and add its key afterwards."""
    pipe(source, target)
    run_sql(target, KEY)


def executemany(source: str, target: str) -> None:
    """Copy the first rows by SQLAlchemy Core, 5,000 at once."""
    reader, writer = (
        create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        for url in (source, target)
    )
    table = Table("people", MetaData(), autoload_with=reader)
    with reader.connect() as own, writer.begin() as other:
        rows = own.execute(select(table).limit(CORE_ROWS)).mappings()
        while batch := rows.fetchmany(5_000):
            other.execute(insert(table), [dict(row) for row in batch])
    reader.dispose()
    writer.dispose()


def seconds_of(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure_copy(
    source: str, target: str, rows: int, rounds: int, progress: Progress
) -> Measurement:
    """Copy the table by turns."""
    bars = (Bar(PIPE, "at least", 1.3), Bar(PIPE_WITH_KEY, "at least", 0.95))
    measurement = Measurement(
        f"Copy of {rows:,} rows, Postgres to Postgres",
        "rows/s",
        (*bars, Bar(CORE, "at least", 5.0)),
    )
    sides: dict[str, tuple[Callable[[], object], bool, int]] = {
        OURS: (lambda: asyncio.run(move(source, target)), True, rows),
        PIPE: (lambda: pipe(source, target), True, rows),
        PIPE_WITH_KEY: (lambda: pipe_with_key(source, target), False, rows),
        CORE: (lambda: executemany(source, target), True, min(rows, CORE_ROWS)),
    }
    task = progress.add_task(measurement.title, total=rounds)
    for number in range(rounds):
        figures = {}
        # Who goes first changes, so that a drift of the machine favours neither.
        for name in sides if number % 2 == 0 else reversed(sides):
            work, has_key, copied = sides[name]
            empty_target(target, has_key=has_key)
            figures[name] = copied / seconds_of(work)
            assert count(target) == copied, f"{name} copied {count(target)} rows"
        for name in sides:
            measurement.add(name, figures[name])
        progress.advance(task)
    return measurement


def measure_proof(
    title: str, source: str, target: str, wanted: float, rows: int, rounds: int, progress: Progress
) -> Measurement:
    """Compare both sides of the table, which are equal."""
    measurement = Measurement(
        f"Proof of {rows:,} rows, {title}", "rows/s", (Bar(WANTED, "at least", 1.0),)
    )
    task = progress.add_task(measurement.title, total=rounds)
    for _ in range(rounds):
        measurement.add(OURS, rows / seconds_of(lambda: asyncio.run(prove(source, target))))
        measurement.add(WANTED, wanted)
        progress.advance(task)
    return measurement


async def prove(source: str, target: str) -> None:
    pair = await pair_of(source, target)
    urls = make_url(source), make_url(target)
    async with open_sql_checksums(*urls, [pair]) as checksums:
        assert (await checksums.read_fingerprints(pair)).are_equal


def measure_growth(
    server: postgres.Server, rows: int, progress: Progress
) -> tuple[Measurement, Measurement]:
    """Move and prove tables of three sizes, each in a process of its own."""
    memory = Measurement(
        f"Resident memory at most, {rows // 100:,} to {rows:,} rows",
        "MB",
        (Bar(WANTED, "at most", 1.0),),
    )
    speed = Measurement(
        f"Rows/s of {rows:,} rows beside those of {rows // 10:,}",
        "rows/s",
        (Bar("a tenth", "at least", 0.8),),
    )
    task = progress.add_task("Memory", total=len(SIZES))
    rates = []
    for smaller in SIZES:
        source, target = (server.create_database(f"{side}_{smaller}") for side in ("from", "to"))
        run_sql(source, TABLE, FILL.replace("%s", str(rows // smaller)), KEY, "ANALYZE people")
        empty_target(target, has_key=True)
        script = [sys.executable, "-m", "bench.move_process", source, target]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        megabytes, seconds = map(float, done.stdout.split())
        memory.add(OURS, megabytes)
        memory.add(WANTED, MEMORY_MB)
        rates.append(rows / smaller / seconds)
        progress.advance(task)
    speed.add(OURS, rates[-1])
    speed.add("a tenth", rates[-2])
    return memory, speed


@contextmanager
def later_server(folder: Path, server: postgres.Server) -> Iterator[postgres.Server | None]:
    """Start a server of a later major version, where one is installed."""
    try:
        later = postgres.start(folder, least=int(server.version.split(".")[0]) + 1)
    except ConfigurationError:
        yield None
        return
    with later:
        yield later


def measure(rows: int, rounds: int, scratch: Path, progress: Progress) -> list[Measurement]:
    """Take every measurement that needs a Postgres alone."""
    with postgres.start(scratch / "postgres", least=14) as server:
        source, target = server.create_database("source"), server.create_database("target")
        run_sql(source, TABLE, FILL.replace("%s", str(rows)), KEY, "VACUUM ANALYZE people")
        measurements = [measure_copy(source, target, rows, rounds, progress)]
        empty_target(target, has_key=True)
        asyncio.run(move(source, target))
        measurements.append(
            measure_proof("one version", source, target, 250_000, rows, rounds, progress)
        )
        with later_server(scratch / "later", server) as later:
            if later is not None:
                other = later.create_database("target")
                empty_target(other, has_key=True)
                asyncio.run(move(source, other))
                title = f"versions {server.version} and {later.version}"
                measurements.append(
                    measure_proof(title, source, other, 150_000, rows, rounds, progress)
                )
        measurements += measure_growth(server, rows, progress)
    return measurements


def main() -> int:
    """Read the command line, measure, show and write; 0 where every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.move", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the table")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side has its turn")
    options = parser.parse_args()
    console = Console()
    facts = machine.facts()
    with (
        Progress(console=console, transient=True) as progress,
        tempfile.TemporaryDirectory(prefix="amphibase-") as folder,
    ):
        measurements = measure(options.rows, options.rounds, Path(folder), progress)
        measurements += move_api.measure(options.rows // 10, options.rounds, progress)
    met = report.finish(
        "move",
        measurements,
        None,
        console,
        machine=facts,
        versions={"ours": machine.installed(*OUR_PACKAGES)},
    )
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
