"""`amphibase db`, as a user runs it."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.commands import Completed, run

Run = Callable[..., Completed]

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

    def db(*arguments: str, **environment: str) -> Completed:
        return run(folder, {"DATABASE_URL": url, **environment}, "db", *arguments)

    return db


@pytest.fixture
def db(tmp_path: Path, database_url: str) -> Run:
    return runner(tmp_path, database_url)


@pytest.fixture
def db_on_sqlite(tmp_path: Path, sqlite_url: str) -> Run:
    return runner(tmp_path, sqlite_url)


def test_the_first_command_in_a_new_folder_may_be_check(tmp_path: Path) -> None:
    done = run(tmp_path, {}, "db", "check")
    assert (done.returncode, done.stderr) == (1, "")
    assert "run `amphibase db upgrade`" in done.stdout


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
    assert missing.stdout.splitlines()[-1].startswith("`amphibase db revision` writes")
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
        (
            ["check", "--app", "main:appp"],
            "error The module 'main' has no 'appp'; its application is",
        ),
        (["check", "--app", "main:Note"], "error main:Note is no FastAPI application"),
        (["check", "--app", "main"], "error 'main' names no application"),
        (["check", "--app", "main.py:app"], "error 'main.py:app' names no application"),
        (["check", "--app", ".main:app"], "error '.main:app' names no application"),
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


GUARDED = """
import uuid
from decimal import Decimal
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column
from amphibase import Amphibase, Base
from amphibase.access import Access, owner

class Note(Base):
    __tablename__ = "notes"
    __access__ = Access(read=owner, write=owner)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    price: Mapped[Decimal] = mapped_column(index=True)

app = Amphibase().mount(FastAPI())
"""


@pytest.fixture
def guarded(tmp_path: Path, postgres_url: str) -> Run:
    """Beside an application whose model has a declaration, on Postgres with RLS."""
    run = runner(tmp_path, postgres_url)
    (tmp_path / "main.py").write_text(GUARDED)
    return lambda *arguments, **environment: run(*arguments, **{"RLS": "true", **environment})


def test_a_command_reports_what_postgres_said(guarded: Run, postgres_url: str) -> None:
    """Whoever runs it learns what is wrong with the URL or the role; the password stays unsaid."""
    missing = postgres_url.rpartition("/")[0] + "/nope"
    done = guarded("upgrade", DATABASE_URL=missing)
    assert done.returncode == 2
    assert done.stderr.endswith('database "nope" does not exist\n')
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'hidden'")
        try:
            host = postgres_url.rpartition("@")[2]
            done = guarded("upgrade", DATABASE_URL=f"postgresql://stranger:hidden@{host}")
        finally:
            connection.execute("DROP ROLE stranger")
    assert done.returncode == 1
    assert f"(DATABASE_URL is postgresql://stranger@{host}" in done.stderr
    assert "permission denied for database" in done.stderr
    assert "hidden" not in done.stderr


def test_a_command_reports_what_sqlite_said(db_on_sqlite: Run) -> None:
    done = db_on_sqlite("upgrade", DATABASE_URL="sqlite:///.")
    assert done.returncode == 2
    assert done.stderr.endswith("sqlite:///.): unable to open database file\n")


def test_policies_are_printed_without_a_database(guarded: Run) -> None:
    """Plain SQL on the standard output, whatever the settings say."""
    nowhere = "postgresql://ann:hidden@127.0.0.1:1/app"
    printed = guarded("policies", "--app", "main:app", DATABASE_URL=nowhere)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "CREATE POLICY amphibase_notes_select ON notes\nFOR SELECT TO" in printed.stdout
    assert "ALTER TABLE users ENABLE ROW LEVEL SECURITY;" in printed.stdout
    without = guarded("policies", "--app", "main:app", RLS="false", DATABASE_URL="sqlite:///a.db")
    assert without.stdout == printed.stdout
    nothing = guarded("policies")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("error Say where your models are")


def test_a_declaration_goes_its_way_into_the_database(guarded: Run, tmp_path: Path) -> None:
    """Written with its table, run, in line; changed, reported, written, in line."""
    assert guarded("revision", "--app", "main:app", "-m", "notes").returncode == 0
    (path,) = (tmp_path / "migrations").glob("*_notes.py")
    assert "CREATE POLICY amphibase_notes_select" in path.read_text()
    assert guarded("upgrade", "--app", "main:app").returncode == 0
    clean = guarded("check", "--app", "main:app")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "ix_notes_price serves the service alone" in clean.stdout
    changed = GUARDED.replace("write=owner)", ")")
    (tmp_path / "main.py").write_text(changed)
    differing = guarded("check", "--app", "main:app")
    assert differing.returncode == 1
    assert "application: policy amphibase_notes_insert of notes is in the" in differing.stdout
    by_predicates = guarded("check", "--app", "main:app", RLS="false")
    assert by_predicates.returncode == 0
    assert "serves the service alone" not in by_predicates.stdout
    assert guarded("revision", "--app", "main:app", "-m", "closed").returncode == 0
    assert guarded("upgrade").returncode == 0
    assert guarded("check", "--app", "main:app").returncode == 0
