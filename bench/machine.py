"""The machine a benchmark runs on: which core does what, and the facts beside the figures."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def split_cores() -> tuple[set[int], set[int]]:
    """The first core and the others; nothing where there is one core or no way to pin."""
    if sys.platform != "linux":
        return set(), set()
    first, *others = sorted(os.sched_getaffinity(0))
    return ({first}, set(others)) if others else (set(), set())


SERVER_CORES, OTHER_CORES = split_cores()
"""Where the server under measurement runs; where the load, Postgres and this process run."""


def pin(pid: int, to: set[int]) -> None:
    """Keep a process, and what it starts from now on, on these cores."""
    if sys.platform == "linux" and to:
        os.sched_setaffinity(pid, to)


def facts() -> dict[str, str | int | float]:
    """What kind of machine this is and how busy it was before the benchmark began."""
    found: dict[str, str | int | float] = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 0,
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    for name, path, field in (
        ("processor", "/proc/cpuinfo", "model name"),
        ("memory", "/proc/meminfo", "MemTotal"),
    ):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        values = [line.partition(":")[2].strip() for line in lines if line.startswith(field)]
        if values:
            found[name] = values[0]
    return found


def commit() -> str | None:
    """The commit that was measured, with a mark when the work tree differs from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def installed(*names: str) -> dict[str, str]:
    """The versions of these packages in the project's own environment."""
    return {name: metadata.version(name) for name in names}
