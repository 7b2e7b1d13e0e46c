"""Fixtures for the tests of tables, policies and migrations."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.schema.application import Application, application_on


@pytest.fixture
def overrides() -> dict[str, Any]:
    """The settings of the applications; a module may replace it."""
    return {}


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
async def guarded(postgres_url: str) -> AsyncIterator[Application]:
    """The same, on Postgres with RLS=true."""
    async with application_on(postgres_url, rls=True) as opened:
        yield opened
