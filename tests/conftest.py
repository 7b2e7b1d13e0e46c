"""Homes for the tests: a SQLite file and a real Postgres, a fresh one of each for every test."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from amphibase import Amphibase, Base, Settings, load_settings
from amphibase.postgres import Server, start
from amphibase.sql.backend import SqlBackend
from amphibase.sql.schema import ensure
from amphibase.tokens import load_keys

SECRET = "a secret of the tests that is long enough even for the longest of hashes"

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's own settings, or writes beside the code."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"AMPHIBASE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Postgres server for this run."""
    with start(tmp_path_factory.mktemp("postgres") / "data", fsync=False) as server:
        yield server


def _url_of_new_database(server: Server) -> tuple[str, str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    return name, server.create_database(name)


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """An empty Postgres database."""
    name, url = _url_of_new_database(postgres)
    yield url
    postgres.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path}/app.db"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database, once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(database_url: str, tmp_path: Path) -> MakeSettings:
    """Settings for the test's database; the rate limits are off unless they are asked for."""

    def make(**overrides: Any) -> Settings:
        return load_settings(
            **{
                "database_url": database_url,
                "data_dir": tmp_path / "data",
                "secret_key": SECRET,
                "rate_limits": "off",
                **overrides,
            }
        )

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[SqlBackend]:
    """A backend with its tables made."""
    opened = SqlBackend(settings, load_keys(settings))
    await ensure(opened.database, settings, Base.metadata)
    yield opened
    await opened.close()


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The application of the tests; `client` starts it."""
    return Amphibase(settings).mount(FastAPI())
