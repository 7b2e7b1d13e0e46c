"""PgBouncer before a Postgres server, where it is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import psycopg
from sqlalchemy.engine import make_url

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
START_SECONDS = 60


@contextmanager
def pooler(
    server_url: str, *, mode: Literal["session", "transaction"] = "transaction", ignore: str = ""
) -> Iterator[int]:
    """Start one, and stop it after the block.

    Args:
        server_url: of the server, as a superuser; everybody signs in as on the server.
        mode: for how long a client gets a connection of the server.
        ignore: startup parameters that it takes and drops; it rejects others.

    Returns:
        Its port.
    """
    assert BINARY is not None
    server = make_url(server_url)
    with TemporaryDirectory(prefix="pgbouncer-") as folder:
        users = Path(folder) / "users.txt"
        users.write_text(f'"{server.username}" "{server.password}"\n')
        while True:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port: int = free.getsockname()[1]
            configuration = Path(folder) / "pgbouncer.ini"
            configuration.write_text(
                f"[databases]\n* = host={server.host} port={server.port}\n"
                "[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                f"listen_port = {port}\nunix_socket_dir =\npool_mode = {mode}\n"
                f"auth_type = scram-sha-256\nauth_file = {users}\nauth_user = {server.username}\n"
                f"ignore_startup_parameters = {ignore}\n"
                "max_client_conn = 200\ndefault_pool_size = 40\n"
            )
            command = [BINARY, str(configuration)]
            if os.getuid() == 0:  # as which it does not run
                for path in (Path(folder), users, configuration):
                    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
                command += ["-u", "nobody"]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
                try:
                    if _has_started(process, server.set(port=port).render_as_string(False)):
                        yield port
                        return
                finally:
                    process.terminate()


def _has_started(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until it responds; return False where another took its port before."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        try:
            psycopg.connect(url, connect_timeout=1).close()
            return True
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    return False
