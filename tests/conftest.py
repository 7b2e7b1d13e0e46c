"""Backends for the tests: a SQLite file and a real Postgres, a fresh one of each for every test."""

import gc
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import certifi
import httpx
import hypothesis
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy.engine import make_url
from tests import column_models as column_models  # their tables belong to every prepared database
from tests import models as models
from tests import rule_models as rule_models
from tests.applications import plain_application
from tests.backends import SECRET as SECRET
from tests.backends import Records
from tests.browser import open_browser
from tests.compiled_statements import shared_compiled_statements
from tests.servers import Databases, new_server
from tests.supabase_projects import (
    named_project,
    open_project,
    prepare_files,
    reset,
    settings_of,
)
from tests.supabase_tables import create_tables, created_tables, dropped_tables, owner_url
from tests.third_parties import ThirdParty, open_third_party

from amphibase import Base, Settings, load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.build import build_backend
from amphibase.database.engine import Database
from amphibase.postgres import Server
from amphibase.schema.commands import ensure
from amphibase.sql.backend import SqlBackend
from amphibase.testing.passwords import cheap_hashes
from amphibase.testing.supabase import LocalSupabase

if TYPE_CHECKING:  # few test processes open a browser
    from playwright.async_api import Browser, Page


CLIENT_SECONDS = 30
"""How long a client of a test waits where it says nothing else."""


def pytest_configure(config: pytest.Config) -> None:
    """Try the same examples in every run, however slowly; what takes minutes tries new ones."""
    hypothesis.settings.register_profile(
        "new", hypothesis.settings.get_profile("ci"), derandomize=False
    )
    hypothesis.settings.load_profile("ci" if config.option.markexpr == "not long" else "new")


def pytest_xdist_auto_num_workers() -> int:
    """Tests also wait, for processes that start and for limits of time: another one runs then."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the collector need not look at it for each test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # a test makes many objects, and few cycles


def pytest_sessionfinish() -> None:
    """What is left is collected once: pytest does it five times, each time for a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes() -> Iterator[None]:
    """Thousands of sign-ups and sign-ins would wait for a hash each."""
    with cheap_hashes():
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each HTTP client of a test would take 20 ms to read all those that the system trusts."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """On a busy machine, hashing a password may take the five seconds that httpx waits, and the
    writers before one on SQLite the ten that a pool does."""
    default = signature(httpx.get).parameters["timeout"].default
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "read", "write", "pool"):
            patch.setattr(default, name, CLIENT_SECONDS)
        patch.setattr("amphibase.database.engine.POOL_TIMEOUT_SECONDS", CLIENT_SECONDS)
        yield


@pytest.fixture(scope="session", autouse=True)
def _shared_compiled_statements() -> Iterator[None]:
    with shared_compiled_statements():
        yield


VARIABLES = {
    prefix + name.upper() for name in Settings.model_fields for prefix in ("", "AMPHIBASE_")
}


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the test's own. pytest's fixture numbers them, and for the next number it looks
    through the folders of all tests before."""
    name = re.sub(r"\W", "_", request.node.name)[:20]
    return Path(mkdtemp(prefix=f"{name}_", dir=tmp_path_factory.getbasetemp()))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's own settings, or writes beside the code."""
    for name in VARIABLES.intersection(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A Postgres server for this run."""
    with new_server() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: Server) -> Iterator[Databases]:
    """Makes databases on it."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield Databases(postgres, connection)


@pytest.fixture
def postgres_url(databases: Databases) -> Iterator[str]:
    """An empty Postgres database."""
    with databases.new() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path}/app.db"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database, once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


async def _prepare(url: str) -> None:
    """Make all tables in an empty database, once, so that each test can have a copy."""
    settings = load_settings(database_url=url, secret_key=SECRET)
    database = Database(settings.database)
    await ensure(database, settings, Base.metadata)
    await database.close()


@pytest.fixture(scope="session")
async def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "app.db"
    await _prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
async def prepared_postgres(databases: Databases) -> AsyncIterator[str]:
    with databases.new() as url:
        await _prepare(url)
        yield str(make_url(url).database)


