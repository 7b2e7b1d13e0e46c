"""Readers, triggers and rights of the outbox, where there is no logical replication."""

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from tests.gateway.realtime.outbox import ITEMS, LAST, opened, realtime_url, run

from amphibase.gateway.realtime.context import PUBLICATIONS
from amphibase.gateway.setup import remove_unused_triggers
from amphibase.replication import outbox, outbox_stream
from amphibase.replication.change import RowChange
from amphibase.replication.change_source import StreamFailed
from amphibase.replication.outbox_stream import OutboxStream

pytestmark = pytest.mark.usefixtures("nothing_left")

TRIGGERS = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%realtime_outbox'"


async def query(url: str, statement: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return [row[0] for row in await (await connection.execute(statement.encode())).fetchall()]


async def kill_reader(database: str) -> None:
    """Let a reader end without a word, some time ago."""
    stream = await OutboxStream.open(realtime_url(database), PUBLICATIONS)
    await stream._connection.close()
    await run(
        database,
        "UPDATE realtime.outbox_readers SET expires_at = now()",
        "SELECT setval('realtime.outbox_lease', 0)",
    )


async def check(stream: OutboxStream, database: str) -> None:
    """What the feed does every few seconds."""
    async with await outbox.open_connection(realtime_url(database)) as connection:
        await stream.check(connection)


async def ids(stream: OutboxStream, count: int) -> list[int]:
    """The ids of the next rows."""
    changes: list[RowChange] = []
    async with asyncio.timeout(60):
        while len(changes) < count:
            changes += await stream.read()
    return [int(str((each.new or each.old or {})["id"])) for each in changes]


async def test_a_transaction_that_commits_late_is_read_when_it_has(database: str) -> None:
    await run(database, *ITEMS)
    async with opened(database) as stream, AsyncExitStack() as stack:
        late, later = [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(database))
            for _ in range(2)
        ]
        await late.execute("INSERT INTO shop.items VALUES (1)")
        await later.execute("INSERT INTO shop.items VALUES (2)")
        await run(database, "INSERT INTO shop.items VALUES (3)")
        assert await ids(stream, 1) == [3]
        await check(stream, database)  # deletes what was read
        await late.commit()
        assert await ids(stream, 1) == [1]
        await run(database, "INSERT INTO shop.items VALUES (4)")
        await later.commit()
        assert sorted(await ids(stream, 2)) == [2, 4]
        await run(database, "INSERT INTO shop.items VALUES (5)")
        assert await ids(stream, 1) == [5]
        await check(stream, database)
        assert await query(database, "SELECT count(*) FROM realtime.outbox") == [1]


async def test_a_large_transaction_is_read_in_parts_and_in_order(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_stream, "MAX_CHANGES", 7)
    await run(database, *ITEMS)
    async with opened(database) as stream:
        await run(database, "INSERT INTO shop.items SELECT generate_series(1, 100)")
        parts = [await stream.read() for _ in range(15)]
        assert [len(part) for part in parts] == [7] * 14 + [2]
        assert [(each.new or {})["id"] for part in parts for each in part] == [
            str(number) for number in range(1, 101)
        ]


async def test_triggers_are_there_while_a_gateway_reads(database: str) -> None:
    await run(database, *ITEMS)
    assert await query(database, TRIGGERS) == []
    async with opened(database) as last:
        async with opened(database) as first:
            await run(database, "INSERT INTO shop.items VALUES (1)")
            assert await ids(first, 1) == [1]
            await check(first, database)
        assert "shop.items" in await query(database, TRIGGERS)
        assert await ids(last, 1) == [1]
    assert await query(database, TRIGGERS) == []
    assert await query(database, "SELECT count(*) FROM realtime.outbox") == [0]


@pytest.mark.parametrize("dropped", ["TABLE realtime.outbox", "SEQUENCE realtime.outbox_lease"])
async def test_whoever_drops_the_outbox_does_not_stop_those_who_write(
    database: str, dropped: str
) -> None:
    await run(database, *ITEMS)
    async with opened(database):
        with psycopg.connect(database) as connection:
            connection.execute(f"DROP {dropped}".encode())
            connection.execute("INSERT INTO shop.items VALUES (1)")
            connection.rollback()


