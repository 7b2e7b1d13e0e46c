"""Runs `amphibase serve` as people do: in a process of its own, on a socket."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

START_SECONDS = 30


@contextlib.contextmanager
def serving(folder: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """Serve until the block ends.

    Args:
        folder: where the server runs, and keeps its data and log.
        arguments: more of the command, such as `main:app`.

    Returns:
        The server's URL.
    """
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "amphibase", "serve", *arguments, "--port", "0"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield _url(process, log)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        text = " ".join(log.read_text().split())
        if "http://127.0.0.1:" in text:
            url = "http://127.0.0.1:" + text.partition("http://127.0.0.1:")[2].split()[0]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    return url
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
