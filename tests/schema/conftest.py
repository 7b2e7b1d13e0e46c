"""Fixtures for the tests of tables, policies and migrations."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.schema.application import Application, application_on


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, Any]:
    """The settings of the applications: accounts and files are elsewhere, so that of the three
    chains of revisions one runs, in a quarter of the time; `on_all_chains` runs all."""
    return {
        "accounts_database_url": f"sqlite:///{tmp_path}/accounts.db",
        "files_database_url": f"sqlite:///{tmp_path}/files.db",
    }


@pytest.fixture
async def application(database_url: str, overrides: dict[str, Any]) -> AsyncIterator[Application]:
    """An empty database and the models of an application that has added none yet."""
    async with application_on(database_url, **overrides) as opened:
        yield opened


@pytest.fixture
async def postgres_application(
    postgres_url: str, overrides: dict[str, Any]
) -> AsyncIterator[Application]:
    """The same, on Postgres alone."""
    async with application_on(postgres_url, **overrides) as opened:
        yield opened


@pytest.fixture
async def sqlite_application(
    sqlite_url: str, overrides: dict[str, Any]
) -> AsyncIterator[Application]:
    """The same, on SQLite alone."""
    async with application_on(sqlite_url, **overrides) as opened:
        yield opened


@pytest.fixture
async def guarded(postgres_url: str, overrides: dict[str, Any]) -> AsyncIterator[Application]:
    """The same, on Postgres with RLS=true."""
    async with application_on(postgres_url, rls=True, **overrides) as opened:
        yield opened
