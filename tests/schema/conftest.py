"""Fixtures for the tests of tables, policies and migrations."""

from collections.abc import AsyncIterator

import pytest
from tests.schema.stage import Stage, stage_on


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    """An empty database and the models of an application that has added none yet."""
    async with stage_on(database_url) as opened:
        yield opened


@pytest.fixture
async def postgres_stage(postgres_url: str) -> AsyncIterator[Stage]:
    """The same, on Postgres alone."""
    async with stage_on(postgres_url) as opened:
        yield opened


@pytest.fixture
async def sqlite_stage(sqlite_url: str) -> AsyncIterator[Stage]:
    """The same, on SQLite alone."""
    async with stage_on(sqlite_url) as opened:
        yield opened


@pytest.fixture
async def guarded(postgres_url: str) -> AsyncIterator[Stage]:
    """The same, on Postgres with RLS=true."""
    async with stage_on(postgres_url, rls=True) as opened:
        yield opened
