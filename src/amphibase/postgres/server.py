"""A Postgres server of our own, for tests and for local work, on Linux and macOS.

`start` runs `postgres` as a child, on a folder that it initialises when it is empty. The server
listens on 127.0.0.1 only, has no Unix socket, and takes a random password, stored in the folder.

Postgres does not run as root. Root's server runs as the owner of the folder or, where that is
root too, as `postgres` or `nobody`. Neither the folder nor the wheel has to lie where that user
can get: the server is handed the folder open, and a wheel in a closed place is copied to `CACHE`.

The server ends with the process that started it, however that ends: a shell waits on a pipe whose
other end only that process holds, and stops the server when the pipe closes. The kernel's own
means, PR_SET_PDEATHSIG, would end the server with the *thread* that started it, and takes code
between fork and exec. If a server is left over all the same, the next `start` uses it.

The driver is imported where it is used, since a start needs none: it is read while the server
starts.
"""

import atexit
import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import LiteralString, Self
from urllib.parse import quote

from amphibase.errors import ConfigurationError, Conflict, Unavailable
from amphibase.postgres.account import (
    Programs,
    account_for,
    open_folder,
    open_private,
)
from amphibase.postgres.binaries import MINIMUM_MAJOR, ServerNeeds, find_binaries, reachable
from amphibase.postgres.initdb import PASSWORD_FILE, initialise, is_fresh, start_sync
from amphibase.postgres.lock_file import is_postgres, read_lock
from amphibase.postgres.process import boot, stop_process, watch