@contextmanager
def prepared_database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own with all tables made, of SQLite or Postgres."""
    if kind == "sqlite":
        path = tmp_path / "prepared.db"
        shutil.copy(request.getfixturevalue("prepared_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    databases: Databases = request.getfixturevalue("databases")
    with databases.new(template=request.getfixturevalue("prepared_postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own with all tables made, once of each kind."""
    with prepared_database(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def shared_supabase(request: pytest.FixtureRequest) -> Iterator[LocalSupabase]:
    """A Supabase project for all tests: the local one, in a process of its own, over a socket, or
    the one that `TEST_SUPABASE_URL` names."""
    with open_project(request) as project:
        if named_project() is None:
            create_tables(project)
        elif project.db_url:
            prepare_files(project)
        yield project
        reset(project)


@pytest.fixture
def supabase(shared_supabase: LocalSupabase) -> LocalSupabase:
    """The project, without users and files."""
    reset(shared_supabase)
    return shared_supabase


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(prepared_url: str, tmp_path: Path) -> MakeSettings:
    """Settings for the test's database; the rate limits are off unless they are asked for."""

    def make(**overrides: Any) -> Settings:
        return load_settings(
            **{
                "database_url": prepared_url,
                "data_dir": tmp_path / "data",
                "secret_key": SECRET,
                "rate_limits": "off",
                **overrides,
            }
        )

    return make


@contextmanager
def settings_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, **options: Any
) -> Iterator[Settings]:
    """Settings of an application whose data is in SQLite, Postgres or a Supabase project."""
    options = {
        "data_dir": tmp_path / "data",
        "secret_key": SECRET,
        "rate_limits": "off",
        **options,
    }
    if kind == "supabase":
        yield settings_of(request.getfixturevalue("supabase"), **options)
        return
    with prepared_database(kind, request, tmp_path) as url:
        yield load_settings(database_url=url, **options)


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[SqlBackend]:
    opened = SqlBackend(settings, load_keys(settings))
    yield opened
    await opened.close()


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    """The application of the tests; `client` starts it."""
    with plain_application(settings) as app:
        yield app


@pytest.fixture(scope="session", params=["sqlite", "predicate", "rls"])
async def shared_records(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Records]:
    """A database for all tests of records, once of each kind; `records` empties it for each."""
    kind: str = request.param
    async with open_shared_records(kind, request, tmp_path_factory.mktemp(kind)) as opened:
        yield opened


@asynccontextmanager
async def open_shared_records(
    kind: str, request: pytest.FixtureRequest, folder: Path
) -> AsyncIterator[Records]:
    """A backend of that kind on an empty database of its own."""
    if kind in ("supabase", "hybrid"):
        with open_project(request) as project:
            if not project.db_url:
                pytest.skip("TEST_SUPABASE_DB_URL is not set")
            async with open_records_of(kind, project, folder) as opened:
                yield opened
        return
    if kind == "sqlite":
        place = nullcontext(f"sqlite:///{folder}/app.db")
    else:
        place = request.getfixturevalue("databases").new()
    with place as url:
        opened = await open_records(kind, url, folder)
        yield opened
        await opened.backend.close()


@asynccontextmanager
async def open_records_of(
    kind: str, project: LocalSupabase, folder: Path
) -> AsyncIterator[Records]:
    """A backend on a Supabase project with all tables made; `hybrid` reaches them by SQL."""
    is_direct = kind == "hybrid"
    direct = {"supabase_db_url": project.db_url} if is_direct else {}
    settings = settings_of(project, data_dir=folder, **direct)
    with dropped_tables(project) if is_direct else created_tables(project):
        backend = build_backend(settings, load_keys(settings))
        opened = Records(kind, backend, settings, None if is_direct else owner_url(project))
        await backend.start()  # which creates tables where they are reached by SQL
        await opened.add_profiles()
        yield opened
        await backend.close()


async def open_records(kind: str, url: str, folder: Path) -> Records:
    """A backend of that kind on an empty database, with all tables made."""
    settings = load_settings(
        database_url=url, secret_key=SECRET, data_dir=folder, rls=kind == "rls"
    )
    opened = Records(kind, build_backend(settings, load_keys(settings)), settings)
    await opened.backend.start()
    await opened.add_profiles()
    return opened


@pytest.fixture
async def records(shared_records: Records) -> Records:
    """Empty tables of the tests' models: SQLite, Postgres by predicate, Postgres by RLS in turn."""
    await shared_records.clear()
    return shared_records


@pytest.fixture
async def third_party() -> AsyncIterator[ThirdParty]:
    """A third party, where Ann signs in."""
    async with open_third_party() as provider:
        yield provider


@pytest.fixture(scope="session")
async def browser() -> "AsyncIterator[Browser]":
    """A browser for all tests of a process."""
    async with open_browser() as opened:
        yield opened


@pytest.fixture
async def page(browser: "Browser") -> "AsyncIterator[Page]":
    """A page of a browser that nobody has used: no cookies, nothing stored."""
    async with await browser.new_context() as context:
        context.set_default_timeout(60_000)  # milliseconds
        yield await context.new_page()
