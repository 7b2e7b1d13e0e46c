"""Transactions on libpq's pipeline."""

import asyncio
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.types import NULLTYPE
from tests.database.pipeline.things import (
    PARTS,
    THINGS,
    add,
    numbers,
)
from tests.database.pools import Server

from amphibase.database.connection import Connection, Message
from amphibase.database.impersonation import Impersonation, RoleNotAllowed
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.together import execute_together, read_together
from amphibase.errors import Conflict, ForeignKeyViolation, InvalidValue
from amphibase.models import uuid7


@pytest.mark.parametrize("fails", ["in Python", "in the database", "at the commit"])
async def test_a_transaction_that_fails_leaves_nothing(
    database: PipelineDatabase, fails: str
) -> None:
    async def change() -> None:
        async with database.write() as connection:
            await add(connection, 1)
            if fails == "in Python":
                raise LookupError
            if fails == "in the database":
                await add(connection, 1)
            await connection.execute(insert(PARTS), {"id": 1, "thing": uuid7()})

    expected = {"in Python": LookupError, "in the database": Conflict}
    with pytest.raises(expected.get(fails, ForeignKeyViolation)):
        await change()
    assert await numbers(database) == []


async def test_what_goes_on_after_an_error_is_no_success(database: PipelineDatabase) -> None:
    async def change() -> None:
        async with database.write() as connection:
            await add(connection, 1)
            with pytest.raises(psycopg.errors.UniqueViolation):
                await add(connection, 1)

    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await change()
    assert await numbers(database) == []


async def test_a_cancelled_transaction_leaves_its_connection_to_nobody(
    database: PipelineDatabase, server: Server
) -> None:
    begun = asyncio.Event()

    async def change() -> None:
        async with database.write() as connection:
            await add(connection, 1)
            await connection.execute(text("SET LOCAL TimeZone TO 'Asia/Tokyo'"))
            begun.set()
            await connection.execute(text("SELECT pg_sleep(60)"))

    task = asyncio.create_task(change())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.backends("active") + server.backends("idle in%") == 0)
    assert await numbers(database) == []
    async with database.read() as connection:
        assert await connection.scalar(text("SHOW TimeZone")) == "UTC"


async def test_a_value_that_cannot_be_sent_leaves_the_transaction_as_it_was(
    database: PipelineDatabase,
) -> None:
    async def change() -> None:
        async with database.write() as connection:
            for number in (1, 2):
                with pytest.raises(psycopg.DataError):
                    await connection.execute(insert(THINGS), {"name": "a\0b"})
                await add(connection, number)
            raise LookupError

    with pytest.raises(LookupError):
        await change()
    assert await numbers(database) == []


async def test_what_is_queued_is_executed_before_the_next_statement_or_at_the_end(
    database: PipelineDatabase,
) -> None:
    async def add_again() -> None:
        async with database.write() as connection:
            await add(connection, 3)
            connection.queue((insert(THINGS), {"number": 2}))

    async with database.write() as connection:
        connection.queue((insert(THINGS), {"number": 1}), (insert(THINGS), {"number": 2}))
        assert await connection.scalar(select(func.count()).select_from(THINGS)) == 2
        connection.queue((delete(THINGS).where(THINGS.c.number == 1), {}))
    assert await numbers(database) == [2]
    with pytest.raises(Conflict):
        await add_again()
    assert await numbers(database) == [2]


