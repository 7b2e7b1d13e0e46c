"""`amphibase db`, as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

APP = """
import uuid
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column
from amphibase import Amphibase, Base

class Note(Base):
    __tablename__ = "notes"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    title: Mapped[str]

app = Amphibase().mount(FastAPI())
"""


def runner(folder: Path, url: str) -> Run:
    """Runs `amphibase db …` beside an application with a model, on a database."""
    (folder / "main.py").write_text(APP)

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "amphibase", "db", *arguments],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": url,
                "COLUMNS": "200",
                **environment,
            },
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def db(tmp_path: Path, database_url: str) -> Run:
    return runner(tmp_path, database_url)


@pytest.fixture
def db_on_sqlite(tmp_path: Path, sqlite_url: str) -> Run:
    return runner(tmp_path, sqlite_url)


def test_a_model_goes_its_way_into_the_database(db: Run, tmp_path: Path) -> None:
    """Behind, written, upgraded, in line, undone: each step says so, and its exit code too."""
    behind = db("check")
    assert behind.returncode == 1
    assert "run `amphibase db upgrade`" in behind.stdout
    assert db("upgrade").returncode == 0
    assert "up to date" in db("upgrade").stdout
    assert db("check").returncode == 0
    missing = db("check", "--app", "main:app")
    assert (missing.returncode, missing.stderr) == (1, "")
    assert "table notes is missing" in missing.stdout
    written = db("revision", "--app", "main:app", "-m", "add notes")
    assert (written.returncode, written.stderr) == (0, "")
    (path,) = (tmp_path / "migrations").glob("*_add_notes.py")
    assert path.name in written.stdout
    assert "behind" in db("current").stdout
    assert db("upgrade").stdout.strip().endswith("add notes")
    nothing = db("revision", "--app", "main:app", "-m", "again")
    assert nothing.returncode == 0
    assert nothing.stdout.startswith("Nothing to do")
    assert db("check", "--app", "main:app").returncode == 0
    assert "behind" not in db("current").stdout
    assert db("downgrade", "-1", "--yes").returncode == 0
    assert db("check", "--app", "main:app").returncode == 1


def test_nothing_is_undone_without_a_yes(db_on_sqlite: Run) -> None:
    """Asked on a pipe, the command does nothing."""
    db_on_sqlite("upgrade")
    assert db_on_sqlite("downgrade", "base").returncode == 1
    assert db_on_sqlite("check").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upgrade", "nope"], "error Can't locate revision identified by 'nope'"),
        (["downgrade", "base", "--chain", "nope", "--yes"], "error No chain 'nope'"),
        (["check", "--app", "mian:app"], "error No module named 'mian'; run it from the folder"),
        (["check", "--app", "main:appp"], "error The module 'main' has no 'appp'"),
        (["check", "--app", "main:Note"], "error main:Note is a "),
        (["check", "--app", "main"], "error 'main' names no application"),
        (["revision", "-m", "notes"], "error Say where your models are"),
    ],
)
def test_what_is_wrong_is_a_line_and_exit_code_2(
    db_on_sqlite: Run, arguments: list[str], message: str
) -> None:
    """No traceback, and what to do."""
    done = db_on_sqlite(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_a_password_in_the_url_is_never_shown(db_on_sqlite: Run) -> None:
    """An unreachable database is named without its secret."""
    done = db_on_sqlite("upgrade", DATABASE_URL="postgres://ann:hidden@127.0.0.1:1/app")
    assert done.returncode == 2
    assert "hidden" not in done.stdout + done.stderr
