"""The processes of `amphibase supabase`: how they start, where they listen, and how they end."""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from tests.cli.local_supabase import ANON_KEY, Cli
from tests.servers import free_port, new_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from amphibase.cli import supabase
from amphibase.errors import ConfigurationError
from amphibase.gateway.data_dir import DataDir, RunningGateway
from amphibase.gateway.service_roles import url_of
from amphibase.postgres import Server

PUBLISHED = """
CREATE TABLE boats (id int PRIMARY KEY);
GRANT SELECT ON boats TO anon;
ALTER PUBLICATION supabase_realtime ADD TABLE boats;
INSERT INTO boats VALUES (1);
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """One's own Postgres; not the other tests', since a role's password is the server's."""
    with new_server() as server:
        yield server


def test_in_the_background_it_keeps_nothing_open_of_who_started_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "amphibase", "supabase", "start", "--port", "0"]
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run(
        command, cwd=tmp_path, env=environment, pass_fds=[writing], capture_output=True, check=True
    )
    try:
        os.close(writing)
        assert select.select([reading], [], [], 60)[0]  # its end: nobody else has it
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)
        assert Cli(tmp_path)("stop").returncode == 0


def test_who_looks_whether_it_runs_is_not_taken_for_one_that_does(tmp_path: Path) -> None:
    folder = DataDir(tmp_path)
    folder.create()
    with folder.state(RunningGateway(1, embedded=True, values={})):
        looking = os.open(tmp_path / "gateway.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert folder.running() is None
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(folder.lock)
            time.sleep(0.3)  # as where it has to wait for a core
            os.close(looking)
            lock = starting.result()
        assert lock is not None
        assert folder.running() == RunningGateway(1, embedded=True, values={})
        os.close(lock)


def test_channels_are_closed_by_a_reset_and_by_the_end_so_that_clients_come_back(
    tmp_path: Path,
) -> None:
    cli = Cli(tmp_path)
    values = cli.start()
    address = f"{values['API_URL']}/realtime/v1/websocket?vsn=2.0.0&apikey={values['ANON_KEY']}"
    address = address.replace("http", "ws", 1)
    wanted = {"config": {"postgres_changes": [{"event": "*", "schema": "public"}]}}
    join = json.dumps(["1", "1", "realtime:rows", "phx_join", wanted])
    try:
        for command in ("reset", "stop"):
            with connect(address) as connection:
                connection.send(join)
                events = [json.loads(connection.recv(60))[3:] for _ in range(2)]
                assert [event for event, _ in events] == ["phx_reply", "system"]
                assert events[1][1]["status"] == "ok"
                with psycopg.connect(values["DB_URL"]) as database:
                    database.execute(PUBLISHED)
                assert json.loads(connection.recv(60))[4]["data"]["record"] == {"id": 1}
                done = cli(command)
                assert done.returncode == 0, done.stderr
                with pytest.raises(ConnectionClosed) as closed:
                    list(connection)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
    finally:
        cli("stop")


def test_ones_own_postgres_is_used_and_reset_asks_before_it_is_dropped(
    own: Server, tmp_path: Path
) -> None:
    url = own.create_database("own_postgres")
    cli = Cli(tmp_path)
    try:
        values = cli.start("--database-url", url)
        assert values["DB_URL"] == url
        assert not (tmp_path / ".amphibase/postgres").exists()
        health = httpx.get(f"{values['API_URL']}/auth/v1/health", headers={"apikey": ANON_KEY})
        assert health.status_code == 200
        rejected = cli("reset")
        assert rejected.returncode == 1
        assert "Go on?" in rejected.stdout + rejected.stderr
        assert cli("reset", "--yes").returncode == 0
    finally:
        cli("stop")


def test_who_names_what_the_data_api_connects_as_keeps_their_password(
    own: Server, tmp_path: Path
) -> None:
    url = own.create_database("own_authenticator")
    theirs = url_of(url, "authenticator", "their own password")
    cli = Cli(tmp_path)
    try:
        started = cli("start", "--port", "0", "--database-url", url, PGRST_DB_URI=theirs)
        assert started.returncode == 0, started.stderr
        assert cli("reset", "--yes").returncode == 0
        psycopg.connect(theirs).close()
    finally:
        cli("stop")


def test_in_the_foreground_it_serves_until_a_signal_and_its_postgres_ends_with_it(
    tmp_path: Path,
) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "amphibase",
            "supabase",
            *["start", "--foreground", "--port", "0", "-o", "json"],
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line.rstrip() == "}":
                break
        values = json.loads(text)
        assert httpx.get(f"{values['API_URL']}/health").json() == {"status": "ok"}
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
    finally:
        Cli(tmp_path)("stop")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(values["DB_URL"], connect_timeout=5)


NO_DATABASE = ["--database-url", "postgresql://a:b@127.0.0.1:1/x"]


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (
            ["--host", "0.0.0.0"],
            {},
            "everybody knows the keys and passwords of development; set JWT_SECRET,",
        ),
        ([], {"JWT_SECRET": "short"}, "JWT_SECRET: must have at least 32 bytes"),
        (NO_DATABASE, {"JWT_JWKS": "{}"}, "JWT_JWKS: is not a JSON Web Key Set"),
        (
            NO_DATABASE,
            {"PGRST_DB_MAX_ROWS": "many"},
            "PGRST_DB_MAX_ROWS: should be a valid integer",
        ),
        (NO_DATABASE, {"FILE_SIZE_LIMIT": "much"}, "FILE_SIZE_LIMIT: should be a valid integer"),
        ([], {"GOTRUE_JWT_EXP": "soon"}, "GOTRUE_JWT_EXP: should be a valid integer"),
        (
            ["--database-url", "mysql://x"],
            {},
            "GATEWAY_DATABASE_URL: must start with postgresql://",
        ),
        (NO_DATABASE, {}, "Cannot connect to the database"),
    ],
)
def test_what_is_wrong_is_one_readable_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], line: str
) -> None:
    failed = Cli(tmp_path)("start", "--port", "0", *arguments, **environment)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error ")
    assert line in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_data_folder_that_cannot_be_written_is_one_readable_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "gateway.lock").mkdir(parents=True)  # permissions do not bind root
    failed = Cli(tmp_path)("start", "--port", "0", "--data-dir", str(data))
    assert failed.returncode == 2
    assert (
        failed.stderr == f"error {data} cannot be used: Is a directory; name another with "
        "--data-dir\n"
    )
    with pytest.raises(ConfigurationError, match="cannot be used: No such file or directory"):
        DataDir(tmp_path / "none").password()


def test_a_line_of_env_that_sets_nothing_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text('GOTRUE_DISABLE_SIGNUP="true\n')
    with pytest.raises(ConfigurationError, match=r"^\.env: line 1 is not NAME=value"):
        supabase.start(data_dir=tmp_path / "data", database_url="postgresql://a:b@127.0.0.1:1/x")


def test_in_the_foreground_a_database_that_is_not_there_is_reported_without_its_password(
    tmp_path: Path,
) -> None:
    url = "postgresql://a:hush@127.0.0.1:1/x"
    failed = Cli(tmp_path)("start", "--foreground", "--port", "0", "--database-url", url)
    assert failed.returncode == 2
    assert "error Cannot connect to the database" in failed.stderr
    assert "DATABASE_URL" not in failed.stderr
    assert "hush" not in failed.stderr


def test_what_runs_is_stopped_whatever_is_wrong_in_config_toml(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.start("--db-port", "0", "--inbox-port", "0")
    cli.write("config.toml", "[auth]\nenable_signup = 'x'")
    try:
        assert cli("status").returncode == 0
    finally:
        stopped = cli("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "✓ Stopped; the data stays\n")
    assert "enable_signup" in cli("start", "--port", "0").stderr


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    done = Cli(tmp_path)("stop")
    assert done.returncode == 0
    assert "not running" in done.stderr


def start_and(end: Callable[[Cli, int], object], path: Path) -> str:
    """End a gateway while it waits for its database; return what `start` says."""
    cli, folder = Cli(path), DataDir(path / ".amphibase")
    with ThreadPoolExecutor(1) as pool, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/x"
        starting = pool.submit(cli, "start", "--port", "0", "--database-url", url)
        while (process := folder.process()) is None and not starting.done():
            time.sleep(0.02)
        assert process is not None
        end(cli, process)
        started = starting.result()
    assert started.returncode == 2
    return started.stderr


def test_what_is_starting_is_stopped(tmp_path: Path) -> None:
    def stop(cli: Cli, process: int) -> None:
        stopped = cli("stop")
        assert stopped.returncode == 0
        assert "Stopped" in stopped.stderr

    assert start_and(stop, tmp_path) == "error It was stopped while it started\n"


def test_what_is_killed_while_it_starts_is_said_to_be(tmp_path: Path) -> None:
    killed = start_and(lambda cli, process: os.kill(process, signal.SIGKILL), tmp_path)
    assert killed == "error The gateway ended by SIGKILL before it was ready\n"


def test_a_named_port_that_is_taken_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = Cli(tmp_path)("start", "--port", str(port))
        assert failed.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}: address already in use" in failed.stderr
        failed = Cli(tmp_path)("start", "--port", "0", "--db-port", str(port))
        assert failed.returncode == 2
        assert f"error GATEWAY_DB_PORT: cannot listen on 127.0.0.1:{port}" in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
        failed = Cli(tmp_path)("start", "--port", "0", "--inbox-port", str(port))
        assert failed.returncode == 2
        assert f"error GATEWAY_INBOX_PORT: cannot listen on 127.0.0.1:{port}" in failed.stderr
        assert "name another (--inbox-port)" in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
        cli = Cli(tmp_path)
        cli.write("config.toml", f"[api]\nport = {port}")
        failed = cli("start")
        assert failed.stderr.startswith("error supabase/config.toml: api.port: cannot listen on")


def test_a_port_of_the_supabase_cli_that_is_taken_is_named_with_the_one_in_its_place(
    tmp_path: Path,
) -> None:
    cli = Cli(tmp_path)
    cli.write("config.toml", "[api]\nport = 54321")
    ways = {
        "API_URL": ("the API", 54321, "--port or api.port"),
        "MAILPIT_URL": ("the inbox", 54324, "--inbox-port or inbucket.port"),
        "DB_URL": ("Postgres", 54322, "--db-port or db.port"),
    }
    with ExitStack() as taken:
        for _, port, _ in ways.values():
            with suppress(OSError):  # another test has it
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        try:
            started = cli("start", "-o", "json")
            assert started.returncode == 0, started.stderr
            used = {name: urlsplit(json.loads(started.stdout)[name]).port for name in ways}
            assert started.stderr.splitlines() == [
                f"! Port {port} is taken, and {service} listens on {used[name]}; {way} in "
                "supabase/config.toml names another"
                for name, (service, port, way) in ways.items()
                if used[name] != port  # that other test may have ended by then
            ]
            assert cli("stop").returncode == 0
            named = cli("start", "--port", "0", "--db-port", "0", "--inbox-port", "0")
            assert (named.returncode, named.stderr) == (0, "")
        finally:
            cli("stop")


def test_port_0_of_the_database_and_of_the_inbox_is_any_free_one_and_admin_has_its_own(
    tmp_path: Path,
) -> None:
    cli = Cli(tmp_path)
    admin = free_port()
    (tmp_path / ".env").write_text(f"PGRST_ADMIN_SERVER_PORT={admin}")
    values = cli.start("--db-port", "0", "--inbox-port", "0")
    try:
        httpx.get(f"{values['REST_URL']}/").raise_for_status()
        assert httpx.get(f"http://127.0.0.1:{admin}/ready").status_code == 200
        assert httpx.get(f"{values['MAILPIT_URL']}/api/v1/messages").json()["total"] == 0
        with psycopg.connect(values["DB_URL"]) as connection:
            assert connection.execute("SHOW port").fetchall() == [
                (str(urlsplit(values["DB_URL"]).port),)
            ]
    finally:
        cli("stop")
