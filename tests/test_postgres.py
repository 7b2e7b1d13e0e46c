"""Our own Postgres server, started for real in folders of the tests."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.servers import ask

from amphibase.errors import ConfigurationError, Conflict, Unavailable
from amphibase.postgres import Server, start
from amphibase.postgres import process as server_process
from amphibase.postgres.account import Programs
from amphibase.postgres.initdb import PASSWORD_FILE, UNFINISHED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, for one server after the other."""
    folder = tmp_path_factory.mktemp("shared") / "data"
    start(folder, fsync=False).stop()
    return folder


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy of it, made by the tests' own user, for a test that leaves it in another state."""
    return shutil.copytree(folder, tmp_path / "folder")


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _wait_for_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + 60
    while _is_alive(pid):
        assert time.monotonic() < deadline, "the server still runs"
        time.sleep(0.02)


def test_initialises_an_empty_folder_and_serves_it(tmp_path: Path) -> None:
    """A folder that does not exist yet becomes a server with a database in UTF-8."""
    with start(tmp_path / "new" / "data", fsync=False) as server:
        assert server.started
        assert urlsplit(server.url).port == server.port
        assert ask(server.url, "SHOW server_version").startswith(server.version)
        assert ask(server.url, "SHOW server_encoding") == "UTF8"
        assert ask(server.url, "SHOW full_page_writes") == "off"
        assert ask(server.url, "SELECT lower('ÄÉ')") == "äé"
        assert stat.S_IMODE((server.data_dir / PASSWORD_FILE).stat().st_mode) == 0o600


def test_data_outlives_a_restart(folder: Path) -> None:
    """What was written is there after the server was stopped and started."""
    with start(folder) as server:
        url = server.create_database("kept")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        assert ask(url, "SHOW fsync") == "on"
    with start(folder, port=server.port) as again:
        assert again.url == server.url
        assert ask(url, "SELECT number FROM kept") == 7


def test_uses_a_running_server_and_leaves_it_running(folder: Path) -> None:
    """A second start on the folder is the same server, which its stop does not end."""
    with start(folder, fsync=False) as server:
        with start(folder) as second:
            assert not second.started
            assert (second.url, second.pid, second.version) == (
                server.url,
                server.pid,
                server.version,
            )
        assert ask(server.url, "SELECT 1") == 1
        with pytest.raises(ConfigurationError, match=f"already, on port {server.port}"):
            start(folder, port=server.port + 1)
    assert not _is_alive(server.pid)
    server.stop()


def test_a_copied_folder_is_not_taken_for_the_running_one(folder: Path, tmp_path: Path) -> None:
    """A copy of a running server's folder does not lead to that server's data."""
    with start(folder, fsync=False):
        copy = shutil.copytree(folder, tmp_path / "copy")
        with pytest.raises(Unavailable, match="does not respond for the folder"):
            start(Path(copy), startup_timeout=0.2)


@pytest.mark.parametrize("pid", ["dead", "of a stranger", "none"])
def test_a_stale_lock_is_no_obstacle(folder: Path, pid: str) -> None:
    """A postmaster.pid of a process that ended, is no Postgres, or has no number is replaced."""
    with subprocess.Popen(["true"]) as ended:
        pass
    number = {"dead": ended.pid, "of a stranger": os.getpid(), "none": ""}[pid]
    (folder / "postmaster.pid").write_text(f"{number}\n{folder}\n0\n1\n\n127.0.0.1\n0 0\nready\n")
    with start(folder, fsync=False) as server:
        assert server.started


