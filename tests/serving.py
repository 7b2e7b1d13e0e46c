"""Runs `amphibase serve` as people do: in a process of its own, on a socket."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
from tests.commands import FROM_THE_START, Forked, inherited

START_SECONDS = 60

Process = Forked | subprocess.Popen[bytes]


@contextlib.contextmanager
def serving(
    folder: Path, environment: Mapping[str, str], *arguments: str, forked: bool = True
) -> Iterator[str]:
    """Serve until the block ends.

    Args:
        folder: where the server runs, and keeps its data and log.
        arguments: more of the command, such as `main:app`.
        forked: False starts Python itself, as a shell does.

    Returns:
        The server's URL.
    """
    log = folder / "server.log"
    log.write_bytes(b"")
    command = ["serve", *arguments, "--port", "0"]
    whole = {**inherited(), **environment}
    process: Process
    if forked:
        process = Forked(["amphibase", *command], folder, whole, [Path(os.devnull), log, log])
    else:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*FROM_THE_START, *command], cwd=folder, env=whole, stdout=output, stderr=output
            )
    try:
        yield _url(process, log)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _url(process: Process, log: Path) -> str:
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
