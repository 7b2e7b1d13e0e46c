"""The superuser's password of a server of our own: random, or the one that is chosen."""

import os
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg
from psycopg import sql

from amphibase.errors import Unavailable
from amphibase.postgres.initdb import PASSWORD_FILE
from amphibase.postgres.server import CONNECT_SECONDS, Server

NEXT_PASSWORD_FILE = "amphibase.password.next"
"""Holds a password until the server has it: the change may be cut at any moment."""


def use_password(server: Server, password: str | None) -> None:
    """Give the superuser a password, if another holds; the server's URL has it then.

    Args:
        password: None keeps the one that it has, if no change of it was cut.

    Raises:
        Unavailable: the server does not respond.
    """
    path, next_path = server.data_dir / PASSWORD_FILE, server.data_dir / NEXT_PASSWORD_FILE
    stored = urlsplit(server.url).password or ""
    candidates = [server.url]
    if next_path.exists():
        candidates.append(_url(server.url, next_path.read_text()))
    elif password in (None, unquote(stored)):
        return
    wanted = password or unquote(stored)
    url = _url(server.url, wanted)
    _write(next_path, wanted, like=path)
    with _connect(server, [*candidates, url]) as connection:
        # Hashed here: a log of statements must not hold the password.
        hashed = connection.pgconn.encrypt_password(
            wanted.encode(), b"postgres", b"scram-sha-256"
        ).decode()
        connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(hashed)))
    next_path.replace(path)
    server.url = url


def _connect(server: Server, urls: list[str]) -> psycopg.Connection:
    for url in urls:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except psycopg.OperationalError:
            continue
    raise Unavailable(
        f"Postgres on port {server.port} does not let its superuser in with the password of "
        f"{server.data_dir / PASSWORD_FILE}"
    )


def _url(url: str, password: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"postgres:{quote(password, safe='')}@{place}").geturl()


def _write(path: Path, content: str, *, like: Path) -> None:
    """Write a file that belongs to whom another belongs to, and that nobody else may read."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "w") as file:
        owner = like.stat()
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
