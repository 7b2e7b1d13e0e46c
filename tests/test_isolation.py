"""The tests of an application that stands in a module, as the README's does, are kept apart."""

from importlib.metadata import entry_points
from pathlib import Path

import psycopg
import pytest
from tests.commands import inherited, run_tests

from amphibase.testing import plugin

MAIN = """
from typing import Annotated

from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import Amphibase, Base, PublicRead, Repository

db = Amphibase()
app = db.mount(FastAPI())


class Page(PublicRead, Base):
    __tablename__ = "pages"
    slug: Mapped[str] = mapped_column(unique=True)


app.include_router(db.router(Page, prefix="/pages"))
"""
CONFTEST = """
import pytest


@pytest.fixture
def app():
    from main import app

    return app
"""
TESTS = """
import pytest

from amphibase import SERVICE, Caller, current_caller
from amphibase.accounts.passwords import hash_password
from main import Page, db


@pytest.mark.parametrize("time", [1, 2])
async def test_writes_are_undone(client, time):
    ann = await client.as_user("ann@example.com")
    assert (await ann.post("/pages", json={"slug": "taken"})).status_code == 201
    assert len((await client.get("/pages")).json()["items"]) == 1
    stored = await ann.put("/files/uploads/a.txt", content=b"ten")
    assert stored.status_code == 201
    forgot = {"email": "ann@example.com"}
    assert (await client.post("/auth/password/forgot", json=forgot)).status_code == 202
    assert await db.state.backend.repository(Page, SERVICE).count() == 1


async def test_an_override_holds(client):
    ann = await client.as_user("ann@example.com")
    client._app.dependency_overrides[current_caller] = lambda: Caller("authenticated", ann.user.id)
    assert (await client.post("/pages", json={"slug": "x"})).status_code == 201


async def test_and_ends_with_its_test(client):
    assert (await client.post("/pages", json={"slug": "x"})).status_code == 401


async def test_passwords_are_hashed_at_the_least_cost(client):
    assert "$m=8,t=1,p=1$" in hash_password("x")


def test_other_tests_hash_as_applications_do():
    assert "$m=19456,t=2,p=1$" in hash_password("x")


async def test_many_sign_in(client):
    for n in range(15):
        body = {"email": "a@b.example", "password": "x"}
        response = await client.post("/auth/sign-in", json=body)
        assert response.status_code == 401
"""


def test_pytest_finds_the_plugin_by_itself() -> None:
    (found,) = entry_points(group="pytest11", name="amphibase")
    assert found.value == plugin.__name__


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def test_what_a_test_writes_through_routes_is_undone(
    tmp_path: Path, request: pytest.FixtureRequest, engine: str
) -> None:
    for name, text in (("main", MAIN), ("conftest", CONFTEST), ("test_pages", TESTS)):
        (tmp_path / f"{name}.py").write_text(text)
    environment = {
        **inherited(),
        "PYTHONPATH": str(tmp_path),
        "FILES_URL": (tmp_path / "bucket").as_uri(),
        "MAIL_URL": (tmp_path / "mail").as_uri(),
    }
    if engine == "postgres":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    done = run_tests(tmp_path, environment, "-o", "asyncio_mode=auto")
    assert "7 passed" in done.stdout, done.stdout
    if engine == "postgres":
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            left = connection.execute(
                "SELECT datname FROM pg_database WHERE datname ~ %s", ["^amphibase_test_"]
            )
            assert left.fetchall() == []
            assert connection.execute("SELECT to_regclass('pages')").fetchone() == (None,)
    # The application's own database, folder, bucket and mail server are left alone.
    for name in ("data", "bucket", "mail"):
        assert not (tmp_path / name).exists()


def test_an_application_on_which_nothing_is_mounted_says_so(tmp_path: Path) -> None:
    app = "from fastapi import FastAPI\n\napp = FastAPI()\n"
    tests = "async def test_it(client, emails, session):\n    pass\n"
    for name, text in (("main", app), ("conftest", CONFTEST), ("test_it", tests)):
        (tmp_path / f"{name}.py").write_text(text)
    done = run_tests(
        tmp_path, {**inherited(), "PYTHONPATH": str(tmp_path)}, "-o", "asyncio_mode=auto"
    )
    assert "This application has no Amphibase: call db.mount(app)" in done.stdout
