"""Postgres servers for the tests, and the databases on them."""

import base64
import hashlib
import hmac
import itertools
import os
import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

from amphibase.gateway.postgres import SERVER_SETTINGS
from amphibase.postgres import Server, start

MEMORY = Path("/dev/shm")
ROOM = 2 * 1024**3
SETTINGS = {
    **SERVER_SETTINGS,
    "max_wal_size": "128MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "jit": "off",
}
"""Little is written to the log, and statements run once: cleaning up and compiling do not pay."""

CREATE: LiteralString = "CREATE DATABASE {} TEMPLATE {}"


@contextmanager
def new_server() -> Iterator[Server]:
    """A server on an empty folder, until the block ends.

    The folder is in memory where there is room: to make and to drop a database is, for the most
    part, to make and to delete hundreds of files, which takes a disk three times as long.
    """
    memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    with (
        TemporaryDirectory(prefix="amphibase-", dir=MEMORY if memory else None) as folder,
        start(Path(folder) / "data", fsync=False, settings=SETTINGS) as server,
    ):
        with psycopg.connect(server.url, autocommit=True) as connection:
            verifier = _scram_verifier(server.url)
            connection.execute(SQL("ALTER ROLE postgres PASSWORD {}").format(verifier))
        yield server


def _scram_verifier(url: str) -> str:
    """The password of a URL as Postgres stores it, after one iteration in place of 4,096 (RFC 5803;
    they would take each connection 2 ms)."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", str(make_url(url).password).encode(), salt, 1)
    client_key, server_key = (
        hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key")
    )
    stored_key = hashlib.sha256(client_key).digest()
    parts = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return "SCRAM-SHA-256$1:{}${}:{}".format(*parts)


class Databases:
    """Makes databases on a server, over one connection."""

    def __init__(self, server: Server, connection: psycopg.Connection) -> None:
        self._url = make_url(server.url)
        self._connection = connection
        self._numbers = itertools.count(1)
        # Copying the files takes a third of the time that writing them through the log does,
        # which is how Postgres 15 and later copy a database by themselves.
        copies_files = connection.info.server_version >= 150000
        self._create = CREATE + " STRATEGY FILE_COPY" if copies_files else CREATE

    @contextmanager
    def new(self, template: str = "template1", search_path: SQL | None = None) -> Iterator[str]:
        """A copy of a database, by default of an empty one, until the block ends.

        Args:
            search_path: of its connections; the server's by default, for settings are not copied.

        Returns:
            Its URL.
        """
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._execute(self._create, name, template)
        if search_path is not None:
            statement = SQL("ALTER DATABASE {} SET search_path = {}")
            self._connection.execute(statement.format(Identifier(name), search_path))
        try:
            yield self._url.set(database=name).render_as_string(hide_password=False)
        finally:
            self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        self._connection.execute(SQL(statement).format(*map(Identifier, names)))


def free_port() -> int:
    """A free port, and none of those that the system gives to connections of other tests."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def ask(url: str, query: str) -> Any:
    """The first value of a query's first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None