async def test_what_goes_together_takes_one_round_trip(
    database: PipelineDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[int] = []
    send = Connection.send

    async def note(self: Connection, messages: list[Message], **options: Any) -> Any:
        trips.append(len(messages))
        return await send(self, messages, **options)

    monkeypatch.setattr(Connection, "send", note)
    by_number = select(THINGS.c.number).where(THINGS.c.number == bindparam("wanted"))
    async with database.write() as connection:
        await execute_together(connection, *((insert(THINGS), {"number": n}) for n in (1, 2)))
        found = await read_together(connection, *((by_number, {"wanted": n}) for n in (2, 9)))
        assert [result.scalar_one_or_none() for result in found] == [2, None]
        await execute_together(connection, (delete(THINGS), {}))
    assert trips == [len(["begin", 1, 2, 2, 9]), len(["delete", "commit"])]
    async with database.read() as reader:
        await read_together(reader, *((by_number, {"wanted": n}) for n in (1, 2)))
    assert trips[2:] == [2]


async def test_a_transaction_in_which_nothing_is_done_is_not_begun(
    database: PipelineDatabase, server: Server
) -> None:
    async with database.write():
        assert server.backends("idle in%") == 0


@pytest.mark.usefixtures("authenticator")
@pytest.mark.parametrize("how", ["ends", "raises", "fails"])
async def test_what_is_undone_is_undone_however_its_block_ends(
    database: PipelineDatabase, server: Server, role: str, how: str
) -> None:
    server.execute("grant all on things to public")
    claims = "coalesce(current_setting('request.jwt.claims', true), '')"
    who = text(f"SELECT current_user || {claims}")
    async with database.write() as connection:
        await add(connection, 1)
        before = await connection.scalar(who)
        try:
            async with connection.undone():
                await connection.impersonate(Impersonation(role, "{}"))
                assert await connection.scalar(who) == f"{role}{{}}"
                await add(connection, 2)
                if how == "raises":
                    raise LookupError
                if how == "fails":
                    await add(connection, 1)
        except (LookupError, psycopg.Error):
            assert how != "ends"
        assert await connection.scalar(who) == before
        await add(connection, 3)
    assert await numbers(database) == [1, 3]


async def test_what_is_undone_in_a_block_that_is_undone_leaves_nothing_of_either(
    database: PipelineDatabase,
) -> None:
    async with database.write() as connection:
        await add(connection, 1)
        async with connection.undone():
            await add(connection, 2)
            async with connection.undone():
                await add(connection, 3)
            await add(connection, 4)
        await add(connection, 5)
    assert await numbers(database) == [1, 5]


@pytest.mark.usefixtures("authenticator")
async def test_a_role_ends_with_its_transaction(database: PipelineDatabase, role: str) -> None:
    who = text("SELECT current_user, current_setting('request.jwt.claims', true)")
    async with database.read() as reader:
        before = (await reader.execute(who)).one()
        for end in (None, LookupError):
            try:
                async with database.write() as connection:
                    await connection.impersonate(Impersonation(role, "{}"))
                    assert tuple((await connection.execute(who)).one()) == (role, "{}")
                    if end is not None:
                        raise end
            except LookupError:
                pass
            after = (await reader.execute(who)).one()
            assert (after[0], after[1] or None) == tuple(before)


@pytest.mark.usefixtures("authenticator")
async def test_nobody_is_impersonated_whom_authenticator_may_not(
    database: PipelineDatabase,
) -> None:
    async with database.read() as reader:
        owner = await reader.scalar(text("SELECT current_user"))
    for name in (owner, "none", "nobody", "pg_read_all_data"):
        with pytest.raises(RoleNotAllowed, match=f'role "{name}" does not exist'):
            async with database.write() as connection:
                await connection.impersonate(Impersonation(name, "{}"))


async def test_a_statement_goes_on_after_the_schema_has_changed(
    database: PipelineDatabase, server: Server
) -> None:
    """It was prepared with types that its columns no longer have."""

    async def change(number: int) -> str | None:
        async with database.write() as connection:
            added = await connection.execute(
                insert(THINGS).values(number=number, name="a").returning(THINGS.c.name)
            )
            name: str | None = added.scalar_one()
            return name

    await change(1)
    server.execute("alter table things alter name type varchar(9)")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        await change(2)
    assert await change(3) == "a"
    assert await numbers(database) == [1, 3]


async def test_a_function_with_arguments_of_other_types_is_found_in_the_place_of_another(
    database: PipelineDatabase, server: Server
) -> None:
    statement = text("SELECT twice(:value)").bindparams(bindparam("value", type_=NULLTYPE))

    async def twice() -> Any:
        async with database.write() as connection:
            return await connection.scalar(statement, {"value": "4"})

    create = "create function twice({0}) returns {0} language sql as 'select {1}'"
    server.execute(create.format("integer", "2 * $1"))
    assert await twice() == 8
    server.execute("drop function twice")
    server.execute(create.format("text", "$1 || $1"))
    with pytest.raises(InvalidValue):
        await twice()
    assert await twice() == "44"
    server.execute("drop function twice")
