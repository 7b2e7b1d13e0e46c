"""The first start of a project, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import psycopg
from tests.gateway.conftest import PASSWORD

from amphibase.postgres import Server

CODE = """
import sys
from amphibase.errors import AmphibaseError
from amphibase.gateway.first_start import ProjectMaker
try:
    with ProjectMaker() as maker:
        if sys.argv[1:]:
            maker.make(*sys.argv[1:])
except AmphibaseError as error:
    print(type(error).__name__, error.detail)
print(*(name for name in ("alembic", "sqlalchemy") if name in sys.modules))
"""


OF_A_LOCKED_FOLDER = """
import os, sys
from pathlib import Path
from amphibase.gateway.data_dir import DataDir
from amphibase.gateway.first_start import ProjectMaker
folder = DataDir(Path(sys.argv[1]))
lock = folder.lock()
with ProjectMaker():
    os.close(lock)
    print(folder.wait_until_free(20))
"""


WITH_SLOW_LIBRARIES = """
import time
from types import SimpleNamespace
from amphibase.gateway import first_start
first_start.importlib = SimpleNamespace(import_module=lambda name: time.sleep(60))
with first_start.ProjectMaker():
    pass
"""


def make_project(*arguments: str) -> list[str]:
    """Make a project from a process that has no threads; what that prints, by lines."""
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_it_makes_the_tables_and_leaves_no_library_of_revisions_in_memory(postgres: Server) -> None:
    url = postgres.create_database("first_start")
    assert make_project(url, PASSWORD) == [""]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM auth.users").fetchone() == (0,)
    postgres.drop_database("first_start")


def test_its_errors_are_those_of_the_start(postgres: Server) -> None:
    error, modules = make_project(f"{postgres.url}_that_is_missing", PASSWORD)
    assert error.startswith("Unavailable The database does not let us in:")
    assert modules == ""


def test_it_ends_where_nothing_is_to_be_made() -> None:
    assert make_project() == [""]


def test_it_does_not_wait_for_libraries_that_nobody_needs() -> None:
    subprocess.run([sys.executable, "-c", WITH_SLOW_LIBRARIES], check=True, timeout=30)


def test_a_gateway_that_is_killed_meanwhile_leaves_its_folder_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OF_A_LOCKED_FOLDER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True"