CONNECT_SECONDS = 10
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(eq=False)
class Server:
    """A running server; as a context manager it is stopped at the end.

    Attributes:
        url: of the database `postgres`, as the superuser; holds the password.
        port: on 127.0.0.1.
        pid: of the server's main process.
        version: such as "18.6".
        started: whether `start` started it; False when it was running already.
    """

    url: str = field(repr=False)
    port: int
    pid: int
    data_dir: Path
    version: str
    started: bool
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)
    _watcher: subprocess.Popen[str] | None = field(default=None, repr=False)
    _syncing: subprocess.Popen[str] | None = field(default=None, repr=False)

    def wait_until_durable(self) -> None:
        """Wait until the files of a folder that `start` initialised are on the disk: until then, a
        machine that stops may leave it incomplete.

        Raises:
            Unavailable: the disk does not take them.
        """
        syncing, self._syncing = self._syncing, None
        if syncing is not None and syncing.wait() != 0:
            raise Unavailable(f"{self.data_dir} cannot be written to the disk")

    def stop(self) -> None:
        """Stop the server and wait until it is down, if `start` started it; else do nothing."""
        atexit.unregister(self.stop)
        if self._process is not None:
            stop_process(self._process)
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.kill()
            self._watcher.wait()
            self._watcher.stdin.close()
        if self._syncing is not None:
            self._syncing.wait()
        self._process = self._watcher = self._syncing = None

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL.

        Raises:
            Conflict: there is one of that name.
            Unavailable: the server does not respond.
        """
        from psycopg.errors import DuplicateDatabase

        try:
            self._execute("CREATE DATABASE {}", name)
        except DuplicateDatabase:
            raise Conflict(f"A database named {name} exists already") from None
        return f"{self.url.rpartition('/')[0]}/{quote(name, safe='')}"

    def drop_database(self, name: str) -> None:
        """Drop the database if it exists, and end the connections to it.

        Raises:
            Unavailable: the server does not respond.
        """
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, name: str) -> None:
        import psycopg
        from psycopg import sql

        try:
            connection = psycopg.connect(self.url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except psycopg.OperationalError:
            raise Unavailable(f"Postgres does not respond on port {self.port}") from None
        with connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    data_dir: Path,
    *,
    port: int | None = None,
    fsync: bool = True,
    settings: Mapping[str, str] | None = None,
    startup_timeout: float = 30,
    least: int = MINIMUM_MAJOR,
    needs: ServerNeeds | None = None,
) -> Server:
    """Start a server on the folder, or use the one that runs there; make the folder if need be.

    A new folder takes the first server that is new enough: on PATH, of Debian's packages, or of the
    wheel in the extra `postgres`; later starts take one of the same major version. The server ends
    with this process, and the data stays: `with start(Path("data/postgres")) as server:` runs one
    whose `server.url` is the `DATABASE_URL` of an application.

    It starts while the files of a new folder go to the disk: call `Server.wait_until_durable`
    before anybody relies on them.

    Args:
        data_dir: holds the data, the password and `server.log`, the log since the last start.
        port: on 127.0.0.1; None chooses a free one.
        fsync: False is faster, and may lose the data when the machine stops.
        settings: more settings of the server, by their names in postgresql.conf.
        startup_timeout: seconds until the server takes connections, after initialising.
        least: the oldest major version that a folder is initialised with.
        needs: what the server that initialises a folder should have, if one does.

    Raises:
        PortTaken: another program has the port.
        ConfigurationError: no binaries, or the server cannot start; the end of its log says why.
        Unavailable: the server was not ready in time.
    """
    data_dir = data_dir.resolve()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_folder(data_dir) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)  # one start at a time
            server = _running(data_dir, startup_timeout)
            if server is None:
                flags = {**({} if fsync else UNSAFE), **(settings or {})}
                find_programs = partial(find_binaries, least=least, needs=needs)
                return _start(data_dir, port, flags, startup_timeout, find_programs)
    except OSError as error:
        raise ConfigurationError(f"Postgres cannot start in {data_dir}: {error}") from error
    if port not in (None, server.port):
        raise ConfigurationError(f"Postgres runs on {data_dir} already, on port {server.port}")
    return server


def _start(
    data_dir: Path,
    port: int | None,
    settings: Mapping[str, str],
    timeout: float,
    find_programs: Callable[[int | None], Path],
) -> Server:
    account = account_for(data_dir)
    fresh = is_fresh(data_dir)
    if not fresh and not (data_dir / "PG_VERSION").exists():
        raise ConfigurationError(f"{data_dir} is not empty, and holds no Postgres data")
    major = "" if fresh else (data_dir / "PG_VERSION").read_text().strip()
    binaries = find_programs(int(major) if major.isdigit() else None)
    if account is not None and data_dir.stat().st_uid == 0:
        for path in (data_dir, *data_dir.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    # Not the descriptor that is locked: the server would hold the lock for as long as it runs.
    with open_folder(data_dir) as folder:
        way = str(data_dir)
        if account is not None and not reachable(data_dir.parent):
            if sys.platform != "linux":
                raise ConfigurationError(f"The user {account.pw_name} cannot get to {data_dir}")
            way = f"/proc/self/fd/{folder}"
        programs = Programs(binaries, way, folder, account)
        syncing = None
        if fresh:
            initialise(data_dir, programs)
            if settings.get("fsync") != "off":
                syncing = start_sync(programs)
        password = _password(data_dir)
        try:
            process, own_port, version = boot(data_dir, programs, port, settings, timeout)
        except BaseException:
            if syncing is not None:
                syncing.wait()
            raise
    server = Server(
        url=_url(password, own_port),
        port=own_port,
        pid=process.pid,
        data_dir=data_dir,
        version=version,
        started=True,
        _process=process,
        _watcher=watch(process.pid, account),
        _syncing=syncing,
    )
    atexit.register(server.stop)
    return server


def _running(data_dir: Path, timeout: float) -> Server | None:
    deadline = time.monotonic() + timeout
    while True:
        pid, port, ready = read_lock(data_dir)
        if not is_postgres(pid):
            # Postgres would take any process that has the number by now for its predecessor.
            (data_dir / "postmaster.pid").unlink(missing_ok=True)
            return None
        url = _url(_password(data_dir), port)
        if ready and (version := _ask(url, data_dir)):
            return Server(url, port, pid, data_dir, version, started=False)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{data_dir}/postmaster.pid names process {pid}, which does not respond for the "
                "folder; stop it or, if it serves another folder, remove the file"
            )
        time.sleep(0.05)


def _ask(url: str, data_dir: Path) -> str | None:
    """The version of the server, if it is this folder's: a copied folder names that of another."""
    import psycopg

    probe = data_dir / f"probe-{secrets.token_hex(8)}"
    probe.touch()
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            query = "SELECT (pg_stat_file(%s, true)).size, current_setting('server_version')"
            size, version = connection.execute(query, (probe.name,)).fetchone() or (None, "")
            return None if size is None else str(version).partition(" ")[0]
    except psycopg.OperationalError:
        return None
    finally:
        probe.unlink()


def _password(data_dir: Path) -> str:
    try:
        with open_private(data_dir / PASSWORD_FILE, "r") as file:
            return file.read()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{data_dir} was not initialised by Amphibase: no {PASSWORD_FILE}"
        ) from None


def _url(password: str, port: int) -> str:
    return f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
