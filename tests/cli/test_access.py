"""`amphibase access`: what the models declare, and what a caller may do with a row."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import commands
from tests.commands import Completed

HELPDESK = Path(__file__).parents[2] / "examples" / "helpdesk"

APP = """
import asyncio
from fastapi import FastAPI
from sqlalchemy.orm import Mapped
from amphibase import SERVICE, Amphibase, Base, Owned

db = Amphibase()
app = db.mount(FastAPI())


class Plant(Owned, Base):
    __tablename__ = "plants"
    name: Mapped[str]


async def seed() -> None:
    async with db.started() as state:
        for name in ("ann", "bob"):
            user = await state.users.create(f"{name}@example.com", password="correct horse battery")
            if name == "ann":
                rows = state.backend.repository(Plant, SERVICE)
                print((await rows.add(Plant(owner_id=user.id, name="fern"))).id)


if __name__ == "__main__":
    asyncio.run(seed())
"""


Run = Callable[..., Completed]


@pytest.fixture
def run(tmp_path: Path, sqlite_url: str) -> Run:
    """Runs `amphibase access …` for the application of the folder."""

    def run(*arguments: str) -> Completed:
        whole = ("access", *arguments, "--app", "main:app")
        return commands.run(tmp_path, {"DATABASE_URL": sqlite_url}, *whole)

    return run


@pytest.fixture
def helpdesk(tmp_path: Path) -> None:
    for name in ("main.py", "models.py"):
        shutil.copy(HELPDESK / name, tmp_path)


@pytest.mark.usefixtures("helpdesk")
def test_the_matrix_has_each_rule_of_each_model_with_its_operations(
    run: Run, tmp_path: Path
) -> None:
    done = run("matrix")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in done.stdout.splitlines()]
    assert ["Comment", "read, add", 'through("ticket")'] in rows
    assert ["", "delete", 'owner | through("ticket", "delete")'] in rows
    assert ["", "billing_code", "read: service"] in rows
    scope = "memberships(Membership.organisation_id, of=Membership.user_id)"
    assert ["Organisation", "read", f'{scope}.has("id") | admin'] in rows
    page = run("matrix", "--html", "access.html")
    assert (page.returncode, page.stdout) == (0, "")
    text = (tmp_path / "access.html").read_text()
    assert "<code>through(&quot;ticket&quot;)</code>" in text
    assert "billing_code: read: service" in text


def test_a_row_is_explained_for_a_user_by_their_address(
    run: Run, tmp_path: Path, sqlite_url: str
) -> None:
    script = tmp_path / "main.py"
    script.write_text(APP)
    seeded = commands.run_script(script, {"DATABASE_URL": sqlite_url})
    id = seeded.stdout.strip()
    ann, bob, anonymous = (
        run("explain", "Plant", id, "--as", who)
        for who in ("ann@example.com", "bob@example.com", "anonymous")
    )
    assert ann.returncode == 0, ann.stderr
    assert [line for line in ann.stdout.splitlines() if "delete" in line] == ["✓ delete"]
    for done in (bob, anonymous):
        assert done.stdout.count("✗ owner") == 4  # once for each operation
        assert "✓" not in done.stdout
    missing = run("explain", "Plant", id, "--as", "eve@example.com")
    assert (missing.returncode, missing.stderr) == (1, "error There is no user eve@example.com\n")
    unknown = run("explain", "Tree", id, "--as", "anonymous")
    assert "There is no model Tree" in unknown.stderr
