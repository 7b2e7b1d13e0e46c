"""The backends that the contract is tested on, built as an application builds them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from tests.backends import SECRET, Records
from tests.conftest import open_shared_records, prepared_database
from tests.object_store import files_url, object_store
from tests.redis_server import redis_server
from tests.supabase_projects import settings_of

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Backend
from amphibase.build import build_backend
from amphibase.settings.application import Settings, load_settings
from amphibase.testing.supabase import LocalSupabase


@pytest.fixture(scope="session")
def object_store_address() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture(
    params=[
        "sqlite-disk",
        pytest.param("sqlite-object-store", marks=pytest.mark.long),
        pytest.param("postgres-disk", marks=pytest.mark.long),
        "postgres-object-store",
        "supabase",
    ]
)
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """The settings of a backend for files: in SQL with the bytes on a disk or in an object store,
    and in a Supabase project."""
    kind, _, place = request.param.partition("-")
    options = {
        "data_dir": tmp_path / "data",
        "secret_key": SECRET,
        "public_url": "https://app.example",
    }
    if kind == "supabase":
        yield settings_of(request.getfixturevalue("supabase"), **options)
        return
    if place == "object-store":
        address = request.getfixturevalue("object_store_address")
        options["files_url"] = files_url(address, uuid4().hex)
    with prepared_database(kind, request, tmp_path) as url:
        yield load_settings(database_url=url, **options)


@pytest.fixture
async def store(store_settings: Settings) -> AsyncIterator[Backend]:
    """A backend for files, without any."""
    async with opened(store_settings) as backend:
        yield backend


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture(
    params=[
        "sqlite",
        "postgres",
        "combined",
        "supabase",
        pytest.param("supabase-remote", marks=pytest.mark.long),
        "supabase-database",
    ]
)
def backend_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """The settings of a backend without accounts, of each kind."""
    kind: str = request.param
    common = {"data_dir": tmp_path / "data", "secret_key": SECRET, "rate_limits": "off"}
    if kind in ("sqlite", "postgres"):
        with prepared_database(kind, request, tmp_path) as url:
            yield load_settings(database_url=url, **common)
        return
    if kind == "redis":  # messages and presence there, all else in a database
        redis = request.getfixturevalue("redis_url")
        with prepared_database("sqlite", request, tmp_path) as url, Redis.from_url(redis) as client:
            client.flushall()
            yield load_settings(database_url=url, messages_url=redis, **common)
        return
    if kind == "combined":  # the records in one database, all else in another
        with (
            prepared_database("sqlite", request, tmp_path) as records,
            prepared_database("postgres", request, tmp_path) as others,
        ):
            yield load_settings(
                database_url=records,
                accounts_database_url=others,
                files_database_url=others,
                **common,
            )
        return
    project: LocalSupabase = request.getfixturevalue("supabase")
    if kind == "supabase-database" and not project.db_url:
        pytest.skip("TEST_SUPABASE_DB_URL is not set")
    overrides = {
        "supabase": {},
        "supabase-remote": {"verify": "remote"},
        "supabase-database": {"supabase_db_url": project.db_url},
    }
    yield settings_of(project, **common, **overrides[kind])


@pytest.fixture
async def backend(backend_settings: Settings) -> AsyncIterator[Backend]:
    """A backend on a database or project of the test's own."""
    async with opened(backend_settings) as backend:
        yield backend


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Backend]:
    """A backend, closed after the block."""
    backend = build_backend(settings, load_keys(settings))
    yield backend
    await backend.close()


@pytest.fixture(
    scope="session",
    params=[
        "sqlite",
        "predicate",
        "rls",
        "supabase",
        pytest.param("hybrid", marks=pytest.mark.long),  # made of what rls and supabase are
    ],
)
async def shared_records(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Records]:
    """A database for all tests of records, once of each kind; `records` empties it for each."""
    kind: str = request.param
    async with open_shared_records(kind, request, tmp_path_factory.mktemp(kind)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _capable(request: pytest.FixtureRequest) -> None:
    """Skip a test that requires what the backend under test does not declare."""
    marks = list(request.node.iter_markers("requires"))
    if not marks:
        return
    name = next((name for name in ("backend", "store") if name in request.fixturenames), None)
    if name is not None:
        backend: Backend = request.getfixturevalue(name)
    else:
        backend = request.getfixturevalue("shared_records").backend
    for mark in marks:
        if not getattr(backend.capabilities, mark.args[0]):
            pytest.skip(f"{backend.capabilities.backend} has no {mark.args[0]}")
