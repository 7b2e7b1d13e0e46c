"""Fixtures for the tests of a database that libpq's pipeline reaches."""

from collections.abc import AsyncIterator

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.database.pipeline.things import METADATA, MakeDatabase

from amphibase.database.engine import Database
from amphibase.database.pipeline_database import PipelineDatabase


@pytest.fixture
def url(postgres_url: str, conninfo: str) -> str:
    return f"{postgres_url}?application_name={conninfo_to_dict(conninfo)['application_name']}"


@pytest.fixture(autouse=True)
async def engine(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    async with database.write() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()


@pytest.fixture
async def make_database(url: str) -> AsyncIterator[MakeDatabase]:
    databases: list[PipelineDatabase] = []

    def make(size: int = 1) -> PipelineDatabase:
        databases.append(PipelineDatabase(url, size))
        return databases[-1]

    yield make
    for database in databases:
        await database.close()


@pytest.fixture
def database(make_database: MakeDatabase) -> PipelineDatabase:
    # One connection: what a transaction leaves behind is met by the next.
    return make_database()
