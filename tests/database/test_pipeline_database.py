"""A database that SQLAlchemy's statements reach over libpq's pipeline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.exc import InvalidRequestError, NoResultFound
from sqlalchemy.types import NULLTYPE
from tests.database.pools import Server

from amphibase.database.compiled_call import CallCache
from amphibase.database.connection import Connection, Message
from amphibase.database.engine import Database
from amphibase.database.impersonation import Impersonation, RoleNotAllowed
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.sql_connection import SqlConnection, SqlDatabase
from amphibase.database.together import execute_together, read_together
from amphibase.errors import Conflict, ForeignKeyViolation, InvalidValue, NotFound, Unavailable
from amphibase.models import UtcDateTime, uuid7

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", Uuid(), primary_key=True, default=uuid7),
    Column("number", Integer, unique=True),
    Column("name", Text),
    Column("is_old", Boolean),
    Column("price", Numeric(10, 2)),
    Column("content", LargeBinary),
    Column("labels", ARRAY(Text)),
    Column("data", JSONB),
    Column("ip", INET),
    Column("made_at", UtcDateTime()),
)
PARTS = Table(
    "parts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("thing", ForeignKey(THINGS.c.id, deferrable=True, initially="DEFERRED")),
)
VALUES: dict[str, Any] = {
    "id": UUID(int=7),
    "number": 7,
    "name": "naïve ☃ '%s' :x $1 \\",
    "is_old": True,
    "price": 12,
    "content": bytes(range(256)),
    "labels": ["a,b", '"', ""],
    "data": {"a": [1, None, "ü"], "b": {"c": 1.5}},
    "ip": "10.0.0.1",
    "made_at": datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=9))),
}
MakeDatabase = Callable[..., PipelineDatabase]


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


async def numbers(database: SqlDatabase) -> list[int]:
    async with database.read() as connection:
        return [*await connection.scalars(select(THINGS.c.number).order_by(THINGS.c.number))]


async def add(connection: SqlConnection, *numbers: int) -> None:
    for number in numbers:
        await connection.execute(insert(THINGS), {"number": number})


# Values and results


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


# Transactions


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


# Connections


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
