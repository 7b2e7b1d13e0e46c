"""A database for the tests of the planner, a Data API for those over HTTP."""

import itertools
import os
from collections.abc import AsyncIterator

import pytest
from tests.gateway.rest.data_api import DataApi, create_project, open_data_api
from tests.gateway.rest.planner_database import PlannerDatabase, open_planner_database

from amphibase.postgres import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
async def shared_database(postgres: Server) -> AsyncIterator[PlannerDatabase]:
    name = f"planner_{os.getpid()}"
    database = await open_planner_database(
        postgres.create_database(name), max_rows=1000, aggregates=True
    )
    yield database
    await database.connection.close()
    postgres.drop_database(name)


@pytest.fixture
async def database(shared_database: PlannerDatabase) -> AsyncIterator[PlannerDatabase]:
    """The database as it was made; what a test changes is undone."""
    async with shared_database.connection.transaction(force_rollback=True):
        yield shared_database


@pytest.fixture(scope="module")
async def api(postgres: Server, project_template: str) -> AsyncIterator[DataApi]:
    """A Data API, one for all tests of a module."""
    name = f"data_api_{os.getpid()}_{next(_numbers)}"
    async with open_data_api(await create_project(project_template, name)) as api:
        yield api
    postgres.drop_database(name)
