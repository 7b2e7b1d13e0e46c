"""What the fast path of the built-in routes saves: the same requests with it and without it.

    make bench-fast-path

In one process and without sockets, so that nothing is measured but the application. Prints the
median time of a request in microseconds, and the ratio; SQLite in a temporary folder.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from fastapi import FastAPI

from amphibase import Amphibase, load_settings
from amphibase.testing.client import Client, open_client

ROUNDS = 9
REQUESTS = 300
PATH = "/users/me"


async def measure(client: Client) -> float:
    """Return the microseconds of one request, as the mean of many."""
    began = time.perf_counter()
    for _ in range(REQUESTS):
        response = await client.get(PATH)
        assert response.status_code == 200
    return (time.perf_counter() - began) / REQUESTS * 1e6


async def main() -> None:
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(data_dir=Path(folder), database_url="", rate_limits="off")
        app = {
            fast: Amphibase(settings.model_copy(update={"fast_path": fast})).mount(FastAPI())
            for fast in times
        }
        async with open_client(app[True]) as one, open_client(app[False]) as two:
            ann = {True: await one.as_user("ann@example.com")}
            ann[False] = await two.as_user("bob@example.com")
            for _ in range(ROUNDS):
                for fast, client in ann.items():
                    times[fast].append(await measure(client))
    short, long = (statistics.median(times[each]) for each in (True, False))
    print(f"GET {PATH}: {short:.0f} µs by the fast path, {long:.0f} µs by the framework")
    print(f"ratio {long / short:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
