"""The command line, as a user runs it."""

import importlib
import json
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from tests import commands
from tests.commands import Completed
from tests.conftest import SECRET
from tests.servers import free_port
from tests.serving import serving
from typer.testing import CliRunner

from amphibase.cli.app import app
from amphibase.cli.loading import load_app
from amphibase.errors import ConfigurationError
from amphibase.gateway.listeners import API, listen
from amphibase.server import local_url

Run = Callable[..., Completed]


@pytest.fixture
def run(tmp_path: Path, database_url: str) -> Run:
    """Runs `amphibase …` in an empty folder, on the test's database."""

    def run(*arguments: str, input: str = "", **environment: str) -> Completed:
        values = {"DATABASE_URL": database_url, **environment}
        return commands.run(tmp_path, values, *arguments, input=input)

    return run


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_that_of_the_package(option: str) -> None:
    done = CliRunner().invoke(app, [option])
    assert (done.exit_code, done.stdout) == (0, f"amphibase {version('amphibase')}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "errors"),
    [
        (["users", "create", "ann@example.com"], 0, ""),
        (["users", "delete", "bob@example.com", "--yes"], 1, "error There is no user bob@ex"),
        (["db", "upgrade", "nope"], 2, "error Can't locate revision identified by 'nope'"),
        (["users", "upgrade"], 2, "Usage: amphibase users"),
    ],
    ids=["done", "rejected", "wrong", "unknown"],
)
def test_the_process_ends_as_its_command_does(
    tmp_path: Path, arguments: list[str], code: int, errors: str
) -> None:
    """Python is started for it, reads the password from a pipe, and tells what happened."""
    done = commands.run(tmp_path, {}, *arguments, input="a password\n", forked=False)
    assert done.returncode == code
    assert done.stderr.replace("python -m ", "").startswith(errors)
    assert bool(done.stderr) is (code > 0)
    assert ("ann@example.com has the id" in done.stdout) is (code == 0)


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        *(["db", name] for name in ("upgrade", "downgrade", "current", "check", "revision")),
        *(
            ["users", name]
            for name in ("create", "list", "invite", "promote", "set-password", "ban", "delete")
        ),
        *(["files", name] for name in ("sweep", "ls", "get", "put", "rm")),
        *(["keys", name] for name in ("generate", "show")),
        *(["access", name] for name in ("explain", "matrix")),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself_with_an_example(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert f"amphibase {' '.join(command)}" in done.stdout.partition("Example:")[2]


@pytest.mark.parametrize(
    ("command", "light"), [(["--help"], True), (["serve", "--help"], True), (["users"], False)]
)
def test_help_waits_for_no_library_that_it_does_not_need(command: list[str], light: bool) -> None:
    """FastAPI, Alembic and SQLAlchemy take a second to import, which is long for a word of help."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "amphibase", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Usage: amphibase" in done.stdout.replace("python -m ", "")
    assert ("sqlalchemy" not in done.stderr) is light
    assert ("fastapi" not in done.stderr) is light


def test_users_are_created_listed_banned_and_deleted(run: Run) -> None:
    result = run(
        "users", "create", "Ann@example.com", "--name", "Ann", "--admin", input="a password\n"
    )
    assert result.returncode == 0, result.stderr
    assert "ann@example.com" in result.stdout
    assert "a password" not in result.stdout
    again = run("users", "create", "ann@example.com", input="a password\n")
    assert (again.returncode, again.stderr.strip()) == (1, "error Email already registered")
    assert result.stdout.endswith(", an administrator\n")
    listed = run("users", "list", COLUMNS="40")
    assert result.stdout.split()[4].rstrip(",") in listed.stdout, "a pipe gets each id whole"
    assert "ann@example.com" in listed.stdout
    assert run("users", "ban", "ann@example.com", "--days", "1").returncode == 0
    assert " no " in run("users", "list").stdout
    assert run("users", "ban", "ann@example.com", "--lift").returncode == 0
    demoted = run("users", "promote", "ann@example.com", "--demote")
    assert demoted.stdout == "ann@example.com is no longer an administrator\n"
    changed = run("users", "set-password", "ann@example.com", input="another password\n")
    assert changed.stdout == "ann@example.com has a new password\n"
    none = run("users", "set-password", "ann@example.com")
    assert none.returncode == 2
    assert "pipe one, set AMPHIBASE_PASSWORD, or use --password" in none.stderr
    options = {"input": "", "AMPHIBASE_PASSWORD": "a third password"}
    assert run("users", "set-password", "ann@example.com", **options).returncode == 0
    option = ("--password", "a fourth password")
    assert run("users", "set-password", "ann@example.com", *option).returncode == 0
    weak = run("users", "set-password", "ann@example.com", input="short\n")
    assert (weak.returncode, "at least 8 characters" in weak.stderr) == (1, True)
    assert run("users", "invite", "bob@example.com").stdout == "bob@example.com is invited\n"
    assert run("users", "delete", "ann@example.com", "--yes").returncode == 0
    missing = run("users", "delete", "ann@example.com", "--yes")
    assert (missing.returncode, missing.stderr.strip()) == (
        1,
        "error There is no user ann@example.com",
    )


def test_a_wrong_setting_is_a_line_and_no_traceback(run: Run) -> None:
    done = run("serve", POOL_SIZE="many")
    assert done.returncode == 2
    assert done.stderr.startswith("error POOL_SIZE: should be a valid integer")
    assert len(done.stderr.splitlines()) == 1


def test_production_does_not_start_on_a_database_that_is_behind(run: Run) -> None:
    production = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET}
    done = run("serve", **production)
    assert done.returncode == 2
    assert "amphibase db upgrade" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_cannot_be_reached_is_a_line(run: Run) -> None:
    done = run("serve", DATABASE_URL="postgres://ann:hidden@127.0.0.1:1/app")
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_password_behind_the_question_mark_is_no_more_shown(run: Run) -> None:
    """libpq takes a password among its options too."""
    done = run("serve", DATABASE_URL="postgres://127.0.0.1:1/app?password=hidden&user=ann")
    assert done.returncode == 2
    assert "/app?user=ann" in done.stderr
    assert "hidden" not in done.stderr


def test_an_error_is_reported_as_plain_text(run: Run) -> None:
    """What looks like rich's markup is not taken for it."""
    assert run("serve", "[bold]").stderr.startswith("error '[bold]' names no application")


def test_a_port_that_is_taken_is_a_line(run: Run) -> None:
    """Nothing is opened, and nothing else said, before the port is known to be free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == (
        f"error PORT: cannot listen on 127.0.0.1:{port}: address already in use; "
        "name another (--port)\n"
    )


def test_an_address_of_another_machine_is_a_wrong_host(run: Run) -> None:
    """Another port would not help."""
    done = run("serve", "--host", "192.0.2.1")
    assert done.returncode == 2
    assert done.stderr == "error HOST: this machine has no address 192.0.2.1\n"
    with pytest.raises(ConfigurationError, match="GATEWAY_HOST: this machine has no address"):
        listen("192.0.2.1", None, API)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("2001:db8::1", "http://[2001:db8::1]:80"),
        ("api.example.com", "http://api.example.com:80"),
    ],
)
def test_links_lead_to_a_url_that_a_browser_can_open(host: str, url: str) -> None:
    """An address that stands for all of this machine's is not one to go to."""
    assert local_url(host, 80) == url


def test_production_warns_that_links_lead_to_this_machine_and_of_misspelt_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PUBLIC_URL emails hold links that only this machine can open."""
    production = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET, "AMPHIBASE_RSL": "true"}
    for more, warned in (({}, True), ({"PUBLIC_URL": "https://api.example.com"}, False)):
        done = run("serve", "--port", str(free_port()), **production, **more)
        assert ("PUBLIC_URL is not set" in done.stderr) is warned
        assert "No settings, and without effect: AMPHIBASE_RSL" in done.stderr


def test_a_generated_key_signs_and_the_older_ones_verify(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("keys", "generate", "keys.json").returncode == 0
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    shown = run("keys", "show", JWT_KEY_FILE="keys.json")
    keys = json.loads(shown.stdout)["keys"]
    assert len({key["kid"] for key in keys}) == 2
    assert all("d" not in key for key in keys)


APP = """
from fastapi import FastAPI
from amphibase import Amphibase, CurrentUser

app = Amphibase().mount(FastAPI())

@app.get("/hello")
async def hello(user: CurrentUser) -> str:
    return user.name
"""


def test_an_application_is_served(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "main.py").write_text(APP)
    ann = {"email": "ann@example.com", "password": "correct horse battery", "name": "Ann"}
    environment = {"DATABASE_URL": database_url}
    with serving(tmp_path, environment, "main:app", forked=False) as url:
        signed_up = httpx.post(f"{url}/auth/sign-up", json=ann).json()
        headers = {"Authorization": f"Bearer {signed_up['access_token']}"}
        assert httpx.get(f"{url}/hello", headers=headers).json() == "Ann"
    key_file = tmp_path / "data" / "keys.json"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with serving(tmp_path, environment, "main:app") as url:
        assert httpx.get(f"{url}/hello", headers=headers).json() == "Ann"


def test_a_server_in_development_names_once_what_a_changed_model_has(tmp_path: Path) -> None:
    column = "User.__table__.append_column(Column('stars', Integer()))"
    with serving(tmp_path, {}):
        pass
    imports = "from amphibase import User\nfrom sqlalchemy import Column, Integer\n"
    (tmp_path / "main.py").write_text(f"{imports}{column}\n{APP}")
    with serving(tmp_path, {}, "main:app"):
        pass
    assert (tmp_path / "server.log").read_text().count("fail: users.stars. `amphibase db") == 1


@pytest.mark.parametrize("name", ["nothing:app", "main:nothing", "main", "main:app:x"])
def test_an_application_that_is_not_there_is_a_line(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "main.py").write_text("x = 1\n")
    done = run("serve", name)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error ")


def test_an_application_that_imports_what_is_beside_it_says_where_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").write_text("import goods_of_shop\n")
    (tmp_path / "shop" / "goods_of_shop.py").write_text("import nothing\n")
    with pytest.raises(ConfigurationError) as caught:
        load_app("shop.main:app")
    advice = f"name it main:app, and run the command in {tmp_path / 'shop'}"
    assert caught.value.detail == f"shop.main imports goods_of_shop, which is beside it: {advice}"
    (tmp_path / "goods_of_shop.py").write_text("import nothing\n")
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError, match="No module named 'nothing'"):
        load_app("shop.main:app")
