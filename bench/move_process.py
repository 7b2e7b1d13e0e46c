"""One move and its proof in a process of its own: prints the megabytes that it took at most, and
the seconds of the copy."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.move import move, prove


def peak() -> float:
    """Return the most memory that this process has had, in megabytes (proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main(source: str, target: str) -> None:
    begin = time.perf_counter()
    asyncio.run(move(source, target))
    seconds = time.perf_counter() - begin
    asyncio.run(prove(source, target))
    print(peak(), seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
