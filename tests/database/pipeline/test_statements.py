"""What SQLAlchemy's statements bring that are executed on libpq's pipeline."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.exc import InvalidRequestError, NoResultFound
from tests.database.pipeline.things import THINGS, VALUES, add, numbers

from amphibase.database.compiled_call import CallCache
from amphibase.database.engine import Database
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.errors import InvalidValue, NotFound


async def test_values_and_rows_are_those_of_the_engine(
    database: PipelineDatabase, engine: Database
) -> None:
    async with database.write() as connection:
        await connection.execute(insert(THINGS).values(**VALUES))
        await connection.execute(insert(THINGS), {"number": 8})
    queries = (
        select(THINGS).order_by(THINGS.c.number),
        select(
            THINGS.c.number, THINGS.c.data["a"].label("list"), func.count().over().label("all")
        ).order_by(THINGS.c.number),
        text("SELECT *, made_at + :more AS later FROM things ORDER BY number").bindparams(
            more=timedelta(hours=1)
        ),
    )
    for query in queries:
        async with database.read() as connection, engine.read() as other:
            result, expected = await connection.execute(query), await other.execute(query)
            rows = result.all()
            others = expected.all()
            assert rows == others
            assert [*rows[0]._mapping] == [*expected.keys()]
            assert [*map(type, rows[0])] == [*map(type, others[0])]
    async with database.read() as connection:
        row = (await connection.execute(select(THINGS).limit(1))).mappings().one()
    assert {**row, "ip": str(row["ip"])} == {**VALUES, "made_at": VALUES["made_at"]}
    assert row["made_at"].tzinfo is UTC


async def test_the_values_of_each_statement_are_its_own(database: PipelineDatabase) -> None:
    async with database.write() as connection:
        await connection.execute(insert(THINGS), [{"number": 1}, {"number": 2}, {"number": 3}])
        for number in (1, 2):
            await connection.execute(
                update(THINGS).where(THINGS.c.number == number).values(name=f"the {number}.")
            )
    by_number = select(THINGS.c.number).where(THINGS.c.number == bindparam("wanted"))
    async with database.read() as connection:
        for wanted in ([1, 3], [2], [3, 2, 1], []):
            listed = select(THINGS.c.number).where(THINGS.c.number.in_(wanted))
            assert sorted(await connection.scalars(listed)) == sorted(wanted)
        for number, name in ((1, "the 1."), (2, "the 2."), (3, None)):
            named = select(THINGS.c.name).where(THINGS.c.number == number)
            assert (await connection.execute(named)).scalar_one() == name
            assert await connection.scalar(by_number, {"wanted": number}) == number
        one, other = await connection.fetch((by_number, {"wanted": 2}), (by_number, {"wanted": 9}))
        assert (one.scalar_one(), other.first()) == (2, None)
        with pytest.raises(InvalidRequestError):
            await connection.execute(by_number)


async def test_a_changed_column_is_one_that_is_named_in_the_values(
    database: PipelineDatabase,
) -> None:
    change = update(THINGS).where(THINGS.c.number == bindparam("which")).returning(THINGS)
    async with database.write() as connection:
        await add(connection, 1, 2)
        for values in ({"name": "a"}, {"name": "b", "is_old": True}, {"is_old": False}):
            changed = await connection.execute(change, {"which": 1, **values})
            row = changed.mappings().one()
            assert {name: row[name] for name in values} == values
        assert row["name"] == "b"


async def test_a_result_says_how_many_rows_were_changed(database: PipelineDatabase) -> None:
    async with database.write() as connection:
        added = await connection.execute(insert(THINGS), [{"number": 1}, {"number": 2}])
        assert added.rowcount == 2
        doubled = postgres_insert(THINGS).values(number=1).on_conflict_do_nothing()
        assert (await connection.execute(doubled)).rowcount == 0
        assert (await connection.execute(update(THINGS).values(name=""))).rowcount == 2
        gone = await connection.execute(delete(THINGS).returning(THINGS.c.number))
        assert (gone.rowcount, sorted(gone.scalars())) == (2, [1, 2])


async def test_one_row_that_is_missing_is_not_found(database: PipelineDatabase) -> None:
    with pytest.raises(NotFound) as raised:
        async with database.read() as connection:
            (await connection.execute(select(THINGS))).one()
    assert isinstance(raised.value.__cause__, NoResultFound)


async def test_a_value_of_another_type_never_reaches_the_database(
    database: PipelineDatabase,
) -> None:
    with pytest.raises(InvalidValue, match="made_at"):
        async with database.write() as connection:
            await connection.execute(insert(THINGS), {"made_at": datetime(2026, 1, 1)})
    with pytest.raises(InvalidValue):
        async with database.write() as connection:
            await connection.execute(insert(THINGS), {"name": "a\0b"})
    assert await numbers(database) == []


def test_statements_of_the_same_text_are_compiled_once() -> None:
    cache = CallCache()
    one, _ = cache.compiled(select(THINGS).where(THINGS.c.number == 1), {})
    other, constants = cache.compiled(select(THINGS).where(THINGS.c.number == 2), {})
    assert one is other
    assert one.call({}, constants).values == [2]
    by_name, _ = cache.compiled(insert(THINGS), {"name": ""})
    by_number, _ = cache.compiled(insert(THINGS), {"number": 1})
    assert by_name is not by_number
