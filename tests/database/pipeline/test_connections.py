"""The connections of a database that libpq's pipeline reaches."""

import pytest
from sqlalchemy import (
    literal,
    select,
)
from tests.database.pipeline.things import MakeDatabase, add, numbers
from tests.database.pools import Server

from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.errors import Unavailable


async def test_a_connection_that_was_lost_is_replaced(
    make_database: MakeDatabase, server: Server
) -> None:
    database = make_database(2)

    async def lose() -> None:
        async with database.write() as connection:
            await add(connection, 2)
            server.terminate()
            await add(connection, 3)

    assert await numbers(database) == []
    server.terminate()
    async with database.write() as connection:
        await add(connection, 1)
    server.terminate()
    assert await numbers(database) == [1]
    with pytest.raises(Unavailable):
        await lose()
    assert await numbers(database) == [1]


async def test_reading_holds_no_connection_between_its_statements(
    database: PipelineDatabase,
) -> None:
    async with database.read() as reader, database.read() as other:
        assert await reader.scalar(select(literal(1))) == 1
        assert await other.scalar(select(literal(2))) == 2


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    database = PipelineDatabase("postgresql://u:secret@127.0.0.1:1/x", 1)
    with pytest.raises(Unavailable) as raised:
        await numbers(database)
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"
