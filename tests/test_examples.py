"""The examples pass their own tests, on every database that they run on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.commands import inherited, run_tests

EXAMPLES = Path(__file__).parents[1] / "examples"
APPLICATIONS = [path.parent.name for path in EXAMPLES.glob("*/main.py")]


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        *((example, kind) for example in APPLICATIONS for kind in ("sqlite", "postgres")),
        *(("helpdesk", kind) for kind in ("rls", "supabase")),
    ],
)
def test_an_example_passes_its_own_tests(
    example: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    environment = inherited()
    if kind == "supabase":
        environment["TEST_BACKEND"] = "supabase"
    else:
        name = "sqlite_url" if kind == "sqlite" else "postgres_url"
        environment["DATABASE_URL"] = request.getfixturevalue(name)
    if kind == "rls":
        environment["RLS"] = "true"
    folder = tmp_path / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    done = run_tests(folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_shows_the_example_of_notes() -> None:
    _, _, code = (EXAMPLES / "notes.py").read_text().partition("\n\n")
    assert f"```python\n# main.py\n{code}```" in (EXAMPLES.parent / "README.md").read_text()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", ["to_supabase.py", "users_table.py"])
def test_an_example_of_moving_ends_with_equal_sides(script: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "moving" / script, "--users", "30"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "has signed in" in done.stdout
    assert "equal" in done.stdout
