"""What `records` measures inside a process of Amphibase, without HTTP: pages, inserts, streams.

`records` starts it once for each figure or pair of figures, with the settings of an installation in
the environment; it prints a JSON object. The two figures of a pair are taken in turns, so that a
slow moment of the machine touches both.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import uvloop
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from amphibase import ANONYMOUS, SERVICE
from bench.records_app import Note, db
from bench.records_data import OWNER, note_id, title, written_at
from bench.servers import with_driver

PAGE = 100
ROWS = 10_000
WARM_UP = 3
"""Turns that are not counted."""
LEAST = 3
"""Turns that are counted, however long they take."""


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """How many seconds the work takes."""
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


async def cursor() -> dict[str, str | None]:
    """The cursor behind the newest note of now, whatever is added later."""
    async with db.started() as running:
        page = await running.backend.repository(Note, ANONYMOUS).page(limit=1)
    return {"cursor": page.next_cursor}


async def pages(seconds: float, cursor: str) -> dict[str, float]:
    """Milliseconds for the first page, and for the last, behind the cursor."""
    first: list[float] = []
    last: list[float] = []
    async with db.started() as running:
        notes = running.backend.repository(Note, ANONYMOUS)
        top, bottom = await notes.page(limit=PAGE), await notes.page(limit=PAGE, cursor=cursor)
        assert len(top.items) == len(bottom.items) == PAGE, "a page is not full"
        assert top.next_cursor is not None, "the first page is the only one"
        assert bottom.next_cursor is None, "the last page is not the last"
        assert bottom.items[-1].id == note_id(1), "the last page is another one"
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(first) < WARM_UP + LEAST:
            first.append(await timed(lambda: notes.page(limit=PAGE)))
            last.append(await timed(lambda: notes.page(limit=PAGE, cursor=cursor)))
    return {"first": milliseconds(first), "last": milliseconds(last)}


async def adds(seconds: float, url: str) -> dict[str, float]:
    """Rows a second through `add_many`, and through SQLAlchemy Core's executemany."""
    ours: list[float] = []
    core: list[float] = []
    values = [
        {
            "id": note_id(number),
            "owner_id": OWNER,
            "title": title(number),
            "stars": number % 5,
            "created_at": written_at(number),
            "updated_at": written_at(number),
        }
        for number in range(ROWS)
    ]
    table = Note.metadata.tables[Note.__tablename__]
    engine = create_async_engine(with_driver(url, "postgresql+psycopg"))

    async def executemany() -> None:
        async with engine.begin() as connection:
            await connection.execute(insert(table), values)

    with psycopg.connect(with_driver(url, "postgresql"), autocommit=True) as direct:

        def empty() -> None:
            direct.execute("TRUNCATE notes")
            gc.collect()

        async with db.started() as running:
            notes = running.backend.repository(Note, SERVICE)
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(ours) < 1 + LEAST:
                rows = [Note(**row) for row in values]
                empty()
                ours.append(await timed(partial(notes.add_many, rows)))
                stored = direct.execute("SELECT count(*) FROM notes").fetchone()
                assert stored == (ROWS,), f"add_many stored {stored} rows"
                empty()
                core.append(await timed(executemany))
    await engine.dispose()
    return {"ours": ROWS / median(ours[1:]), "core": ROWS / median(core[1:])}


async def stream() -> dict[str, float]:
    """How many rows a stream gave, and by how many megabytes the memory's peak rose meanwhile."""
    async with db.started() as running:
        notes = running.backend.repository(Note, ANONYMOUS)
        await notes.page(limit=PAGE)
        gc.collect()
        forget_peak()
        before, rows = peak(), 0
        async for _ in notes.stream():
            rows += 1
        return {"rows": rows, "growth": peak() - before}


def milliseconds(turns: list[float]) -> float:
    """The median of the turns that count."""
    return median(turns[WARM_UP:]) * 1000


def peak() -> float:
    """The most memory that this process had so far, in megabytes.

    Linux's own file, where there is one: what getrusage says begins with the parent's peak.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Begin a new peak where Linux can: what the start took for a moment is not the stream's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Carry out what the command line names, and print what came of it."""
    name, *arguments = sys.argv[1:]
    work: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "cursor": cursor,
        "pages": lambda: pages(float(arguments[0]), arguments[1]),
        "adds": lambda: adds(float(arguments[0]), arguments[1]),
        "stream": stream,
    }

    async def run() -> dict[str, Any]:
        return await work[name]()

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
