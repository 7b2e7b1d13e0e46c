"""The server processes under measurement: Amphibase, the peers, and the Postgres behind them.

Every server is a process of its own on the server core, listens on 127.0.0.1, writes its log to a
file, and is stopped when its block is left, whatever the reason.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy.engine import make_url

from amphibase import postgres
from bench.environment import PEERS, PEERS_PYTHON, ServerError
from bench.load import LoadError, Plan, Result, Stream, run
from bench.machine import ROOT, SERVER_CORES, pin

START_SECONDS = 30.0
STOP_SECONDS = 10.0
AMPHIBASE = str(Path(sys.executable).with_name("amphibase"))


@dataclass(frozen=True, slots=True)
class Server:
    """One running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def error(self, message: str) -> ServerError:
        """What to raise when this server did wrong."""
        return ServerError(self.name, message, self.log.read_text(errors="replace"))

    def call(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        expected: int,
        *,
        json: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
        token: str = "",
    ) -> dict[str, Any]:
        """Send one request outside the measurement; return the JSON object of the response."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            response = client.request(
                method, self.url + path, json=json, data=form, headers=headers, timeout=30
            )
        except httpx.HTTPError as error:
            raise self.error(f"{method} {path}: {error!r}") from None
        if response.status_code != expected:
            raise self.error(f"{method} {path}: {response.status_code} {response.text[:2000]}")
        try:
            values: dict[str, Any] = dict(response.json())
        except (TypeError, ValueError):
            raise self.error(
                f"{method} {path}: not a JSON object: {response.text[:2000]}"
            ) from None
        return values

    def drive(self, streams: list[Stream], seconds: float) -> Result:
        """Put these streams on the server at once."""
        try:
            return run(Plan(self.port, streams, seconds, server_pid=self.process.pid))
        except LoadError as error:
            raise self.error(str(error)) from None


@dataclass(frozen=True, slots=True)
class Installation:
    """Amphibase on a database: how it is set up, and the folder that it keeps its things in.

    Args:
        application: `module:app`, found from the repository's root; users and sign-in alone
            where not given.
    """

    folder: Path
    settings: dict[str, str]
    application: str | None = None

    def command(self, *arguments: str) -> None:
        """Run `amphibase` in the folder and wait for its end."""
        spelled = f"`amphibase {' '.join(arguments)}`"
        try:
            done = subprocess.run(
                [AMPHIBASE, *arguments],
                cwd=self.folder,
                env=clean(self.settings),
                capture_output=True,
                text=True,
            )
        except OSError as error:
            raise ServerError("Amphibase", str(error)) from None
        if done.returncode != 0:
            raise ServerError("Amphibase", f"{spelled} failed", done.stdout + done.stderr)


def install(
    database_url: str, folder: Path, application: str | None = None, **more: str
) -> Installation:
    """Set Amphibase up for production, its database brought up to date by `amphibase db upgrade`.

    Nothing is set for speed: rate limits are off because the load comes from one address, and
    tokens live as long as the peers' do.

    Args:
        application: see Installation; `amphibase db revision` writes what makes its tables.
        more: further settings.
    """
    settings = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": database_url,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DATA_DIR": str(folder / "data"),
        "RATE_LIMITS": "off",
        "ACCESS_TOKEN_MINUTES": "60",
        "PYTHONPATH": str(ROOT),
    }
    folder.mkdir(exist_ok=True)
    made = Installation(folder, settings | more, application)
    if application is None:
        made.command("db", "upgrade")
    else:
        made.command("db", "upgrade", "--app", application)
        made.command("db", "revision", "--app", application, "-m", "the application's tables")
        made.command("db", "upgrade", "--app", application)
    return made


@contextmanager
def amphibase(installation: Installation, name: str = "Amphibase") -> Iterator[Server]:
    """`amphibase serve` in production."""
    port, folder = free_port(), installation.folder
    settings = installation.settings | {"HOST": "127.0.0.1", "PORT": str(port)}
    application = installation.application
    command = [AMPHIBASE, "serve", *([application] if application else [])]
    with serving(name, command, port, "/health/ready", settings, folder, folder) as server:
        yield server


@contextmanager
def peer(name: str, app: str, environment: dict[str, str], scratch: Path) -> Iterator[Server]:
    """An application of bench/peers under one uvicorn process, in the peers' own environment."""
    port = free_port()
    python = str(PEERS_PYTHON)
    uvicorn = [python, "-m", "uvicorn", app, "--no-access-log", "--loop", "uvloop"]
    command = [*uvicorn, "--http", "httptools", "--host", "127.0.0.1", "--port", str(port)]
    with serving(name, command, port, "/health", environment, PEERS, scratch) as server:
        yield server


@contextmanager
def serving(
    name: str,
    command: list[str],
    port: int,
    ready: str,
    environment: dict[str, str],
    cwd: Path,
    scratch: Path,
    *,
    pinned: bool = True,
) -> Iterator[Server]:
    """Start a server, wait until it is ready, stop it at the end.

    Args:
        pinned: whether it has the server core, and no other.
    """
    log = scratch / f"{name}.log"
    with log.open("wb") as sink:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=clean(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerError(name, str(error)) from None
    server = Server(name, port, process, log)
    try:
        if pinned:
            pin(process.pid, SERVER_CORES)
        wait_until_ready(server, ready)
        yield server
    finally:
        stop(process)


def wait_until_ready(server: Server, path: str) -> None:
    """Wait for 200 from the server's health route."""
    deadline = time.monotonic() + START_SECONDS
    last = "no response"
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise server.error(f"ended with code {server.process.returncode} while starting")
        try:
            response = httpx.get(server.url + path, timeout=5)
        except httpx.HTTPError as error:
            last = repr(error)
        else:
            if response.status_code == 200:
                return
            last = f"{response.status_code} {response.text[:500]}"
        time.sleep(0.05)
    raise server.error(f"GET {path} was not 200 within {START_SECONDS:g} s: {last}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to stop, then insist; its session is its own, so its children go with it."""
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def clean(environment: dict[str, str]) -> dict[str, str]:
    """These settings and nothing else of this shell that could change how a server behaves."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | environment


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def database_server(scratch: Path, **settings: str) -> Iterator[postgres.Server]:
    """A Postgres server, with these settings of its own."""
    try:
        server = postgres.start(scratch / "postgres", settings=settings)
    except Exception as error:
        raise ServerError("Postgres", f"could not start: {error!r}") from error
    with server:
        yield server


def with_driver(url: str, driver: str) -> str:
    """The same database for another driver."""
    return make_url(url).set(drivername=driver).render_as_string(hide_password=False)


def postgres_version(url: str) -> str:
    """The version of the Postgres server behind this URL."""
    with psycopg.connect(with_driver(url, "postgresql")) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "unknown"
