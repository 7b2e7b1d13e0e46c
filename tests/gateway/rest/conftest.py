"""A library for the tests of the planner, an orchestra for those over HTTP."""

import itertools
import os
from collections.abc import AsyncIterator

import pytest
from tests.gateway.rest.library import Library, open_library
from tests.gateway.rest.orchestra import Orchestra, make_orchestra, open_orchestra

from amphibase.postgres import Server

_numbers = itertools.count(1)


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


@pytest.fixture(scope="module")
async def orchestra(postgres: Server, project_template: str) -> AsyncIterator[Orchestra]:
    """The orchestra's Data API, one for all tests of a module."""
    name = f"orchestra_{os.getpid()}_{next(_numbers)}"
    async with open_orchestra(await make_orchestra(project_template, name)) as made:
        yield made
    postgres.drop_database(name)
