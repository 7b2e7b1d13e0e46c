"""The process of a server: started until it takes connections, watched, and stopped."""

import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from amphibase.errors import ConfigurationError, Unavailable
from amphibase.postgres.account import Account, Programs, confined, open_private
from amphibase.postgres.binaries import version_of
from amphibase.postgres.initdb import LOG_LINES
from amphibase.postgres.lock_file import read_lock

LOG_FILE = "server.log"
STOP_SECONDS = 30

LOG_PREFIX = "%m [%p] %e "
"""Of the server's own log: the default, and the SQLSTATE."""

LOCK_FILE_EXISTS = "F0001"
"""SQLSTATE of a server that another still holds the folder of (PostgreSQL docs, appendix A)."""


class PortTaken(ConfigurationError):
    """Raised where another program listens on the port that Postgres is to have."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(
            f"Postgres cannot listen on 127.0.0.1:{port}: another program does; name another port"
        )


def is_port_taken(port: int) -> bool:
    """Return whether a program listens on a port of 127.0.0.1."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def boot(
    data_dir: Path,
    programs: Programs,
    port: int | None,
    settings: Mapping[str, str],
    timeout: float,
) -> tuple[subprocess.Popen[str], int, str]:
    """Start the server's process and wait until it takes connections.

    Returns:
        the process, its port and its version.
    """
    deadline = time.monotonic() + timeout
    while True:
        own_port = port or _free_port()
        fixed = {
            "port": own_port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "log_line_prefix": LOG_PREFIX,
        }
        flags = [f"--{name}={value}" for name, value in {**settings, **fixed}.items()]
        with open_private(data_dir / LOG_FILE, "w", programs.account) as log:
            process = programs.start("postgres", "--logging_collector=off", *flags, stdout=log)
        version = version_of(programs.binaries)  # while it starts
        words = _last_words(process, data_dir, deadline)
        if words is None:
            return process, own_port, version
        if time.monotonic() > deadline:
            raise Unavailable(f"Postgres in {data_dir} took over {timeout:g} s:\n{words}")
        if is_port_taken(own_port):
            if port:
                raise PortTaken(port)
        # The children of a killed server may still be ending.
        elif f"] {LOCK_FILE_EXISTS} " not in words:
            where = f"in {data_dir} on port {own_port}"
            raise ConfigurationError(f"Postgres did not start {where}:\n{words}")
        time.sleep(0.1)


def _last_words(process: subprocess.Popen[str], data_dir: Path, deadline: float) -> str | None:
    """None once the server is ready; else it is stopped, and this is the end of its log."""
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if read_lock(data_dir)[::2] == (process.pid, True):
                return None
            time.sleep(0.01)
    except BaseException:
        stop_process(process)
        raise
    stop_process(process)
    with open_private(data_dir / LOG_FILE, "r") as log:
        return "\n".join(log.read().splitlines()[-LOG_LINES:])


def stop_process(process: subprocess.Popen[str]) -> None:
    """Stop a server and wait until it is down."""
    process.send_signal(signal.SIGINT)  # "fast": ends sessions, keeps what is committed
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def watch(pid: int, account: Account) -> subprocess.Popen[str]:
    """Start the shell that stops a server when this process ends."""
    command = ["/bin/sh", "-c", 'read -r _; kill -INT "$0"', str(pid)]
    options = {**confined(account), "stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **options)  # noqa: S603 - our own arguments


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
