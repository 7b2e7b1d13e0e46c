"""The triggers and functions that write and read the log of changes."""

import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import (
    Column,
    Integer,
    String,
    Table,
    create_engine,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.backends import ANN, Records
from tests.column_models import Ticket
from tests.contract.test_changes import end_of, events
from tests.models import Task

from amphibase.backend import Changes, Lost
from amphibase.schema import change_log as tables


@pytest.fixture
async def ann(records: Records) -> AsyncIterator[Changes[Task]]:
    async with records.backend.changes(Task, ANN) as changes:
        yield changes


async def test_functions_of_an_earlier_version_are_brought_up_to_date(
    records: Records, ann: Changes[Task]
) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite has no functions of the database's own")
    earlier = (
        "DROP FUNCTION amphibase.read_changes",
        "CREATE FUNCTION amphibase.read_changes(after_snapshot text) RETURNS text "
        "LANGUAGE sql AS $$ SELECT after_snapshot $$",
    )
    await records.execute(*map(text, earlier))
    engine = create_async_engine(records.owner_url or records.settings.database)
    async with engine.begin() as connection:
        missing = await connection.run_sync(tables.missing, Task.metadata)
        assert [each.subject for each in missing] == ["function amphibase.read_changes"]
        await connection.run_sync(tables.create_missing, Task.metadata)
        assert await connection.run_sync(tables.missing, Task.metadata) == []
    await engine.dispose()
    await end_of(records, ann)


@pytest.mark.parametrize("gone", ["trigger", "column"])
async def test_triggers_are_brought_up_to_date(records: Records, gone: str) -> None:
    if not records.is_sqlite:
        pytest.skip("on Postgres they name no columns")
    name = f"{tables.TRIGGER}_delete_t_tasks"

    async with records.sql.database.write() as connection:
        if gone == "trigger":
            await connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            await connection.execute(text("ALTER TABLE t_tasks RENAME COLUMN stars TO points"))
            await connection.execute(text("ALTER TABLE t_tasks RENAME COLUMN points TO stars"))
            await connection.execute(text(f"DROP TRIGGER {name}"))
            await connection.execute(
                text(f"CREATE TRIGGER {name} AFTER DELETE ON t_tasks BEGIN SELECT 1; END")
            )
        metadata = Task.metadata
        missing = await connection.run_sync(tables.missing, metadata)
        assert [trigger.name for trigger in missing] == [name]
        await connection.run_sync(tables.create_missing, metadata)
        assert await connection.run_sync(tables.missing, metadata) == []


async def test_a_trigger_that_went_with_a_renamed_table_is_missing(records: Records) -> None:
    if records.is_sqlite:
        pytest.skip("SQLite renames the table in its triggers, too")
    async with records.sql.database.write() as connection:
        await connection.execute(text("ALTER TABLE t_tickets RENAME TO t_tickets_before"))
        await connection.execute(text("CREATE TABLE t_tickets (LIKE t_tickets_before)"))
        missing = await connection.run_sync(tables.missing, Ticket.metadata)
        assert {trigger.table for trigger in missing} == {"t_tickets"}
        await connection.rollback()


async def test_what_was_changed_without_triggers_is_a_loss(
    records: Records, ann: Changes[Task]
) -> None:
    drop = f"DROP TRIGGER {tables.TRIGGER}_insert_t_tasks"
    if not records.is_sqlite:
        drop = f"DROP TRIGGER {tables.TRIGGER} ON t_tasks"
    await records.execute(text(drop))
    await records.of(Task, ANN).add(Task(title="unlogged"))
    async with records.sql.database.write() as connection:
        await connection.run_sync(tables.create_missing, Task.metadata)
    assert await events(ann, 1) == [Lost(ann.cursor)]
    await end_of(records, ann)


def test_a_table_may_have_more_columns_than_a_function_of_sqlite_has_arguments() -> None:
    class Other(DeclarativeBase):
        pass

    columns = [Column(f"c{number}", String) for number in range(130)]
    table = Table("broad", Other.metadata, Column("id", Integer, primary_key=True), *columns)

    class Broad(Other):
        __table__ = table
        __changes__ = True

    values = dict.fromkeys([each.name for each in columns], '{"}')
    with create_engine("sqlite://").begin() as connection:
        Other.metadata.create_all(connection)
        tables.create_missing(connection, Other.metadata)
        connection.execute(insert(table).values(id=1, **values))
        connection.execute(update(table).values(c0=None))
        connection.execute(delete(table))
        found = connection.execute(text(f"SELECT old FROM {tables.TABLE} WHERE old IS NOT NULL"))
        updated, deleted = (json.loads(old) for (old,) in found)
    assert updated == {"id": 1, **values}
    assert deleted == {"id": 1, **values, "c0": None}
    Other.registry.dispose()


def test_a_table_may_have_quotes_in_its_name() -> None:
    class Other(DeclarativeBase):
        pass

    class Quoted(Other):
        __tablename__ = "a \"table's"
        __changes__ = True

        id: Mapped[int] = mapped_column('the "key', primary_key=True)

    with create_engine("sqlite://").begin() as connection:
        Other.metadata.create_all(connection)
        tables.create_missing(connection, Other.metadata)
        assert tables.missing(connection, Other.metadata) == []
        connection.execute(insert(Quoted).values(id=1))
        written = f"SELECT table_name, \"key\" FROM {tables.TABLE} WHERE operation = 'INSERT'"
        logged = connection.execute(text(written))
        assert [tuple(row) for row in logged] == [("a \"table's", "[1]")]
    Other.registry.dispose()