async def test_triggers_that_a_killed_gateway_has_left_write_nothing_and_are_removed(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "amphibase.gateway")
    await run(database, *ITEMS)
    await kill_reader(database)
    await run(database, "INSERT INTO shop.items VALUES (1)")
    assert await query(database, "SELECT count(*) FROM realtime.outbox") == [0]
    await remove_unused_triggers(realtime_url(database))  # at its start
    assert await query(database, TRIGGERS) == []
    (message,) = caplog.messages
    assert message.startswith("Removed the triggers of Realtime on ")
    assert "shop.items" in message


async def test_a_transaction_that_began_while_nobody_read_delays_the_next_reader(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its changes were not written, although the trigger was there."""
    monkeypatch.setattr(outbox, "OPEN_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "CLOSE_SECONDS", 0.0)
    await run(database, *ITEMS)
    await kill_reader(database)
    async with await psycopg.AsyncConnection.connect(database) as writer:
        await writer.execute("INSERT INTO shop.items VALUES (1)")
        with pytest.raises(StreamFailed, match="items is locked by a transaction"):
            await OutboxStream.open(realtime_url(database), PUBLICATIONS)
        await writer.commit()
        await writer.execute("SET default_transaction_isolation = 'repeatable read'")
        await writer.commit()
        await writer.execute("SELECT")  # its snapshot does not see the reader
        async with opened(database) as stream:
            await writer.execute("INSERT INTO shop.items VALUES (2)")
            await writer.commit()
            assert await ids(stream, 1) == [2]


async def test_a_reader_whose_lease_has_expired_says_so(database: str) -> None:
    await run(database, *ITEMS)
    async with opened(database) as stream:
        await run(database, "UPDATE realtime.outbox_readers SET expires_at = now()")
        with pytest.raises(StreamFailed, match="changes may be missing"):
            await check(stream, database)
        await run(database, "INSERT INTO shop.items VALUES (1)")
        with pytest.raises(StreamFailed, match="changes may be missing"):
            await stream.read()


async def test_whoever_writes_waits_for_a_trigger_no_longer_than_its_lock_may(
    database: str,
) -> None:
    await run(database, *ITEMS)
    async with await psycopg.AsyncConnection.connect(database) as writer:
        await writer.execute("INSERT INTO shop.items VALUES (1)")
        opening = asyncio.create_task(OutboxStream.open(realtime_url(database), PUBLICATIONS))
        for number in range(2, 10):  # behind the trigger, which waits for the first
            await run(
                database, f"SET lock_timeout = '10s'; INSERT INTO shop.items VALUES ({number})"
            )
            await asyncio.sleep(0.2)
        assert not opening.done()
        await writer.commit()
        stream = await opening
        await run(database, "INSERT INTO shop.items VALUES (10)")
        assert await ids(stream, 1) == [10]
        await stream.close()


async def test_a_table_that_cannot_have_a_trigger_is_named(database: str) -> None:
    await run(
        database,
        *ITEMS,
        # As the owner of what a project consists of who is no superuser any more.
        "ALTER FUNCTION realtime.update_outbox_trigger OWNER TO supabase_realtime_admin",
    )
    try:
        with pytest.raises(StreamFailed) as failed:
            await OutboxStream.open(realtime_url(database), PUBLICATIONS)
    finally:
        await run(
            database,
            "ALTER FUNCTION realtime.update_outbox_trigger OWNER TO CURRENT_USER",
            "GRANT EXECUTE ON FUNCTION realtime.update_outbox_trigger TO supabase_realtime_admin",
        )
    tables = r"(realtime.messages_default|shop.items)"
    assert re.match(
        f"the trigger of {tables} cannot be altered: permission denied", str(failed.value)
    )


FORBIDDEN = (
    "SELECT FROM realtime.outbox",
    "INSERT INTO realtime.outbox (relation, operation) VALUES ('{}', 'INSERT')",
    "SELECT FROM realtime.outbox_readers",
    "DELETE FROM realtime.outbox_readers",
    "SELECT last_value FROM realtime.outbox_lease",
    "SELECT setval('realtime.outbox_lease', 9999999999)",
    "SELECT nextval('realtime.outbox_lease')",
    "SELECT realtime.outbox_is_read()",
    "SELECT FROM realtime.outbox_triggers(NULL)",
    "SELECT realtime.update_outbox_trigger('shop.items')",
    "CREATE TRIGGER forged AFTER INSERT ON own FOR EACH ROW"
    " EXECUTE FUNCTION realtime.write_to_outbox('{}')",
)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
async def test_a_role_of_the_api_can_neither_read_the_outbox_nor_write_to_it(
    database: str, role: str
) -> None:
    await run(database, *ITEMS)
    connecting = psycopg.AsyncConnection.connect(database, autocommit=True)
    async with await connecting as connection:
        await connection.execute(f"SET ROLE {role}".encode())
        await connection.execute("CREATE TEMPORARY TABLE own (id int)")
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(statement.encode())


async def test_no_object_of_a_writer_takes_the_place_of_what_the_trigger_calls(
    database: str,
) -> None:
    """It runs as the owner of the outbox, and finds nothing by the writer's search path."""
    await run(database, *ITEMS, "CREATE SCHEMA trap", "GRANT ALL ON SCHEMA trap TO PUBLIC")
    trapped = (
        "CREATE FUNCTION trap.{}({}) RETURNS {} LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'as %', current_user; END $$"
    )
    try:
        async with opened(database) as stream:
            await run(
                database,
                "GRANT INSERT ON shop.items TO anon; SET ROLE anon;"
                + trapped.format("pg_sequence_last_value", "regclass", "bigint") + ";"
                + trapped.format("clock_timestamp", "", "timestamptz") + ";"
                + trapped.format("less", "bigint, numeric", "bool") + ";"
                "CREATE OPERATOR trap.<= (function = trap.less, leftarg = bigint,"
                " rightarg = numeric);"
                "CREATE TEMPORARY TABLE outbox (id int); CREATE DOMAIN pg_temp.text AS int;"
                "SET search_path = trap, pg_temp, pg_catalog; INSERT INTO shop.items VALUES (1)",
            )  # fmt: skip
            assert await ids(stream, 1) == [1]
    finally:
        await run(database, "DROP SCHEMA trap CASCADE")


async def test_the_trigger_calls_no_cast_of_the_owner_of_a_table(database: str) -> None:
    """It would run as the owner of the outbox, which may become every role of the API."""
    cast = (
        "CREATE FUNCTION shop.as_text(shop.items) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'as %', current_user; END $$",
        "CREATE CAST (shop.items AS text) WITH FUNCTION shop.as_text AS IMPLICIT",
    )
    await run(database, *ITEMS, *cast)
    async with opened(database) as stream:
        await run(
            database,
            "INSERT INTO shop.items VALUES (1); UPDATE shop.items SET n = 2;"
            " DELETE FROM shop.items",
        )
        assert await ids(stream, 3) == [1, 1, 1]


async def test_the_lease_is_renewed_while_triggers_are_created(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is written between its end and the reader's first renewal would be lost."""
    monkeypatch.setattr(outbox, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(
        outbox, "_RENEW", outbox._RENEW.replace("SELECT", "SELECT nextval('shop.renewals'),")
    )
    await run(
        database,
        *ITEMS,
        *LAST,
        "CREATE SEQUENCE shop.renewals",
        "GRANT USAGE ON SCHEMA shop TO supabase_realtime_admin; "
        "ALTER SEQUENCE shop.renewals OWNER TO supabase_realtime_admin",
    )
    async with opened(database):
        (triggers,) = await query(database, f"SELECT count(*) FROM ({TRIGGERS}) AS t")
        assert await query(database, "SELECT last_value FROM shop.renewals") == [1 + triggers]


async def test_creating_triggers_runs_no_event_trigger(database: str) -> None:
    """Neither the outbox's own nor the one that lets the Data API read its schema anew."""
    await run(database, *ITEMS)
    connecting = psycopg.AsyncConnection.connect(database, autocommit=True)
    async with await connecting as connection:
        await connection.execute("LISTEN pgrst")
        async with opened(database):
            assert "shop.items" in await query(database, TRIGGERS)
        assert [each async for each in connection.notifies(timeout=0)] == []
