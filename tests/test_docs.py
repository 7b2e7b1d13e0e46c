"""The documentation does what it says: its code is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.serving import serving

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(folder / "data")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in ("README.md", "testing.md")
        for number, block in enumerate(blocks(page), 1)
    ],
)
def test_every_snippet_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(block)
    done = run(tmp_path, "-W", "error", "snippet.py")
    assert done.returncode == 0, done.stderr


def test_the_page_on_testing_passes_its_own_tests(tmp_path: Path) -> None:
    for block in blocks(ROOT / "docs" / "testing.md"):
        name = block.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(block)
    done = run(tmp_path, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider")
    assert "2 passed" in done.stdout, done.stdout


def test_the_readmes_example_keeps_peoples_notes_apart(tmp_path: Path, database_url: str) -> None:
    (block,) = blocks(ROOT / "README.md")
    (tmp_path / "main.py").write_text(block)
    with serving(tmp_path, {"DATABASE_URL": database_url}, "main:app") as url:
        tokens = {}
        for who in ("ann", "bob"):
            body = {"email": f"{who}@example.com", "password": "correct horse battery"}
            answer = httpx.post(f"{url}/auth/sign-up", json=body)
            tokens[who] = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        added = httpx.post(f"{url}/notes", json={"title": "mine"}, headers=tokens["ann"])
        assert added.status_code == 201
        assert httpx.get(f"{url}/notes", headers=tokens["ann"]).json() == ["mine"]
        assert httpx.get(f"{url}/notes", headers=tokens["bob"]).json() == []
        assert httpx.get(f"{url}/notes").status_code == 401


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_setting_is_documented() -> None:
    from amphibase import Settings

    text = (ROOT / "docs" / "settings.md").read_text()
    missing = [name for name in Settings.model_fields if f"`{name.upper()}`" not in text]
    assert missing == []
