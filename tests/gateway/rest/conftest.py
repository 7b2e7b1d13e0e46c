"""A library for the tests of the planner."""

import os
from collections.abc import AsyncIterator

import pytest
from tests.gateway.rest.library import Library, open_library

from amphibase.postgres import Server


@pytest.fixture(scope="module")
async def lasting_library(postgres: Server) -> AsyncIterator[Library]:
    name = f"library_{os.getpid()}"
    library = await open_library(postgres.create_database(name), max_rows=1000, aggregates=True)
    yield library
    await library.connection.close()
    postgres.drop_database(name)


@pytest.fixture
async def library(lasting_library: Library) -> AsyncIterator[Library]:
    """The library as it was made; what a test changes is undone."""
    async with lasting_library.connection.transaction(force_rollback=True):
        yield lasting_library
