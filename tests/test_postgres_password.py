"""The superuser's password of our own Postgres server, changed while it runs."""

import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from amphibase.postgres import Server, start
from amphibase.postgres.initdb import PASSWORD_FILE
from amphibase.postgres.password import NEXT_PASSWORD_FILE, use_password


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the server has its data."""
    return tmp_path / "data"


def test_a_new_password_holds_at_the_next_start_too(folder: Path) -> None:
    with start(folder, fsync=False) as server:
        use_password(server, "a new/one")
        assert _is_open(server)
    with start(folder, fsync=False) as server:
        assert unquote(urlsplit(server.url).password or "") == "a new/one"
        use_password(server, None)
        assert _is_open(server)
    assert (folder / PASSWORD_FILE).read_text() == "a new/one"
    assert stat.S_IMODE((folder / PASSWORD_FILE).stat().st_mode) == 0o600


def test_a_change_that_was_cut_on_either_side_of_the_server_is_ended(folder: Path) -> None:
    with start(folder, fsync=False) as server:
        (folder / NEXT_PASSWORD_FILE).write_text("never set")
        use_password(server, "first")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("ALTER ROLE postgres PASSWORD 'set and not noted'")
        (folder / NEXT_PASSWORD_FILE).write_text("set and not noted")
        use_password(server, None)
        assert _is_open(server)
    assert (folder / PASSWORD_FILE).read_text() == "first"
    assert not (folder / NEXT_PASSWORD_FILE).exists()


def _is_open(server: Server) -> bool:
    """Whether the server lets its superuser in by the URL that it has now."""
    with psycopg.connect(server.url) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)
