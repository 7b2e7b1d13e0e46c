"""Several changes in one round trip."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    bindparam,
    delete,
    event,
    insert,
    select,
    update,
)

from amphibase.database.engine import Database
from amphibase.database.together import Change, execute_together, read_together
from amphibase.errors import ForeignKeyViolation

METADATA = MetaData()
TREES = Table("trees", METADATA, Column("id", Integer, primary_key=True), Column("age", Integer))
LEAVES = Table(
    "leaves",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("tree_id", ForeignKey(TREES.c.id)),
)
CHANGES: list[Change] = [
    (delete(TREES).where(TREES.c.id == bindparam("old")), {"old": 1}),
    (update(TREES).where(TREES.c.id == bindparam("grown")), {"grown": 2, "age": 20}),
    (insert(TREES), {"id": 3, "age": 30}),
    (insert(LEAVES), {"id": 1, "tree_id": 3}),
]


@pytest.fixture(params=["sqlite_url", "postgres_url"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    database = Database(request.getfixturevalue(request.param))
    async with database.write() as connection:
        await connection.run_sync(METADATA.create_all)
        await connection.execute(insert(TREES), [{"id": 1, "age": 1}, {"id": 2, "age": 2}])
    yield database
    await database.close()


async def rows(database: Database) -> list[list[tuple[int, ...]]]:
    async with database.read() as connection:
        return [
            [tuple(row) for row in await connection.execute(select(table).order_by(table.c.id))]
            for table in (TREES, LEAVES)
        ]


async def test_changes_are_all_made_and_on_postgres_in_one_statement(database: Database) -> None:
    statements = []
    async with database.write() as connection:

        @event.listens_for(connection.sync_connection, "before_cursor_execute")
        def count(*arguments: object) -> None:
            statements.append(arguments[2])

        await execute_together(connection, *CHANGES)
    assert await rows(database) == [[(2, 20), (3, 30)], [(1, 3)]]
    assert len(statements) == (1 if database.dialect == "postgresql" else 4)


async def test_queries_are_executed_in_their_order(database: Database) -> None:
    by_id = select(TREES.c.age).where(TREES.c.id == bindparam("wanted"))
    async with database.read() as connection:
        found = await read_together(connection, *((by_id, {"wanted": id}) for id in (2, 1, 9)))
        assert [result.scalar_one_or_none() for result in found] == [2, 1, None]


async def test_a_change_that_fails_undoes_those_before_it(database: Database) -> None:
    lost_leaf = (insert(LEAVES), {"id": 2, "tree_id": 9})
    with pytest.raises(ForeignKeyViolation):
        async with database.write() as connection:
            await execute_together(connection, *CHANGES, lost_leaf)
    assert await rows(database) == [[(1, 1), (2, 2)], []]