def test_starts_right_after_the_server_was_killed(own_folder: Path) -> None:
    """A server killed with SIGKILL is replaced at once, with all that was committed."""
    server = start(own_folder)
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    os.kill(server.pid, signal.SIGKILL)
    with start(own_folder) as again:
        assert again.started
        assert ask(again.url, "SELECT number FROM kept") == 7
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_ends_with_a_killed_parent(folder: Path) -> None:
    """The server stops when the process that started it is killed with SIGKILL."""
    script = (
        "import sys, time; from pathlib import Path; from amphibase.postgres import start\n"
        "print(start(Path(sys.argv[1]), fsync=False).pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _is_alive(pid)
        parent.kill()
    _wait_for_the_end_of(pid)


def test_the_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    """A server started from a worker thread runs on when the thread has ended."""
    servers: list[Server] = []
    thread = threading.Thread(target=lambda: servers.append(start(folder, fsync=False)))
    thread.start()
    thread.join()
    with servers[0] as server:
        time.sleep(0.1)
        assert ask(server.url, "SELECT 1") == 1


def test_a_taken_port_is_a_readable_error(folder: Path) -> None:
    """The error names the port and the reason, and holds no password."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="another program does") as raised:
            start(folder, port=port)
    assert str(port) in str(raised.value)
    assert (folder / PASSWORD_FILE).read_text() not in str(raised.value)


def test_a_port_lost_to_another_is_chosen_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A free port that is taken before the server gets to it is replaced by another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], server_process._free_port()])
        monkeypatch.setattr(server_process, "_free_port", lambda: next(ports))
        with start(folder, fsync=False) as server:
            assert server.port != taken.getsockname()[1]


def test_a_corrupt_folder_is_a_readable_error(own_folder: Path) -> None:
    """The error has the last lines of the log, and no password."""
    (own_folder / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="pg_control") as raised:
        start(own_folder)
    assert (own_folder / PASSWORD_FILE).read_text() not in str(raised.value)


def test_a_wrong_setting_is_a_readable_error(folder: Path) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match="no_such_setting"):
        start(folder, settings={"no_such_setting": "1"})


def test_settings_reach_the_server(folder: Path) -> None:
    """Settings are those of the server, but cannot open it to the network."""
    settings = {"max_connections": "7", "listen_addresses": "*"}
    with start(folder, fsync=False, settings=settings) as server:
        assert ask(server.url, "SHOW max_connections") == "7"
        assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"


def test_a_server_that_is_not_ready_in_time_is_stopped(folder: Path) -> None:
    """The error says so, and no server is left on the folder."""
    with pytest.raises(Unavailable, match="took over 0 s"):
        start(folder, startup_timeout=0)
    assert not (folder / "postmaster.pid").exists()
    with start(folder, fsync=False) as server:
        assert server.started


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A folder with other files is neither initialised nor given to another user."""
    (tmp_path / "thesis.txt").write_text("unique")
    owner = tmp_path.stat().st_uid
    with pytest.raises(ConfigurationError, match="holds no Postgres data"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").stat().st_uid == owner


def test_initialising_that_was_cut_is_begun_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "data" / UNFINISHED
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with start(tmp_path / "data", fsync=False) as server, psycopg.connect(server.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()


@pytest.mark.parametrize("still_there", [[PASSWORD_FILE], [PASSWORD_FILE, "PG_VERSION", "base"]])
def test_initialising_that_was_cut_at_its_end_is_ended(
    own_folder: Path, still_there: list[str]
) -> None:
    password = (own_folder / PASSWORD_FILE).read_text()
    unfinished = own_folder / UNFINISHED
    unfinished.mkdir()
    for name in still_there:
        (own_folder / name).rename(unfinished / name)
    with start(own_folder, fsync=False) as server, psycopg.connect(server.url) as session:
        assert urlsplit(server.url).password == password
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()


def test_a_new_folder_is_on_the_disk_once_it_is_durable(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_folder / UNFINISHED).mkdir()
    (own_folder / PASSWORD_FILE).rename(own_folder / UNFINISHED / PASSWORD_FILE)
    started = {}
    real = Programs.start

    def start_program(programs: Programs, name: str, *arguments: str, **options: Any) -> Any:
        started[name, arguments[0]] = process = real(programs, name, *arguments, **options)
        return process

    monkeypatch.setattr(Programs, "start", start_program)
    with start(own_folder) as server:
        server.wait_until_durable()
        assert started["initdb", "--sync-only"].returncode == 0


def test_a_disk_that_does_not_take_a_new_folder_is_reported(tmp_path: Path) -> None:
    with subprocess.Popen(["false"], text=True) as syncing:
        server = Server("", 0, 0, tmp_path, "", started=True, _syncing=syncing)
        with pytest.raises(Unavailable, match="cannot be written to the disk"):
            server.wait_until_durable()


def test_a_folder_without_our_password_is_rejected(own_folder: Path) -> None:
    """A folder that another program initialised is an error that says what is missing."""
    (own_folder / PASSWORD_FILE).unlink()
    with pytest.raises(ConfigurationError, match=f"no {PASSWORD_FILE}"):
        start(own_folder)


def test_the_log_does_not_follow_a_link(own_folder: Path, tmp_path: Path) -> None:
    """A link in place of the log, as the server's user could make, is not written through."""
    (tmp_path / "precious").write_text("kept")
    (own_folder / "server.log").unlink()
    (own_folder / "server.log").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigurationError, match=r"server\.log"):
        start(own_folder)
    assert (tmp_path / "precious").read_text() == "kept"


def test_listens_on_loopback_only_and_requests_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other address, no Unix socket, no entry without the password; none of it in the repr."""
    monkeypatch.setenv("SOME_TOKEN", "a-secret-of-the-environment")
    with start(folder, fsync=False) as server:
        assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(server.url, "SHOW unix_socket_directories") == ""
        password = urlsplit(server.url).password
        assert password is not None
        assert password not in repr(server)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(password, "guess"))
        if sys.platform == "linux":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", server.port))
            assert "a-secret" not in Path(f"/proc/{server.pid}/environ").read_text()
            assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()


def test_makes_and_drops_databases(postgres: Server) -> None:
    """Names are quoted, a second one is a conflict, and dropping ends open connections."""
    name = 'odd "name"/%; ä'
    url = postgres.create_database(name)
    assert ask(url, "SELECT current_database()") == name
    with pytest.raises(Conflict):
        postgres.create_database(name)
    with psycopg.connect(url):
        postgres.drop_database(name)
    postgres.drop_database(name)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_stopped_server_is_unavailable(folder: Path) -> None:
    """After the stop, asking for a database is an error without the password."""
    with start(folder, fsync=False) as server:
        pass
    with pytest.raises(Unavailable, match=f"port {server.port}"):
        server.create_database("late")
